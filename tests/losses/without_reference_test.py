"""SLiC-HF, SimPO, ORPO: losses of a pair that read no reference; and KTO."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dap.algorithms import objectives
from dap.errors import InputError
from dap.losses import kto, orpo, simpo, slic
from dap.records import Pair

# The worked pair of pairwise_test: sums -1.8 and -2.0, means -.6 and -1.
POLICY = Pair([[-0.5, -1.0, -0.3]], [[-1.2, -0.8, -9.9]])
MASK = Pair([[1.0, 1.0, 1.0]], [[1.0, 1.0, 0.0]])
SLIC = {'margin': 1.0, 'likelihood_weight': 0.1}
SIMPO = {'beta': 2.0, 'margin': 0.5}
KTO = {'beta': 0.1, 'desirable_weight': 1.0, 'undesirable_weight': 1.0}
LOSSES = {
  'slic': lambda *given: slic.slic_loss(*given, **SLIC)[0],
  'simpo': lambda *given: simpo.simpo_loss(*given, **SIMPO),
  'orpo': lambda *given: orpo.orpo_loss(*given, odds_weight=0.1)[0],
}
each_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


def arrays(tree):
  return Pair(*(jnp.asarray(side) for side in tree))


def of_kto(ratios, desirable, anchor=0.2, **numbers):
  """Of responses of one token."""
  column = jnp.asarray(ratios)[:, None]
  given = (column, jnp.zeros_like(column), jnp.ones_like(column))
  wanted = jnp.asarray(desirable)
  anchors = jnp.full_like(wanted, anchor)
  return kto.kto_loss(*given, wanted, anchors, **{**KTO, **numbers})[0]


def test_weights_of_kto_are_of_wanted_and_of_others():
  found = of_kto(
    [0.5, -0.4], [1.0, 0.0], desirable_weight=2.0, undesirable_weight=0.0
  )
  np.testing.assert_allclose(found, [2 * 0.492501, 0], atol=1e-6)


def test_kto_raises_the_wanted_and_lowers_the_others():
  total = lambda ratios: jnp.sum(of_kto(ratios, [1.0, 0.0]))
  up, down = jax.grad(total)(jnp.array([0.0, 0.0]))
  assert up < 0 < down


def test_no_gradient_reaches_the_anchor_of_kto():
  def loss(anchor):
    return jnp.sum(of_kto([0.5, -0.4], [1.0, 0.0], anchor))

  assert jax.grad(loss)(jnp.asarray(0.2)) == 0


@each_loss
def test_padding_moves_no_loss_without_reference(loss):
  policy = arrays(POLICY)
  junk = policy._replace(rejected=policy.rejected.at[0, 2].set(jnp.nan))
  value = lambda sides: loss(sides, arrays(MASK))[0]
  assert value(policy) == value(junk)
  assert jax.grad(value)(junk).rejected[0, 2] == 0


@each_loss
def test_gradients_are_those_of_finite_differences(loss):
  check_grads(
    lambda sides: loss(arrays(sides), arrays(MASK)), (arrays(POLICY),), order=1
  )


@each_loss
@pytest.mark.parametrize('log_prob', [-1e4, -1e-30, 0.0])
def test_it_is_finite_at_the_ends_of_probability(loss, log_prob):
  policy = Pair(*(jnp.full_like(side, log_prob) for side in arrays(POLICY)))
  value = lambda sides: loss(sides, arrays(MASK))[0]
  each, grads = jax.value_and_grad(value)(policy)
  assert np.isfinite(each)
  assert all(np.all(np.isfinite(side)) for side in grads)


def test_none_of_them_reads_a_reference():
  for function in (slic.slic_loss, simpo.simpo_loss, orpo.orpo_loss):
    assert objectives.reads(function) == ('policy', 'mask')


@pytest.mark.parametrize(
  ('function', 'numbers', 'says'),
  [
    (slic.slic_loss, {'margin': 1.0}, 'likelihood_weight'),
    (simpo.simpo_loss, {**SIMPO, 'beta': 0.0}, 'beta of simpo_loss .* > 0'),
    (orpo.orpo_loss, {'odds_weight': -0.1}, 'odds_weight .* >= 0'),
    (kto.kto_loss, {**KTO, 'beta': -1.0}, 'beta of kto_loss .* > 0'),
  ],
)
def test_numbers_that_lack_or_lie_outside_are_refused(function, numbers, says):
  with pytest.raises(InputError, match=says):
    objectives.Loss(function, numbers)
