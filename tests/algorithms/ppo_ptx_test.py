import dataclasses

import algorithm_laws as laws
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap.algorithms import rewards, signals, views
from dap.records import Batch, Prompts, Responses, RoleParams

RUN = laws.run_of('ppo_ptx', EPOCHS=2, MINIBATCHES=2)
SINGLE = laws.run_of('ppo_ptx', EPOCHS=1, MINIBATCHES=1)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('ppo_ptx'))


def test_ppo_ptx_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(6,))


def test_the_stream_of_ppo_ptx_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_one_program_serves_a_grid_of_ppo_ptx(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, data_weight=number)
    for rate, number in ((1e-3, 1.0), (1e-2, 0.1))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_the_data_stand_before_the_samples(done):
  laws.data_stand_first(done)


def test_samples_alone_are_whitened(done):
  rows = laws.rows(done)
  white, mask = rows['columns/advantages'], rows['mask']
  assert not np.any(white[:, 0])
  for step in range(8):
    real = (rows['step'] == step)[:, None] & (mask[:, 1] > 0)
    assert np.mean(white[:, 1][real]) == pytest.approx(0, abs=1e-5)
    assert np.var(white[:, 1][real], ddof=1) == pytest.approx(1, abs=1e-4)


def test_metrics_are_those_of_the_samples(tmp_path):
  done = laws.done(SINGLE, tmp_path)
  rows, lines = laws.rows(done), laws.lines(done)
  for step, line in enumerate(lines):
    here = rows['step'] == step
    score = np.mean(rows['scores'][here][:, 1])
    assert line['score'] == pytest.approx(score, abs=1e-5)
    assert line['policy_loss'] == pytest.approx(0, abs=1e-5)  # whitened
    assert line['clip_fraction'] == 0
  # At first the loss of the data is what the start thinks of them, per token.
  assert lines[0]['data_loss'] > 1


def losses_of(view, n=3, length=4):
  """A loss, per response its number of tokens times its first column."""
  key = jax.random.key(0)
  mask = jnp.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], float)[None]
  tokens = jnp.ones((1, n, length), int)
  batch = Batch(
    Prompts(jnp.zeros(1, int), jnp.ones((1, 2), int)),
    Responses(tokens, mask, mask),
    jnp.array([[5.0, 1.0, 3.0]]),
    jnp.ones(1),
    {},
  )
  seen = {'mask': mask, 'x': jax.random.normal(key, (1, n, length))}

  def loss(given):
    each = jnp.sum(given['mask'] * given['x'], axis=-1)
    return each, {'found': given['x'][:, 0]}

  return view(loss, seen, batch)


def mean(found, name=None):
  values = found.metrics[name] if name else found.each
  return float(jnp.sum(found.weight * values) / jnp.sum(found.weight))


def test_both_parts_are_averaged_together():
  alone = losses_of(views.responses_by_token)
  beside = losses_of(views.BesideData(views.responses_by_token))
  assert mean(beside) == pytest.approx(mean(alone), abs=1e-6)
  assert mean(beside, 'score') == pytest.approx(2.0)  # of 1 and 3
  assert mean(beside, 'response_length') == pytest.approx(2.0)
  data = losses_of(views.responses).each[0] / 2  # of two tokens
  assert mean(beside, 'data_loss') == pytest.approx(float(data), abs=1e-6)


def test_scaled_rewards_have_variance_1_and_their_mean():
  mask = np.array([[[1, 1, 1, 0]], [[1, 1, 0, 0]]], float)
  raw = np.where(mask > 0, np.random.default_rng(0).normal(3, 2, mask.shape), 9)
  batch = Batch(
    Prompts(jnp.zeros(2, int), jnp.ones((2, 2), int)),
    Responses(jnp.ones(mask.shape, int), jnp.asarray(mask), jnp.asarray(mask)),
    jnp.zeros((2, 1)),
    jnp.ones(2),
    {'raw_rewards': jnp.asarray(raw)},
  )
  signal = rewards.WhitenedRewards()
  found = np.asarray(signal(tiny.POLICY, RoleParams(None), batch))
  real = mask > 0
  assert np.mean(found[real]) == pytest.approx(np.mean(raw[real]), abs=1e-5)
  assert np.var(found[real], ddof=1) == pytest.approx(1, abs=1e-5)
  assert not np.any(found[~real])


def test_ppo_may_scale_its_rewards(tmp_path):
  run = laws.run_of('ppo', EPOCHS=1, MINIBATCHES=1)
  first, *others = run.algorithm.signals
  scaled = (
    dataclasses.replace(first, name='raw_rewards'),
    rewards.WhitenedRewards(),
    *others,
  )
  algorithm = dataclasses.replace(run.algorithm, signals=scaled)
  run = dataclasses.replace(
    run, algorithm=algorithm, num_steps=2, save_steps=()
  )
  rows = laws.rows(laws.done(run, tmp_path))
  real = (rows['mask'] > 0) & (rows['step'] == 0)[:, None, None]
  assert np.var(rows['columns/token_rewards'][real], ddof=1) == pytest.approx(
    1, abs=1e-3
  )


def test_scores_beyond_a_limit_count_as_it():
  scores = jnp.array([[30.0, -30.0]])
  mask = jnp.ones((1, 2, 1))
  columns = {
    'behaviour': jnp.zeros((1, 2, 1)),
    'reference': jnp.zeros((1, 2, 1)),
  }
  batch = Batch(
    Prompts(jnp.zeros(1, int), jnp.ones((1, 2), int)),
    Responses(jnp.ones((1, 2, 1), int), mask, mask),
    scores,
    jnp.ones(1),
    columns,
  )
  signal = signals.TokenRewards(score_limit=20.0)
  found = signal(tiny.POLICY, RoleParams(None), batch)
  np.testing.assert_allclose(found[..., 0], [[20.0, -20.0]])
