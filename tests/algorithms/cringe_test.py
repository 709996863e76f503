import dataclasses

import algorithm_laws as laws
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import partitioning
from dap.checkpoints import load
from dap.errors import InputError

RUN = laws.run_of('cringe')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('cringe'))


def test_cringe_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(2, 5))


def test_one_program_serves_a_grid_of_cringe(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, rival_weight=weight)
    for rate, weight in ((1e-3, 1.0), (1e-2, 0.3))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_cringe_learns_from_pairs(done):
  batch = tiny.on_device(laws.PAIRS.batch(np.arange(64)))
  batch = batch._replace(
    columns={'desirable': jnp.zeros((64, 2)).at[:, 0].set(1.0)}
  )
  numbers = RUN.algorithm.loss.numbers
  loss = lambda params: jnp.mean(RUN.objective(params, batch, numbers).each)
  assert loss(done.learner.params) < loss(laws.POLICY)
  for line in laws.lines(done):
    assert line['loss'] == pytest.approx(
      line['likelihood_loss'] + numbers['rival_weight'] * line['rival_loss'],
      rel=1e-5,
    )


def test_a_checkpoint_is_one_of_the_policy(done):
  read = load.load_params(tiny.POLICY, done.folder, partitioning.mesh((1, 1)))
  assert laws.same(read, done.learner.params)


def test_cringe_needs_rivals():
  with pytest.raises(InputError, match='rivals: gin/models/rivals.gin'):
    dataclasses.replace(RUN, model=tiny.POLICY)
