"""Layer 1. Losses of reward models and of pairwise preference models."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from dap.records import Pair


def bradley_terry_loss(
  chosen_score: Float[Array, ' batch'],
  rejected_score: Float[Array, ' batch'],
  *,
  margin: ScalarLike | Float[Array, ' batch'] = 0.0,
) -> Float[Array, ' batch']:
  """-log sigmoid(chosen - rejected - margin), in nats; scores are log-odds.

  Args:
    chosen_score: reward of the chosen response.
    rejected_score: reward of the rejected response.
    margin: how far apart the scores should be, >= 0: one number, or one for
      each example by how sure its label is (Llama 2: 1, 2/3, 1/3 or 0).

  Source: Touvron et al. 2023, eqs. 1 and 2, https://arxiv.org/abs/2307.09288.
  """
  return jax.nn.softplus(-(chosen_score - rejected_score - margin))


def pairwise_preference_loss(
  log_odds: Pair[Float[Array, ' batch']],
) -> Float[Array, ' batch']:
  """Cross-entropy of a preference model, the mean over both orders, in nats.

  Args:
    log_odds: that the response shown first is preferred, when the chosen one is
      shown first and when the rejected one is.

  Source: Tang et al. 2024, eq. 5, https://arxiv.org/abs/2405.08448.
  """
  first = jax.nn.softplus(-log_odds.chosen)
  second = jax.nn.softplus(log_odds.rejected)
  return 0.5 * (first + second)


def soft_preference_loss(
  log_odds: Pair[Float[Array, ' batch']], shares: Pair[Float[Array, ' batch']]
) -> Float[Array, ' batch']:
  """`pairwise_preference_loss` under the share of votes for each response.

  A panel of two minds pulls less than one that agrees; the least is at the odds
  of its votes. With shares of 1 and 0 it is the loss of hard labels.

  Args:
    log_odds: that the response shown first is preferred, when the chosen one is
      shown first and when the rejected one is.
    shares: of the votes, in [0, 1]; those of a pair sum to 1.

  Source: soft Bradley-Terry labels, Christiano et al. 2017, section 2.2.3,
  https://arxiv.org/abs/1706.03741.
  """
  agrees = pairwise_preference_loss(log_odds)
  differs = pairwise_preference_loss(Pair(-log_odds.chosen, -log_odds.rejected))
  return shares.chosen * agrees + shares.rejected * differs


def margin_preference_loss(
  log_odds: Pair[Float[Array, ' batch']], margins: Pair[Float[Array, ' batch']]
) -> Float[Array, ' batch']:
  """`bradley_terry_loss` with a margin for each pair, the mean of both orders.

  Args:
    log_odds: that the response shown first is preferred, when the chosen one is
      shown first and when the rejected one is; of a reward model, the
      difference of its scores.
    margins: how far apart the scores should be, >= 0; both sides have the same.

  Source: Touvron et al. 2023, eq. 2, https://arxiv.org/abs/2307.09288.
  """
  zero = jnp.zeros_like(log_odds.chosen)
  first = bradley_terry_loss(log_odds.chosen, zero, margin=margins.chosen)
  second = bradley_terry_loss(zero, log_odds.rejected, margin=margins.chosen)
  return 0.5 * (first + second)
