"""Layer 1. SLiC-HF: a hinge on log-likelihoods, and the likelihood of the best.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

import jax
from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_sum
from dap.losses.ranges import NonNegative, Positive
from dap.records import Pair


def slic_loss(
  policy: Pair, mask: Pair, *, margin: Positive, likelihood_weight: NonNegative
) -> tuple[Float[Array, ' batch'], dict[str, Float[Array, ' batch']]]:
  """Sequence likelihood calibration with human feedback (SLiC-HF).

  max(0, margin - gap) - likelihood_weight * log policy(chosen | prompt), where
  the gap is the summed log-prob of the chosen response less that of the
  rejected. No reference is read: the second term, on the chosen response as
  the target, holds the policy. It is no `hinge_loss`, which others call SLiC.

  Args:
    policy: token log-probs under the policy, nats.
    mask: positive on response tokens, 0 on padding.
    margin: of the gap, nats; 1 in the paper.
    likelihood_weight: of the summed log-prob of the chosen response; the paper
      gives none.

  Returns:
    The loss of each example in nats, and the metrics `rank_loss` and
    `likelihood_gap`.

  Source: Zhao et al. 2023, https://arxiv.org/abs/2305.10425.
  """
  chosen = sequence_sum(policy.chosen, mask.chosen)
  gap = chosen - sequence_sum(policy.rejected, mask.rejected)
  rank = jax.nn.relu(margin - gap)
  metrics = {'rank_loss': rank, 'likelihood_gap': gap}
  return rank - likelihood_weight * chosen, metrics
