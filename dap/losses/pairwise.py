"""Layer 1. Losses of a pair, given a policy and a reference.

All take token log-probs of both responses, `(policy, reference, mask)`, and
return one loss per example; `ipo_loss` says what the arguments are. They read
the log-probs through their margin alone, and hold the reference constant.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from dap.losses.log_probs import log_ratio, mean_log_ratio
from dap.losses.ranges import Positive, Range
from dap.records import Pair

Curve = Callable[[Float[Array, ' batch']], Float[Array, ' batch']]
PullToReference = Annotated[
  ScalarLike,
  Range(
    0,
    why='Its target margin is half its inverse; to train with no pull to the'
    ' reference, choose gin/losses/best_of_two.gin.',
  ),
]
Smoothing = Annotated[
  ScalarLike,
  Range(
    0,
    0.5,
    low_closed=True,
    why='At 1/2 labels say nothing, beyond it they are reversed.',
  ),
]


def ipo_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: PullToReference
) -> Float[Array, ' batch']:
  """Identity preference optimisation (IPO): pull the margin to 1 / (2 beta).

  The margin is how much further the policy prefers the chosen response than
  the reference does: `log_ratio` of the chosen less that of the rejected.

  Args:
    policy: token log-probs under the policy, nats.
    reference: the same under the reference, held constant.
    mask: positive on response tokens, 0 on padding.
    beta: pull to the reference, per nat, > 0.

  Returns:
    (beta * margin - 1/2)^2 of each example, dimensionless; 1/4 at reference.

  Source: Tang et al. 2024, app. B, https://arxiv.org/abs/2405.08448; beta^2
  times eq. 17 of Azar et al. 2023, https://arxiv.org/abs/2310.12036.
  """
  chosen = log_ratio(policy.chosen, reference.chosen, mask.chosen)
  rejected = log_ratio(policy.rejected, reference.rejected, mask.rejected)
  return jnp.square(beta * (chosen - rejected) - 0.5)


def log_ratio_margin(
  policy: Pair, reference: Pair, mask: Pair
) -> Float[Array, ' batch']:
  """`log_ratio` of the chosen response less that of the rejected, in nats."""
  chosen = log_ratio(policy.chosen, reference.chosen, mask.chosen)
  rejected = log_ratio(policy.rejected, reference.rejected, mask.rejected)
  return chosen - rejected


def mean_log_ratio_margin(
  policy: Pair, reference: Pair, mask: Pair
) -> Float[Array, ' batch']:
  """The same margin with each log-ratio a mean over its tokens."""
  chosen = mean_log_ratio(policy.chosen, reference.chosen, mask.chosen)
  rejected = mean_log_ratio(policy.rejected, reference.rejected, mask.rejected)
  return chosen - rejected


def ipo_azar_loss(
  policy: Pair, reference: Pair, mask: Pair, *, tau: PullToReference
) -> Float[Array, ' batch']:
  """IPO as its paper scales it: (margin - 1 / (2 tau))^2, in nats squared.

  `ipo_loss` at beta = tau, divided by tau^2; 1 / (4 tau^2) at the reference.

  Source: Azar et al. 2023, eq. 17, https://arxiv.org/abs/2310.12036.
  """
  margin = log_ratio_margin(policy, reference, mask)
  return jnp.square(margin - 0.5 / tau)


def ipo_gpo_one_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """IPO as a GPO: (beta * margin - 1)^2, which pulls the margin to 1 / beta.

  Four times `ipo_loss` at beta / 2; 1 at the reference.
  """
  return gpo_loss(policy, reference, mask, beta=beta, f=squared)


def ipo_mean_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """`ipo_loss` on log-ratios averaged over tokens instead of summed.

  beta is per nat per token: for responses of one length, `ipo_loss` at
  beta / length.
  """
  margin = mean_log_ratio_margin(policy, reference, mask)
  return jnp.square(beta * margin - 0.5)


def ipo_azar_mean_loss(
  policy: Pair, reference: Pair, mask: Pair, *, tau: Positive
) -> Float[Array, ' batch']:
  """`ipo_azar_loss` on log-ratios averaged over tokens, as TRL >= 0.8 does."""
  margin = mean_log_ratio_margin(policy, reference, mask)
  return jnp.square(margin - 0.5 / tau)


def dpo_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """Direct preference optimisation: -log sigmoid(beta * margin), in nats.

  Log 2 at the reference; never satisfied, whatever the margin.

  Source: Rafailov et al. 2023, eq. 7, https://arxiv.org/abs/2305.18290.
  """
  return gpo_loss(policy, reference, mask, beta=beta, f=logistic)


def dpo_mean_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """`dpo_loss` on log-ratios averaged over tokens: length-normalised DPO.

  beta is per nat per token; 5 in Tülu 3.

  Source: Lambert et al. 2024, https://arxiv.org/abs/2411.15124.
  """
  return logistic(mean_log_ratio_margin(policy, reference, mask) * beta)


def cdpo_loss(
  policy: Pair,
  reference: Pair,
  mask: Pair,
  *,
  beta: Positive,
  label_smoothing: Smoothing,
) -> Float[Array, ' batch']:
  """Conservative DPO: labels are wrong with probability `label_smoothing`.

  With it in [0, 1/2), least where sigmoid(beta * margin) is 1 less it.

  Source: eric-mitchell/direct-preference-optimization, `trainers.py`.
  """
  scaled = log_ratio_margin(policy, reference, mask) * beta
  kept = logistic(scaled) * (1 - label_smoothing)
  return kept + logistic(-scaled) * label_smoothing


def soft_dpo_loss(
  policy: Pair,
  reference: Pair,
  mask: Pair,
  *,
  beta: Positive,
  chosen_probability: Float[Array, ' batch'],
) -> Float[Array, ' batch']:
  """DPO against a soft label: cross-entropy with sigmoid(beta * margin).

  `chosen_probability` is that the chosen response is preferred, in [0, 1].
  """
  scaled = log_ratio_margin(policy, reference, mask) * beta
  kept = chosen_probability * logistic(scaled)
  return kept + (1 - chosen_probability) * logistic(-scaled)


def hinge_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """Hinge on log-ratios: max(0, 1 - beta * margin), dimensionless.

  RSO calls it hinge-norm and beta gamma; it is no SLiC-HF, which has no
  reference and a likelihood term.

  Source: Liu et al. 2023, eq. 9, https://arxiv.org/abs/2309.06657.
  """
  return gpo_loss(policy, reference, mask, beta=beta, f=hinge)


def exponential_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """The exponential member of the GPO family."""
  return gpo_loss(policy, reference, mask, beta=beta, f=exponential)


def truncated_quadratic_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """The truncated quadratic member of the GPO family."""
  return gpo_loss(policy, reference, mask, beta=beta, f=truncated_quadratic)


def savage_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive
) -> Float[Array, ' batch']:
  """The Savage member of the GPO family."""
  return gpo_loss(policy, reference, mask, beta=beta, f=savage)


def gpo_loss(
  policy: Pair, reference: Pair, mask: Pair, *, beta: Positive, f: Curve
) -> Float[Array, ' batch']:
  """Generalised preference optimisation (GPO): f(beta * margin).

  Near the reference the gradient scales with beta * |f'(0)|, so one beta is
  not equally strong under every f.

  Args:
    policy: token log-probs under the policy, nats.
    reference: the same under the reference, held constant.
    mask: positive on response tokens, 0 on padding.
    beta: pull to the reference, per nat, > 0.
    f: elementwise, decreasing at 0: `logistic`, `hinge`, `squared`,
      `exponential`, `truncated_quadratic`, `savage` or the caller's own.

  Source: Tang et al. 2024, https://arxiv.org/abs/2402.05749.
  """
  return f(log_ratio_margin(policy, reference, mask) * beta)


def logistic(scaled_margin: Float[Array, '*any']) -> Float[Array, '*any']:
  """log(1 + exp(-z)); slope -1/2 at 0."""
  return jax.nn.softplus(-scaled_margin)


def hinge(scaled_margin: Float[Array, '*any']) -> Float[Array, '*any']:
  """max(0, 1 - z); slope -1 at 0, and 0 at the kink."""
  return jax.nn.relu(1 - scaled_margin)


def squared(scaled_margin: Float[Array, '*any']) -> Float[Array, '*any']:
  """(1 - z)^2; slope -2 at 0."""
  return jnp.square(1 - scaled_margin)


def exponential(scaled_margin: Float[Array, '*any']) -> Float[Array, '*any']:
  """exp(-z), continued by its tangent below z = -30; slope -1 at 0.

  float32 would overflow below -88; the tangent keeps the loss convex and the
  gradient as large as at -30 (1e13), for the caller to clip.
  """
  excess = jax.nn.relu(-30.0 - scaled_margin)
  return jnp.exp(-(scaled_margin + excess)) * (1 + excess)


def truncated_quadratic(
  scaled_margin: Float[Array, '*any'],
) -> Float[Array, '*any']:
  """max(0, 1 - z)^2; slope -2 at 0."""
  return jnp.square(jax.nn.relu(1 - scaled_margin))


def savage(scaled_margin: Float[Array, '*any']) -> Float[Array, '*any']:
  """1 / (1 + exp(z))^2; slope -1/4 at 0, convex only above -log 2."""
  return jnp.square(jax.nn.sigmoid(-scaled_margin))
