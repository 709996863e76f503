"""The control of a comparison moves nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from dap.losses import nothing


def test_no_loss_is_zero_and_pulls_nowhere():
  policy = -jnp.arange(12.0).reshape(2, 2, 3)
  np.testing.assert_array_equal(nothing.no_loss(policy), np.zeros(2))
  pull = jax.grad(lambda x: jnp.sum(nothing.no_loss(x)))(policy)
  np.testing.assert_array_equal(pull, np.zeros_like(policy))
