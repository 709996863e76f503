"""Layer 1. Losses of the policy's likelihood alone: no reference is read."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_mean, sequence_sum
from dap.losses.ranges import Positive
from dap.records import Pair


def supervised_loss(
  policy: Float[Array, 'batch length'], mask: Float[Array, 'batch length']
) -> Float[Array, ' batch']:
  """Negative log-likelihood of each response, in nats, summed over tokens.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    mask: positive on response tokens, the last of which must be the end of
      sequence if the policy is to learn to stop; 0 on padding.
  """
  return -sequence_sum(policy, mask)


def mean_supervised_loss(
  policy: Float[Array, 'batch length'], mask: Float[Array, 'batch length']
) -> Float[Array, ' batch']:
  """The same in nats per token of each response.

  sum(weight * loss) / sum(weight) is the mean over all tokens when weighted by
  `token_weight`, and the mean over responses by `sequence_weight`.
  """
  return -sequence_mean(policy, mask)


def token_weight(
  mask: Float[Array, 'batch length'],
) -> Float[Array, ' batch']:
  """A response counts as often as it has tokens."""
  return jnp.sum(mask > 0, axis=-1).astype(mask.dtype)


def sequence_weight(
  mask: Float[Array, 'batch length'],
) -> Float[Array, ' batch']:
  """A response counts once, and not at all if it has no token."""
  return jnp.any(mask > 0, axis=-1).astype(mask.dtype)


def best_of_two_loss(policy: Pair, mask: Pair) -> Float[Array, ' batch']:
  """Best-of-2: negative log-likelihood of the chosen response, in nats.

  Nothing holds the policy to the reference but the number and size of steps.

  Args:
    policy: token log-probs under the policy, nats; the rejected are not read.
    mask: positive on response tokens, 0 on padding.

  Source: Tang et al. 2024, eq. 3, https://arxiv.org/abs/2405.08448, whose
  printed sign would lower the likelihood.
  """
  return -sequence_sum(policy.chosen, mask.chosen)


def mean_best_of_two_loss(policy: Pair, mask: Pair) -> Float[Array, ' batch']:
  """`best_of_two_loss` in nats per token of each chosen response."""
  return -sequence_mean(policy.chosen, mask.chosen)


def likelihood_hinge_loss(
  policy: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """Hinge on log-likelihoods, not log-ratios: max(0, 1 - beta * gap).

  The gap is the summed log-prob of the chosen response less that of the
  rejected, so that the policy is pulled to no reference; beta is per nat.

  Source: Liu et al. 2023, eq. 8, https://arxiv.org/abs/2309.06657.
  """
  chosen = sequence_sum(policy.chosen, mask.chosen)
  rejected = sequence_sum(policy.rejected, mask.rejected)
  return jax.nn.relu(1 - beta * (chosen - rejected))
