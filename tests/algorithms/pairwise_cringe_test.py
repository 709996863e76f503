import algorithm_laws as laws
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import partitioning
from dap.checkpoints import load
from dap.errors import InputError

RUN = laws.run_of('pairwise_cringe', REFRESH_STEPS=3)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('pairwise_cringe'))


def test_pairwise_cringe_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(2, 5))


def test_the_stream_of_pairwise_cringe_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_one_program_serves_a_grid_of_pairwise_cringe(tmp_path):
  runs = [
    laws.numbers_of(
      RUN, rate, gate_shift=shift, gate_temperature=10 * rate, rival_weight=rate
    )
    for rate, shift in ((1e-3, -10.0), (1e-2, 1.0))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_samples_are_those_of_the_last_iteration(done):
  rows = laws.rows(done)
  np.testing.assert_array_equal(rows['policy_step'], rows['step'] // 3 * 3)
  assert {*np.unique(rows['candidates'])} == {0, 1, 2, 3}
  chosen, rejected = rows['scores'][rows['weight'] > 0].T
  assert np.all(chosen > rejected)


def test_a_gate_is_told_beside_the_losses(done):
  for line in laws.lines(done):
    assert 0 < line['gate'] < 1
    assert line['rival_loss'] > 0


def test_a_checkpoint_is_one_of_the_policy(done):
  read = load.load_params(tiny.POLICY, done.folder, partitioning.mesh((1, 1)))
  assert laws.same(read, done.learner.params)


def test_it_needs_pairs():
  batch = tiny.on_device(laws.PAIRS.batch(np.arange(2)))
  three = jax.tree.map(
    lambda x: jnp.concatenate([x, x[:, :1]], axis=1), batch.responses
  )
  batch = batch._replace(responses=three, scores=jnp.zeros((2, 3)))
  with pytest.raises(InputError, match='groups of two responses'):
    RUN.objective(laws.POLICY, batch, RUN.algorithm.loss.numbers)
