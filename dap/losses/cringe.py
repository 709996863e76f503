"""Layer 1. Cringe: an unwanted token against what the policy would say instead.

Its files are this, the model that gives rivals (`dap/models/rivals.py`), its
gin parts, its tests and its experiments.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from dap.losses.log_probs import sequence_mean, sequence_sum
from dap.losses.ranges import NonNegative, Positive, Range
from dap.records import Pair

Row = Float[Array, ' batch']
Shift = Annotated[
  ScalarLike, Range(why='It is a number of nats, of either sign.')
]


def rival_loss(
  policy: Float[Array, '*batch length'],
  rivals: Float[Array, '*batch length k'],
  mask: Float[Array, '*batch length'],
) -> Float[Array, '*batch length']:
  """Nats by which each token loses to a rival; its mean over the drawn rival.

  The source draws one of the k rivals s* from the softmax of their logits and
  takes -log(e^s* / (e^s* + e^s)), s being the token's own logit. This is
  the mean over that draw, its chances held constant, so that the gradient is
  the mean of the drawn one's: no key, and less variance. Log-probs stand for
  logits, whose differences they share. Both sides have a gradient.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    rivals: log-probs of the likeliest other tokens in their places.
    mask: positive on response tokens, 0 on padding.

  Returns:
    Nats of each token, >= 0; 0 on padding.
  """
  # Before the softplus: a NaN on padding must not reach the gradient.
  policy = jnp.where(mask > 0, policy, 0)
  rivals = jnp.where(mask[..., None] > 0, rivals, 0)
  chances = jax.lax.stop_gradient(jax.nn.softmax(rivals))
  each = jax.nn.softplus(policy[..., None] - rivals)
  return jnp.where(mask > 0, jnp.sum(chances * each, axis=-1), 0)


def cringe_loss(
  policy: Float[Array, 'batch n length'],
  rivals: Float[Array, 'batch n length k'],
  desirable: Float[Array, 'batch n'],
  mask: Float[Array, 'batch n length'],
  *,
  rival_weight: NonNegative,
) -> tuple[Row, dict[str, Row]]:
  """Cringe: likelihood of wanted responses, `rival_loss` of the others.

  The mean cross-entropy of the tokens of an example's wanted responses, plus
  rival_weight times the mean `rival_loss` of the tokens of its others. So of a
  pair both sides count whole, neither halved; a side without responses is 0.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    rivals: log-probs of the likeliest other tokens in their places.
    desirable: 1 for wanted responses, 0 for others.
    mask: positive on response tokens, 0 on padding.
    rival_weight: the paper's alpha; 1 in its code.

  Returns:
    The loss of each example in nats per token, and the metrics
    `likelihood_loss` and `rival_loss`.

  Source: Adolphs et al. 2022, https://arxiv.org/abs/2211.05826, and its code,
  ParlAI's projects/cringe.
  """
  wanted = desirable[..., None] > 0
  likelihood = _group_mean(-policy, jnp.where(wanted, mask, 0))
  rival = _group_mean(
    rival_loss(policy, rivals, mask), jnp.where(wanted, 0, mask)
  )
  metrics = {'likelihood_loss': likelihood, 'rival_loss': rival}
  return likelihood + rival_weight * rival, metrics


def pairwise_cringe_loss(
  policy: Pair,
  rivals: Pair,
  mask: Pair,
  *,
  gate_shift: Shift,
  gate_temperature: Positive,
  rival_weight: NonNegative,
) -> tuple[Row, dict[str, Row]]:
  """Cringe of a pair, times a gate that closes as the policy tells them apart.

  The gate is sigmoid((gate_shift - margin) / gate_temperature), in (0, 1), the
  margin the summed log-prob of the chosen response less that of the rejected.
  It has a gradient too, which widens the margin; no reference is read.

  The equation, the numbers and that the gate has a gradient are from secondary
  texts, not from the paper's own: so no number has a default.

  Args:
    policy: token log-probs under the policy, nats.
    rivals: log-probs of the likeliest other tokens in their places.
    mask: positive on response tokens, 0 on padding.
    gate_shift: the margin of a half-open gate, nats; b, said to be -10.
    gate_temperature: tau, nats; said to be 10.
    rival_weight: alpha, of the rejected response; said to be .005.

  Returns:
    The loss of each pair in nats per token, and the metrics `gate`,
    `likelihood_gap`, `likelihood_loss` and `rival_loss`.

  Source: Xu et al. 2023, https://arxiv.org/abs/2312.16682, at second hand.
  """
  gap = sequence_sum(policy.chosen, mask.chosen) - sequence_sum(
    policy.rejected, mask.rejected
  )
  gate = jax.nn.sigmoid((gate_shift - gap) / gate_temperature)
  likelihood = -sequence_mean(policy.chosen, mask.chosen)
  rival = sequence_mean(
    rival_loss(policy.rejected, rivals.rejected, mask.rejected), mask.rejected
  )
  metrics = {
    'gate': gate,
    'likelihood_gap': gap,
    'likelihood_loss': likelihood,
    'rival_loss': rival,
  }
  return gate * (likelihood + rival_weight * rival), metrics


def _group_mean(
  values: Float[Array, 'batch n length'], mask: Float[Array, 'batch n length']
) -> Row:
  """Over all tokens of a group where the mask is positive."""
  flat = (values.shape[0], -1)
  return sequence_mean(values.reshape(flat), mask.reshape(flat))
