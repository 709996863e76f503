"""Layer 1. Nothing: the loss that leaves a policy where it is.

What a comparison shows of it is what its measurements show of no training.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def no_loss(policy: Float[Array, 'batch n length']) -> Float[Array, ' batch']:
  """0, whose gradient is 0.

  Args:
    policy: log-probs of the tokens under the policy, nats.
  """
  return jnp.zeros_like(policy[:, 0, 0])
