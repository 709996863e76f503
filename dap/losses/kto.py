"""Layer 1. KTO: responses that are wanted or not, without pairs.

Its files are this, the signal of its anchor, its gin part, its test and its
experiment.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dap.losses.log_probs import log_ratio
from dap.losses.ranges import NonNegative, Positive

Tokens = Float[Array, 'responses length']
Row = Float[Array, ' responses']


def kto_loss(
  policy: Tokens,
  reference: Tokens,
  mask: Tokens,
  desirable: Row,
  anchor: Row,
  *,
  beta: Positive,
  desirable_weight: NonNegative,
  undesirable_weight: NonNegative,
) -> tuple[Row, dict[str, Row]]:
  """Kahneman–Tversky optimisation (KTO), a loss of single responses.

  desirable_weight * (1 - sigmoid(beta * (h - anchor))) of a wanted response and
  undesirable_weight * (1 - sigmoid(beta * (anchor - h))) of another, where h is
  the `log_ratio` of policy to reference.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    reference: the same under the reference, held constant.
    mask: positive on response tokens, 0 on padding.
    desirable: 1 for wanted responses, 0 for others.
    anchor: the mean log-ratio of responses to prompts that they do not belong
      to, nats, >= 0 (`signals.MismatchedRatio`); held constant.
    beta: pull to the reference, per nat.
    desirable_weight: the paper's lambda_D. Weights times numbers of responses
      should have a ratio of 1 to 4/3.
    undesirable_weight: the paper's lambda_U.

  Returns:
    The loss of each response, dimensionless, and the metrics `log_ratio`,
    `anchor` and `desirable`.

  Source: Ethayarajh et al. 2024, eq. 7, https://arxiv.org/abs/2402.01306.
  """
  anchor = jax.lax.stop_gradient(anchor)
  ratio = log_ratio(policy, reference, mask)
  gained = jax.nn.sigmoid(beta * (ratio - anchor))
  spared = jax.nn.sigmoid(beta * (anchor - ratio))
  loss = jnp.where(
    desirable > 0,
    desirable_weight * (1 - gained),
    undesirable_weight * (1 - spared),
  )
  metrics = {'log_ratio': ratio, 'anchor': anchor, 'desirable': desirable}
  return loss, metrics
