"""Devices change rounding alone, whatever an algorithm's slots.

Whitening and minibatches are of all rows, a prompt may have several examples,
the data's responses stand beside samples, roles follow the policy.
"""

import dataclasses

import jax
import numpy as np
import pytest
import tiny
import toys

from dap import partitioning, train
from dap.training import stream

NAMES = ['ppo', 'rloo', 'iterative_dpo', 'rso', 'rrhf']
# Adam's own eps makes steps of gradients that are rounding alone.
SMOOTH = dataclasses.replace(tiny.ADAM, eps=1e-2)
PARAMS = train.Params(toys.START, toys.OTHER, toys.WORTH)


def fit(name, folder, shape):
  of_name = toys.of_experiment(name, every=1)
  run = tiny.run(
    of_name.algorithm, of_name.model, optimizer=SMOOTH, num_steps=2
  )
  learnt = train.fit(
    run,
    tiny.pairs(),
    PARAMS,
    folder,
    mesh=partitioning.mesh(shape),
    record_stream=True,
  )
  return jax.device_get(learnt.params), stream.read_rows(folder / 'stream')


@pytest.mark.parametrize('name', NAMES)
def test_meshes_change_rounding_alone(tmp_path, name):
  one, rows = fit(name, tmp_path / 'one', (1, 1))
  way = one.get('policy', one)['table'] - toys.START['table']
  assert np.max(np.abs(way)) > 1e-3
  for shape in ((4, 1), (2, 2)):
    many, same = fit(name, tmp_path / str(shape), shape)
    for field in ('prompt', 'responses', 'candidates', 'weight'):
      np.testing.assert_array_equal(same[field], rows[field])
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, many
    )
