"""Layer 1. Estimates of the KL divergence from a policy to its reference.

KL(policy || reference), in nats per response, on responses that the policy
wrote at temperature 1 with nothing truncated: on other responses these are
estimates of something else.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dap.losses.log_probs import sequence_sum


def token_kl(
  policy_logits: Float[Array, '*batch length vocab'],
  reference_logits: Float[Array, '*batch length vocab'],
  mask: Float[Array, '*batch length'] | None = None,
  allowed: Bool[Array, ' vocab'] | None = None,
) -> Float[Array, '*batch length']:
  """Exact KL between the distributions of each next token, in nats, >= 0.

  Args:
    policy_logits: position t gives the distribution that token t is drawn
      from: the first position is that of the empty prefix.
    reference_logits: the same of the reference.
    mask: positive on response tokens, 0 on padding; None counts all.
    allowed: tokens that can be generated, None for all.

  Returns:
    0 on padding; inf where the policy can write what the reference cannot.
  """
  log_p = _log_softmax(policy_logits, allowed)
  log_q = _log_softmax(reference_logits, allowed)
  probabilities = jnp.exp(log_p)
  possible = probabilities > 0
  ratio = jnp.where(possible, log_p, 0) - jnp.where(possible, log_q, 0)
  # Rounding may leave a sum of -1e-9; the divergence itself is never negative.
  each = jnp.maximum(jnp.sum(probabilities * ratio, axis=-1), 0)
  return each if mask is None else jnp.where(mask > 0, each, 0)


def sequence_kl(
  token_kl: Float[Array, '*batch length'], mask: Float[Array, '*batch length']
) -> Float[Array, '*batch']:
  """Rao-Blackwellised estimate from one sample: the sum of its `token_kl`.

  Unbiased, never negative, and of lower variance than `k1`.

  Source: Tang et al. 2024, app. D, https://arxiv.org/abs/2405.08448, with the
  prefixes from the empty one to that before the last token.
  """
  return sequence_sum(token_kl, mask)


def k1(log_ratio: Float[Array, '*any']) -> Float[Array, '*any']:
  """log policy - log reference of a sample: unbiased, may be negative.

  Like `k2` and `k3` it takes log-ratios of tokens, whose estimates are then
  summed over the response, or of whole responses.

  Source: Schulman 2020, http://joschu.net/blog/kl-approx.html.
  """
  return log_ratio


def k2(log_ratio: Float[Array, '*any']) -> Float[Array, '*any']:
  """Half the squared log-ratio: never negative, biased."""
  return 0.5 * jnp.square(log_ratio)


def k3(log_ratio: Float[Array, '*any']) -> Float[Array, '*any']:
  """exp(-r) - 1 + r of the log-ratio r: unbiased, never negative.

  Heavy-tailed on whole responses: take it of tokens and sum.
  """
  return jnp.expm1(-log_ratio) + log_ratio


def _log_softmax(logits, allowed):
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  if allowed is not None:
    logits = jnp.where(
      jnp.broadcast_to(allowed, logits.shape), logits, -jnp.inf
    )
  return jax.nn.log_softmax(logits)
