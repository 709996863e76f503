"""Layer 1. RRHF: ranks the responses of a prompt, and imitates the best.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_sum
from dap.losses.ranges import NonNegative

Tokens = Float[Array, 'batch n length']


def rrhf_loss(
  policy: Tokens,
  scores: Float[Array, 'batch n'],
  mask: Tokens,
  *,
  length_power: NonNegative,
  rank_weight: NonNegative,
) -> tuple[Float[Array, ' batch'], dict[str, Float[Array, ' batch']]]:
  """Rank responses to align with human feedback (RRHF).

  With p = (sum of log-probs) / length^length_power, the loss is rank_weight
  times the sum, over all pairs of which the first scores lower, of
  max(0, p(first) - p(second)), plus the negative log-likelihood of the response
  that scores highest, summed over its tokens. Equal scores make no pair; of
  equally best responses the first is imitated. No reference is read.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    scores: of whole responses; their order alone counts.
    mask: positive on response tokens, 0 on padding; a response without a token
      is not there.
    length_power: the paper's eta; 1 makes p a mean over tokens.
    rank_weight: 1 in the paper; its code's own default is 100.

  Returns:
    The loss of each prompt in nats, and the metrics `rank_loss`,
    `likelihood_loss` and `equal_pairs`, the share of pairs of equal scores.

  Source: Yuan et al. 2023, https://arxiv.org/abs/2304.05302. Its
  code takes the mean of the second term over the padded row; this is the sum.
  """
  lengths = jnp.sum(mask > 0, axis=2)
  there = lengths > 0
  total = sequence_sum(policy, mask)
  value = total / jnp.maximum(lengths, 1) ** length_power
  both = there[:, :, None] & there[:, None, :]
  worse = both & (scores[:, :, None] < scores[:, None, :])
  excess = jax.nn.relu(value[:, :, None] - value[:, None, :])
  rank = jnp.sum(jnp.where(worse, excess, 0), axis=(1, 2))
  best = jnp.argmax(jnp.where(there, scores, -jnp.inf), axis=1)
  likelihood = -jnp.take_along_axis(total, best[:, None], axis=1)[:, 0]
  pairs = jnp.sum(jnp.triu(both, 1), axis=(1, 2))
  equal = pairs - jnp.sum(worse, axis=(1, 2))
  metrics = {
    'rank_loss': rank,
    'likelihood_loss': likelihood,
    'equal_pairs': equal / jnp.maximum(pairs, 1),
  }
  return rank * rank_weight + likelihood, metrics
