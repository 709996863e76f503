"""Log-probs of tokens and sums over responses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import losses

law = settings(deadline=None, derandomize=True, max_examples=30)


def test_equal_logits_share_the_probability():
  log_probs = losses.token_log_probs(
    jnp.zeros((2, 3, 4)), jnp.zeros((2, 3), int)
  )
  np.testing.assert_allclose(log_probs, np.full((2, 3), -np.log(4)), rtol=1e-6)


@law
@given(st.integers(0, 2**16))
def test_padding_has_log_prob_and_gradient_zero_whatever_it_holds(seed):
  rng = np.random.default_rng(seed)
  mask = jnp.asarray(rng.integers(0, 2, (2, 5)), jnp.float32)
  targets = jnp.asarray(rng.integers(0, 6, (2, 5)))
  logits = jnp.asarray(rng.normal(size=(2, 5, 6)), jnp.float32)
  junk = jnp.asarray(rng.choice([np.nan, np.inf, -np.inf, 1e30]))
  spoilt = jnp.where(mask[..., None] > 0, logits, junk)
  wild = jnp.where(mask > 0, targets, 99)

  def total(logits, targets):
    return jnp.sum(losses.token_log_probs(logits, targets, mask))

  value, grad = jax.value_and_grad(total)(logits, targets)
  got, spoilt_grad = jax.value_and_grad(total)(spoilt, wild)
  np.testing.assert_array_equal(got, value)
  np.testing.assert_array_equal(spoilt_grad, grad)
  assert not np.any(np.where(mask[..., None] > 0, 0, grad))


def test_tokens_that_are_not_allowed_have_no_probability():
  allowed = jnp.array([False, True, True, False])
  logits = jnp.array([[5.0, 1.0, 1.0, 9.0]] * 4)
  log_probs = losses.token_log_probs(logits, jnp.arange(4), allowed=allowed)
  half = np.log(0.5)
  np.testing.assert_allclose(log_probs, [-np.inf, half, half, -np.inf])
  total = lambda x: losses.token_log_probs(
    x, jnp.array([1, 1, 2, 2]), allowed=allowed
  ).sum()
  grad = jax.grad(total)(logits)
  assert np.all(np.isfinite(grad)) and not np.any(grad[:, ::3])


def test_half_precision_logits_are_scored_in_float32():
  logits = jnp.zeros((1, 1, 3), jnp.bfloat16)
  log_probs = losses.token_log_probs(logits, jnp.zeros((1, 1), int))
  assert log_probs.dtype == jnp.float32
  np.testing.assert_allclose(log_probs, [[-np.log(3)]], rtol=1e-6)


@pytest.mark.parametrize('scale', [-1e4, 1e4])
def test_extreme_logits_give_finite_gradients(scale):
  logits = jnp.array([[0.0, scale, -scale]])
  total = lambda x: losses.token_log_probs(x, jnp.array([0])).sum()
  value, grad = jax.value_and_grad(total)(logits)
  assert np.isfinite(value) and np.all(np.isfinite(grad))


def test_a_response_of_no_tokens_has_sum_and_mean_zero():
  values, mask = jnp.full((1, 2), jnp.nan), jnp.zeros((1, 2))
  assert losses.sequence_sum(values, mask) == 0
  assert losses.sequence_mean(values, mask) == 0
