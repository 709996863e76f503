import dataclasses

import algorithm_laws as laws
import jax.numpy as jnp
import numpy as np
import pytest

from dap import errors
from dap.algorithms import controls
from dap.records import Batch, Prompts, Responses
from dap.training import stacks

TARGET, HORIZON = 0.01, 40.0
RUN = laws.run_of(
  'ppo_adaptive', EPOCHS=1, MINIBATCHES=1, KL_TARGET=TARGET, KL_HORIZON=HORIZON
)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('ppo_adaptive'))


def test_adaptive_ppo_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(2, 6))


def test_the_stream_of_adaptive_ppo_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_one_program_serves_a_grid_of_adaptive_ppo(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, clip=clip)
    for rate, clip in ((1e-3, 0.2), (1e-2, 0.1))
  ]
  laws.one_program_serves(runs, tmp_path)


def batch_of(kl, n):
  """Responses of one token whose log-ratio is the KL."""
  tokens = jnp.ones((n, 1, 1), int)
  ones = jnp.ones((n, 1, 1))
  return Batch(
    Prompts(jnp.zeros(n, int), jnp.ones((n, 2), int)),
    Responses(tokens, ones, ones),
    jnp.zeros((n, 1)),
    jnp.ones(n),
    {'behaviour': ones * kl, 'reference': ones * 0},
  )


def test_the_worked_weight():
  # .15 (1 + clip(9 / 6 - 1, -.2, .2) 512 / 10,000)
  control = controls.AdaptiveKl(initial=0.15, target=6.0)
  found = control(control.start(), batch_of(9.0, 512))
  assert float(found['kl_weight']) == pytest.approx(0.151536, abs=1e-6)
  still = control(control.start(), batch_of(6.0, 512))
  assert float(still['kl_weight']) == pytest.approx(0.15)
  less = control(control.start(), batch_of(0.0, 512))
  assert float(less['kl_weight']) == pytest.approx(0.15 * (1 - 0.2 * 0.0512))


def test_the_weight_of_a_step_follows_the_steps_before(done):
  rows, lines = laws.rows(done), laws.lines(done)
  weight = 0.1
  for step, line in enumerate(lines):
    here = rows['step'] == step
    mask = rows['mask'][here]
    ratio = rows['columns/behaviour'] - rows['columns/reference']
    ratio = np.where(mask > 0, ratio[here], 0)
    # The penalty of this step is under the weight before it.
    last = np.cumsum(mask, -1) == np.sum(mask, -1, keepdims=True)
    inner = (mask > 0) & ~last
    rewards = rows['columns/token_rewards'][here]
    np.testing.assert_allclose(
      rewards[inner], -weight * ratio[inner], atol=1e-5
    )
    kl = np.mean(np.sum(ratio, axis=-1))
    error = np.clip(kl / TARGET - 1, -0.2, 0.2)
    weight *= 1 + error * len(mask) / HORIZON
    assert line['kl_weight'] == pytest.approx(weight, rel=1e-3)


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'control': None}, 'has none. Bind Algorithm.control'),
    ({'signals': ()}, 'nobody computes|no such signal'),
  ],
)
def test_control_and_the_signal_that_reads_it_come_together(changes, words):
  with pytest.raises(errors.InputError, match=words):
    dataclasses.replace(RUN.algorithm, **changes)


def test_a_group_has_no_control():
  with pytest.raises(errors.InputError, match='one by one'):
    stacks.check({'a': RUN})


def test_a_kl_is_needed_to_follow_it():
  control = controls.AdaptiveKl(initial=0.1, target=1.0)
  batch = batch_of(1.0, 2)._replace(columns={})
  with pytest.raises(errors.InputError, match='reads the column behaviour'):
    control(control.start(), batch)
  with pytest.raises(errors.InputError, match='target'):
    controls.AdaptiveKl(initial=0.1, target=0.0)
