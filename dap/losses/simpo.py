"""Layer 1. SimPO: the mean log-prob of a token is the reward, no reference.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_mean
from dap.losses.pairwise import logistic
from dap.losses.ranges import NonNegative, Positive
from dap.records import Pair


def simpo_loss(
  policy: Pair, mask: Pair, *, beta: Positive, margin: NonNegative
) -> Float[Array, ' batch']:
  """Simple preference optimisation: -log sigmoid(beta * gap - margin), nats.

  The gap is the mean log-prob of a token of the chosen response less that of
  the rejected.

  Args:
    policy: token log-probs under the policy, nats.
    mask: positive on response tokens, 0 on padding.
    beta: per nat and token; 2 to 2.5 in the paper.
    margin: the paper's gamma, by how much the scaled gap should pass 0; no
      ratio to beta, as some implementations store it.

  Source: Meng et al. 2024, https://arxiv.org/abs/2405.14734.
  """
  chosen = sequence_mean(policy.chosen, mask.chosen)
  rejected = sequence_mean(policy.rejected, mask.rejected)
  return logistic((chosen - rejected) * beta - margin)
