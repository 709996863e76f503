"""KTO's anchor, and samples beside data."""

import algorithm_laws as laws
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import train
from dap.algorithms import algorithm, samplers, signals, views
from dap.algorithms.objectives import Loss
from dap.errors import InputError
from dap.losses import kto
from dap.records import RoleParams


def batch_of(count):
  return tiny.on_device(laws.PAIRS.batch(np.arange(count)))


def anchor(params, reference, batch):
  roles = RoleParams(params, reference=reference)
  return signals.MismatchedRatio()(tiny.POLICY, roles, batch)


def test_the_anchor_of_kto_is_a_mean_over_mismatched_pairs():
  batch, other = batch_of(4), tiny.POLICY.init(jax.random.key(7))
  found = anchor(other, laws.POLICY, batch)
  rolled = jnp.roll(batch.responses.tokens, 1, axis=0)
  mask = jnp.roll(batch.responses.mask, 1, axis=0)
  said = [
    tiny.POLICY.log_probs(each, batch.prompts.tokens, rolled)
    for each in (other, laws.POLICY)
  ]
  mean = np.mean(np.sum((said[0] - said[1]) * mask, axis=2))
  np.testing.assert_allclose(found, max(mean, 0.0), rtol=1e-5)
  assert mean != 0
  swapped = anchor(laws.POLICY, other, batch)
  assert min(found[0, 0], swapped[0, 0]) == 0 < max(found[0, 0], swapped[0, 0])


def test_the_policy_that_is_its_reference_has_an_anchor_of_zero():
  np.testing.assert_array_equal(
    anchor(laws.POLICY, laws.POLICY, batch_of(4)), 0
  )


def test_one_example_has_no_mismatched_response():
  with pytest.raises(InputError, match='BATCH_SIZE 1'):
    anchor(laws.POLICY, laws.POLICY, batch_of(1))


def test_kto_learns_from_pairs(tmp_path):
  numbers = {
    'beta': 0.1, 'desirable_weight': 1.0, 'undesirable_weight': 1.0,
  }  # fmt: skip
  given = algorithm.Algorithm(Loss(kto.kto_loss, numbers, views.responses))
  run = tiny.run(given, log_every=1)
  params = train.Params(laws.POLICY, laws.POLICY)
  train.fit(run, laws.PAIRS, params, tmp_path)
  lines = laws.lines(laws.Done(run, tmp_path, None))
  assert lines[0]['loss'] == pytest.approx(0.5, abs=1e-6)
  assert lines[0]['desirable'] == pytest.approx(0.5)
  assert lines[-1]['loss'] < 0.499


def test_sides_that_are_none_are_refused():
  with pytest.raises(InputError, match='sides of samplers.BesideData'):
    samplers.BesideData(samplers.FromPolicy(tiny.LENGTH), (2,))


def test_data_of_another_length_are_refused():
  sampler = samplers.BesideData(samplers.FromPolicy(tiny.LENGTH + 1))
  prompts = batch_of(2).prompts._replace(answers=batch_of(2).responses)
  keys = jax.random.split(jax.random.key(0), 2)
  with pytest.raises(InputError, match='Bind RESPONSE_LENGTH'):
    sampler(tiny.POLICY, laws.POLICY, prompts, keys)
