"""Layer 1. ORPO: supervised training and an odds ratio in one step.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_mean
from dap.losses.pairwise import logistic
from dap.losses.ranges import NonNegative
from dap.records import Pair

_LEAST = 1e-6  # nats; a token of probability 1 has infinite odds


def orpo_loss(
  policy: Pair, mask: Pair, *, odds_weight: NonNegative
) -> tuple[Float[Array, ' batch'], dict[str, Float[Array, ' batch']]]:
  """Odds ratio preference optimisation, with its supervised term.

  -m(chosen) - odds_weight * log sigmoid(log odds(chosen) - log odds(rejected)),
  where m is the mean log-prob of a token and odds are exp(m) / (1 - exp(m)).
  No reference is read, and none is needed to start from.

  Args:
    policy: token log-probs under the policy, nats.
    mask: positive on response tokens, 0 on padding.
    odds_weight: the paper's lambda; 0.1 there.

  Returns:
    The loss of each example in nats per token, and the metrics `odds_loss` and
    `log_odds_ratio`.

  Source: Hong et al. 2024, https://arxiv.org/abs/2403.07691.
  """
  chosen = sequence_mean(policy.chosen, mask.chosen)
  ratio = _log_odds(chosen) - _log_odds(
    sequence_mean(policy.rejected, mask.rejected)
  )
  odds = logistic(ratio)
  metrics = {'odds_loss': odds, 'log_odds_ratio': ratio}
  return odds * odds_weight - chosen, metrics


def _log_odds(log_prob: Float[Array, ' batch']) -> Float[Array, ' batch']:
  """log(p / (1 - p)) from log p, which is exact near 1 too."""
  distance = jnp.maximum(-log_prob, _LEAST)
  return -distance - jax.nn.log1mexp(distance)
