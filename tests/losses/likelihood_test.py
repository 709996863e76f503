"""Losses of the policy's likelihood alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dap import losses
from dap.records import Pair

POLICY = Pair([[-0.5, -1.0, -0.3]], [[-1.2, -0.8, -9.9]])
MASK = Pair([[1.0, 1.0, 1.0]], [[1.0, 1.0, 0.0]])
PREFERENCES = [
  losses.best_of_two_loss,
  losses.mean_best_of_two_loss,
  lambda *pairs: losses.likelihood_hinge_loss(*pairs, beta=0.05),
]


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


def arrays(tree):
  return Pair(*(jnp.asarray(side) for side in tree))


def on_pair(loss, **scalars):
  policy = arrays(POLICY)
  return loss(policy, arrays(MASK), **scalars)


def test_the_worked_pair_gives_the_worked_losses():
  # .5 + 1 + .3 = 1.8 against 1.2 + .8 = 2; the hinge is 1 - .05 * .2.
  check = lambda got, want: np.testing.assert_allclose(got, [want], rtol=1e-10)
  check(on_pair(losses.best_of_two_loss), 1.8)
  check(on_pair(losses.mean_best_of_two_loss), 0.6)
  check(on_pair(losses.likelihood_hinge_loss, beta=0.05), 0.99)


def test_a_response_of_no_tokens_weighs_nothing():
  mask = jnp.zeros((1, 2))
  log_probs = jnp.full((1, 2), jnp.nan)
  assert losses.token_weight(mask) == losses.sequence_weight(mask) == 0
  assert losses.mean_supervised_loss(log_probs, mask) == 0


def test_best_of_two_has_the_gradient_of_supervised_training_on_the_chosen():
  mask = arrays(MASK)
  by_pair = jax.grad(lambda p: losses.best_of_two_loss(p, mask)[0])(
    arrays(POLICY)
  )
  by_chosen = jax.grad(lambda x: losses.supervised_loss(x, mask.chosen)[0])(
    jnp.asarray(POLICY.chosen)
  )
  np.testing.assert_array_equal(by_pair.chosen, by_chosen)
  assert not np.any(by_pair.rejected)


@pytest.mark.parametrize('loss', PREFERENCES)
def test_padding_changes_no_loss_and_no_gradient(loss):
  junk = lambda x: jnp.pad(x, ((0, 0), (0, 2)), constant_values=jnp.nan)
  wider = lambda m: jnp.pad(m, ((0, 0), (0, 2)))
  total = lambda p, m: loss(p, m)[0]
  short = jax.value_and_grad(total)(arrays(POLICY), arrays(MASK))
  longer = Pair(*map(junk, arrays(POLICY))), Pair(*map(wider, arrays(MASK)))
  long = jax.value_and_grad(total)(*longer)
  assert long[0] == short[0]
  for wide, narrow in zip(long[1], short[1]):
    np.testing.assert_array_equal(wide, wider(narrow))


@pytest.mark.parametrize('loss', PREFERENCES)
def test_gradients_are_those_of_finite_differences(loss):
  mask = arrays(MASK)
  total = lambda policy: loss(policy, mask).sum()
  check_grads(
    jax.jit(total), (arrays(POLICY),), order=1, modes=['rev'], eps=1e-6
  )


@pytest.mark.parametrize('loss', PREFERENCES)
def test_extreme_log_probs_give_finite_losses_and_gradients(loss):
  mask = arrays(MASK)
  for low in (Pair(-1e4, 0.0), Pair(0.0, -1e4)):
    policy = Pair(*(jnp.full((1, 3), x) for x in low))
    value, grad = jax.value_and_grad(lambda p: loss(p, mask)[0])(policy)
    assert np.isfinite(value) and all(np.all(np.isfinite(x)) for x in grad)


def test_the_hinge_stops_once_the_gap_is_wide_enough():
  mask = arrays(MASK)

  def slope(gap):
    policy = Pair(jnp.zeros((1, 3)), jnp.zeros((1, 3)).at[0, 0].set(-gap))
    total = lambda p: losses.likelihood_hinge_loss(p, mask, beta=0.05)[0]
    return jax.grad(total)(policy).chosen[0, 0]

  assert slope(19.0) == -0.05
  assert slope(21.0) == 0  # the gap must reach 1 / .05 nats
