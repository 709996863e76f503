"""Layer 1. REINFORCE with a value baseline, token by token.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_mean, sequence_sum
from dap.losses.ranges import NonNegative

Tokens = Float[Array, 'rows length']


def reinforce_value_loss(
  policy: Tokens,
  values: Tokens,
  returns: Tokens,
  mask: Tokens,
  *,
  value_weight: NonNegative,
) -> tuple[Float[Array, ' rows'], dict[str, Float[Array, ' rows']]]:
  """-(return - value) * log-probability + value_weight * (return - value)^2.

  Summed over the tokens of a response. The value is a constant to the first
  term; the second one teaches it.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    values: of the critic, expected return before each token.
    returns: reward from each token on (`Gae` with decay 1, then `Returns`).
    mask: positive on response tokens, 0 on padding.
    value_weight: of the squared error.

  Returns:
    The loss, and the metrics `policy_loss` and `value_loss`, means over the
    tokens of each response.

  Source: Lee et al. 2023, appendix on reinforcement learning,
  https://arxiv.org/abs/2309.00267.
  """
  miss = jnp.where(mask > 0, returns - values, 0)
  pull = -jax.lax.stop_gradient(miss) * policy
  error = jnp.square(miss)
  metrics = {
    'policy_loss': sequence_mean(pull, mask),
    'value_loss': sequence_mean(error, mask),
  }
  return sequence_sum(pull + value_weight * error, mask), metrics
