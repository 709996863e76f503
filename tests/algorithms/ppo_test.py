import dataclasses

import algorithm_laws as laws
import jax
import numpy as np
import pytest
import tiny

from dap import errors, partitioning
from dap.checkpoints import load
from dap.training import stacks

RUN = laws.run_of('ppo', EPOCHS=2, MINIBATCHES=2, REFERENCE_RATE=0.5)
# One update a step, of all rows.
SINGLE = laws.run_of('ppo', EPOCHS=1, MINIBATCHES=1)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('ppo'))


@pytest.fixture(scope='module')
def single(tmp_path_factory):
  return laws.done(SINGLE, tmp_path_factory.mktemp('single'))


def test_ppo_repeats(done, tmp_path):
  laws.repeats(done, tmp_path)


def test_ppo_survives_kills_between_minibatches(done, tmp_path):
  # Four updates a step, a checkpoint after 4 steps: within steps 1, 4 and 7.
  laws.survives_kills(done, tmp_path, kills=(6, 18, 13))


def test_one_program_serves_a_grid_of_ppo(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, clip=clip, value_weight=weight)
    for rate, clip, weight in ((1e-3, 0.2, 0.1), (1e-2, 0.1, 0.5))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_the_stream_of_ppo_repeats_all_of_its_passes(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_a_stack_of_ppo_is_its_single_runs_to_rounding(tmp_path):
  run = dataclasses.replace(RUN, num_steps=4, save_steps=())
  runs = {
    'a': laws.numbers_of(run, 1e-3),
    'b': laws.numbers_of(run, 2e-3, clip=0.1, value_weight=0.5),
  }
  stack = stacks.fit(runs, laws.PAIRS, laws.PARAMS, tmp_path / 'stack')
  for index, (name, run) in enumerate(runs.items()):
    alone = laws.fit(run, tmp_path / name)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
      stacks.member(stack, index).params,
      alone.params,
    )


def test_the_first_update_of_a_step_clips_nothing(single):
  for line in laws.lines(single):
    assert line['policy_loss'] == pytest.approx(0, abs=1e-5)  # whitened
    assert line['clip_fraction'] == 0
    assert line['behaviour_kl'] == pytest.approx(0, abs=1e-7)
    loss = line['policy_loss'] + 0.1 * line['value_loss']
    assert line['loss'] == pytest.approx(loss, abs=1e-5)


def test_later_updates_of_a_step_leave_the_policy_that_sampled(done):
  assert all(line['behaviour_kl'] > 1e-8 for line in laws.lines(done))


def test_the_score_is_a_mean_over_responses_not_over_tokens(single):
  rows = laws.rows(single)
  lengths = np.sum(rows['mask'], axis=(1, 2))
  for step, line in enumerate(laws.lines(single)):
    here = rows['step'] == step
    score = np.mean(rows['scores'][here])
    assert line['score'] == pytest.approx(score, abs=1e-5)
    assert line['response_length'] == pytest.approx(np.mean(lengths[here]))


def test_values_start_at_0_and_advantages_are_whitened(done):
  rows = laws.rows(done)
  values = rows['columns/values_before']
  assert not np.any(values[rows['step'] == 0])
  assert np.any(values[rows['step'] == 7])
  for step in range(8):
    real = (rows['step'] == step)[:, None, None] & (rows['mask'] > 0)
    white = rows['columns/advantages'][real]
    assert np.mean(white) == pytest.approx(0, abs=1e-5)
    assert np.var(white, ddof=1) == pytest.approx(1, abs=1e-2)


def test_the_reference_follows_the_policy(done):
  def moved(step):
    here = rows['step'] == step
    mask = rows['mask'][here]
    ratio = rows['columns/behaviour'] - rows['columns/reference']
    return np.sum(np.abs(ratio[here])) / np.sum(mask)

  rows = laws.rows(done)
  assert moved(0) < 1e-5  # sampling and scoring differ in rounding
  first, *_, last = (moved(step) for step in range(1, 8))
  # Half of the way each step, while the rate grows sevenfold; one that stayed
  # would be 28 times as far.
  assert first > 1e-4 and last < 10 * first


def test_a_checkpoint_of_ppo_is_one_of_its_policy(done):
  mesh = partitioning.mesh((1, 1))
  read = load.load_params(tiny.POLICY, done.folder, mesh)
  assert laws.same(read, done.learner.params['policy'])
  assert not laws.same(read, laws.POLICY)


def test_ppo_needs_a_critic():
  with pytest.raises(errors.InputError, match='actor_critic.gin'):
    dataclasses.replace(RUN, model=tiny.POLICY)


def test_minibatches_must_be_of_one_size():
  with pytest.raises(errors.InputError, match='32 examples .* 3 minibatches'):
    laws.run_of('ppo', MINIBATCHES=3)


def test_plain_ppo_has_its_advantages_as_they_are_estimated(tmp_path):
  run = laws.run_of('ppo_plain', EPOCHS=1, MINIBATCHES=1)
  done = laws.done(
    dataclasses.replace(run, num_steps=2, save_steps=()), tmp_path
  )
  rows = laws.rows(done)
  np.testing.assert_array_equal(rows['columns/advantages'], rows['columns/gae'])


def test_scores_may_be_whitened_before_they_are_rewards(tmp_path):
  run = laws.run_of('ppo', EPOCHS=1, MINIBATCHES=1, KL_WEIGHT=0.0)
  run = dataclasses.replace(run, num_steps=1, save_steps=())
  rows = laws.rows(laws.done(run, tmp_path))
  rewards = np.sum(rows['columns/token_rewards'], axis=(1, 2))
  assert np.mean(rewards) == pytest.approx(0, abs=1e-5)
  assert np.std(rewards) == pytest.approx(1, abs=1e-4)
