"""Layer 1. Log-probabilities of tokens, and their sums over a response."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def token_log_probs(
  logits: Float[Array, '*batch length vocab'],
  targets: Int[Array, '*batch length'],
  mask: Float[Array, '*batch length'] | None = None,
  allowed: Bool[Array, ' vocab'] | None = None,
) -> Float[Array, '*batch length']:
  """Natural log-probability of each target, at least in float32.

  Args:
    logits: position t predicts target t: the caller has shifted already.
    targets: token ids; what stands on padding does not matter.
    mask: positive on response tokens, 0 on padding; None scores all.
    allowed: tokens that can be generated, None for all. The others have no
      probability, so that a disallowed target scores -inf.

  Returns:
    Nats, <= 0; exactly 0, with gradient exactly 0, on padding.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  if allowed is not None:
    logits = jnp.where(
      jnp.broadcast_to(allowed, logits.shape), logits, -jnp.inf
    )
  if mask is not None:
    # Before the softmax too: a NaN on padding must not reach the gradient.
    logits = jnp.where(mask[..., None] > 0, logits, 0)
    targets = jnp.where(mask > 0, targets, 0)
  log_probs = jax.nn.log_softmax(logits)
  picked = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
  return picked if mask is None else jnp.where(mask > 0, picked, 0)


def rival_log_probs(
  log_probs: Float[Array, '*batch vocab'],
  targets: Int[Array, '*batch'],
  num_rivals: int,
) -> Float[Array, '*batch k']:
  """Log-probs of the likeliest tokens beside each target, likeliest first.

  The num_rivals + 1 likeliest tokens, less the target, or less the last of them
  where the target is not among them. Which tokens these are is held constant.

  Args:
    log_probs: of all tokens, nats.
    targets: token ids.
    num_rivals: how many, fewer than there are tokens.
  """
  _, best = jax.lax.top_k(jax.lax.stop_gradient(log_probs), num_rivals + 1)
  target_last = jnp.argsort(best == targets[..., None], axis=-1, stable=True)
  rivals = jnp.take_along_axis(best, target_last[..., :num_rivals], axis=-1)
  return jnp.take_along_axis(log_probs, rivals, axis=-1)


def sequence_sum(
  values: Float[Array, '*batch length'], mask: Float[Array, '*batch length']
) -> Float[Array, '*batch']:
  """Sum over the tokens where the mask is positive; padding may be NaN."""
  return jnp.sum(jnp.where(mask > 0, values, 0), axis=-1)


def sequence_mean(
  values: Float[Array, '*batch length'], mask: Float[Array, '*batch length']
) -> Float[Array, '*batch']:
  """Mean over the tokens where the mask is positive; 0 if there is none."""
  count = jnp.sum(mask > 0, axis=-1)
  return sequence_sum(values, mask) / jnp.maximum(count, 1)


def log_ratio(
  policy: Float[Array, '*batch length'],
  reference: Float[Array, '*batch length'],
  mask: Float[Array, '*batch length'],
) -> Float[Array, '*batch']:
  """log policy(y | x) - log reference(y | x), summed over tokens, in nats.

  No gradient reaches the reference.
  """
  return sequence_sum(policy - jax.lax.stop_gradient(reference), mask)


def mean_log_ratio(
  policy: Float[Array, '*batch length'],
  reference: Float[Array, '*batch length'],
  mask: Float[Array, '*batch length'],
) -> Float[Array, '*batch']:
  """The same, a mean over the response's tokens: nats per token."""
  return sequence_mean(policy - jax.lax.stop_gradient(reference), mask)
