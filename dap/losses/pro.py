"""Layer 1. PRO: a softmax over each response and all that are worse.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dap.losses.log_probs import sequence_mean, sequence_sum
from dap.losses.ranges import NonNegative

Tokens = Float[Array, 'batch n length']
Row = Float[Array, 'batch n']
# From gaps of scores to what values of responses are multiplied with.
Sharpness = Callable[[Float[Array, '*any']], Float[Array, '*any']]


def gap(gaps: Float[Array, '*any']) -> Float[Array, '*any']:
  """PRO's: the further apart two scores are, the sharper the softmax."""
  return gaps


def even(gaps: Float[Array, '*any']) -> Float[Array, '*any']:
  """1 whatever the scores: the likelihood of a ranking by Plackett and Luce."""
  return jnp.ones_like(gaps)


def ranking_loss(
  values: Row,
  scores: Row,
  there: Bool[Array, 'batch n'],
  sharpness: Sharpness = gap,
) -> Float[Array, ' batch']:
  """Cross-entropy of each response against itself and all that score lower.

  The value of a worse response is multiplied by the sharpness of its gap of
  scores to the better one, the better one's own by the largest of these. The
  order of the responses does not matter. A response does not compete with
  those of equal score, and the last has nobody to compete with.

  Args:
    values: what is ranked, a mean log-prob or another.
    scores: that it should be ranked by.
    there: which responses there are.
    sharpness: of each gap.

  Returns:
    Nats, summed over the responses of a prompt.
  """
  gaps = scores[:, :, None] - scores[:, None, :]
  beats = (gaps > 0) & there[:, :, None] & there[:, None, :]
  factors = jnp.where(beats, sharpness(jnp.where(beats, gaps, 1)), 0)
  own = values * jnp.max(factors, axis=2)
  others = jnp.where(beats, values[:, None, :] * factors, -jnp.inf)
  every = jnp.concatenate([own[:, :, None], others], axis=2)
  nats = jax.nn.logsumexp(every, axis=2) - own
  return jnp.sum(jnp.where(jnp.any(beats, axis=2), nats, 0), axis=1)


def pro_loss(
  policy: Tokens,
  scores: Row,
  mask: Tokens,
  *,
  likelihood_weight: NonNegative,
) -> tuple[Float[Array, ' batch'], dict[str, Float[Array, ' batch']]]:
  """Preference ranking optimisation (PRO).

  `ranking_loss` of the mean log-prob of a token, plus likelihood_weight *
  (n - 1)^2 times the negative log-likelihood of the best of n responses, summed
  over its tokens. No reference is read.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    scores: of whole responses; their differences are inverse temperatures.
    mask: positive on response tokens, 0 on padding; a response without a token
      is not there.
    likelihood_weight: 0.05 in the paper's code.

  Returns:
    The loss of each prompt in nats, and the metrics `rank_loss`,
    `likelihood_loss` and `equal_pairs`, the share of pairs of equal scores,
    which the paper's code would divide by zero for.

  Source: Song et al. 2023, https://arxiv.org/abs/2306.17492, and
  `train/utils/process_manager.py` of its code.
  """
  there = jnp.any(mask > 0, axis=2)
  rank = ranking_loss(sequence_mean(policy, mask), scores, there)
  best = jnp.argmax(jnp.where(there, scores, -jnp.inf), axis=1)
  total = sequence_sum(policy, mask)
  likelihood = -jnp.take_along_axis(total, best[:, None], axis=1)[:, 0]
  both = jnp.triu(there[:, :, None] & there[:, None, :], 1)
  same = both & (scores[:, :, None] == scores[:, None, :])
  pairs = jnp.maximum(jnp.sum(both, axis=(1, 2)), 1)
  metrics = {
    'rank_loss': rank,
    'likelihood_loss': likelihood,
    'equal_pairs': jnp.sum(same, axis=(1, 2)) / pairs,
  }
  weight = likelihood_weight * (scores.shape[1] - 1) ** 2
  return rank + weight * likelihood, metrics
