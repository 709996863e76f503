"""Layer 1. From hidden states straight to log-probs: the fused output head.

Logits are `rows x vocabulary` and the largest array of a training step. While
they are small they are computed once and kept for the gradient; beyond
`MAX_LOGITS` numbers the rows are cut into chunks, one of which exists at a
time, and the gradient computes its logits again.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dap.losses.log_probs import rival_log_probs

MAX_LOGITS = 1 << 24
DISALLOWED = -1e30


def head_log_probs(
  hidden: Float[Array, 'rows emb'],
  kernel: Float[Array, 'emb vocab'],
  targets: Int[Array, ' rows'],
  allowed: Bool[Array, ' vocab'] | None = None,
) -> Float[Array, ' rows']:
  """Log-probability of each target under softmax(hidden @ kernel), nats.

  Logits and softmax are float32 whatever the dtype of `hidden`. A target that
  is not allowed scores about -1e30 and has no gradient.

  Args:
    hidden: states that predict the targets.
    kernel: output kernel, float32.
    targets: token ids.
    allowed: tokens that can be generated; None for all.
  """
  if allowed is None:
    allowed = jnp.ones(kernel.shape[1:], bool)
  if hidden.shape[0] * kernel.shape[1] <= MAX_LOGITS:
    return _kept(hidden, kernel, targets, allowed)
  return _recomputed(hidden, kernel, targets, allowed)


def head_kl(
  hidden_p: Float[Array, 'rows emb_p'],
  kernel_p: Float[Array, 'emb_p vocab'],
  hidden_q: Float[Array, 'rows emb_q'],
  kernel_q: Float[Array, 'emb_q vocab'],
  allowed: Bool[Array, ' vocab'] | None = None,
) -> Float[Array, ' rows']:
  """Exact KL(p || q) of each row's next-token distributions, nats >= 0."""

  def kl(rows):
    log_p = jax.nn.log_softmax(head_logits(rows[0], kernel_p, allowed))
    log_q = jax.nn.log_softmax(head_logits(rows[1], kernel_q, allowed))
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)

  if hidden_p.shape[0] * kernel_p.shape[1] <= MAX_LOGITS:
    return kl((hidden_p, hidden_q))
  return _by_chunks(jax.checkpoint(kl), kernel_p.shape[1], hidden_p, hidden_q)


def head_rivals(
  hidden: Float[Array, 'rows emb'],
  kernel: Float[Array, 'emb vocab'],
  targets: Int[Array, ' rows'],
  allowed: Bool[Array, ' vocab'] | None = None,
  *,
  num_rivals: int,
) -> Float[Array, 'rows targets_and_rivals']:
  """Log-probs of each target and, behind it, of its rivals, nats.

  What `head_log_probs` and `rival_log_probs` say, of the same logits.
  """

  def scores(rows):
    hidden, targets = rows
    nats = jax.nn.log_softmax(head_logits(hidden, kernel, allowed))
    target = jnp.take_along_axis(nats, targets[:, None], axis=-1)
    rivals = rival_log_probs(nats, targets, num_rivals)
    return jnp.concatenate([target, rivals], axis=-1)

  if hidden.shape[0] * kernel.shape[1] <= MAX_LOGITS:
    return scores((hidden, targets))
  scores = jax.checkpoint(scores)
  return _by_chunks(scores, kernel.shape[1], hidden, targets)


def head_logits(
  hidden: Float[Array, 'rows emb'],
  kernel: Float[Array, 'emb vocab'],
  allowed: Bool[Array, ' vocab'] | None = None,
) -> Float[Array, 'rows vocab']:
  """Float32 logits; about -1e30 for tokens that are not allowed."""
  logits = hidden.astype(jnp.float32) @ kernel.astype(jnp.float32)
  if allowed is None:
    return logits
  return jnp.where(jnp.broadcast_to(allowed, logits.shape), logits, DISALLOWED)


def _scores(hidden, kernel, targets, allowed):
  """Log-probs of the targets, and what their gradient needs."""
  logits = head_logits(hidden, kernel, allowed)
  normalizer = jax.nn.logsumexp(logits, axis=-1)
  picked = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
  return picked - normalizer, (logits, normalizer)


def _gradients(kept, hidden, kernel, targets, allowed, cotangent):
  """Cotangents of hidden and kernel: onehot - softmax, through the matmul."""
  logits, normalizer = kept
  column = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
  hit = (column == targets[:, None]) & jnp.broadcast_to(allowed, logits.shape)
  weight = jnp.broadcast_to(cotangent[:, None], logits.shape)
  softmax = jnp.exp(logits - normalizer[:, None])
  logits_bar = jnp.where(hit, weight, 0) - weight * softmax
  hidden_bar = (logits_bar @ kernel.T).astype(hidden.dtype)
  return hidden_bar, hidden.astype(jnp.float32).T @ logits_bar


@jax.custom_vjp
def _kept(hidden, kernel, targets, allowed):
  return _scores(hidden, kernel, targets, allowed)[0]


def _kept_forward(hidden, kernel, targets, allowed):
  log_probs, kept = _scores(hidden, kernel, targets, allowed)
  return log_probs, (kept, hidden, kernel, targets, allowed)


def _kept_backward(residuals, cotangent):
  kept, hidden, kernel, targets, allowed = residuals
  bars = _gradients(kept, hidden, kernel, targets, allowed, cotangent)
  return *bars, None, None


_kept.defvjp(_kept_forward, _kept_backward)


@jax.custom_vjp
def _recomputed(hidden, kernel, targets, allowed):
  def scores(rows):
    return _scores(rows[0], kernel, rows[1], allowed)[0]

  return _by_chunks(scores, kernel.shape[1], hidden, targets)


def _recomputed_forward(*args):
  return _recomputed(*args), args


def _recomputed_backward(residuals, cotangent):
  hidden, kernel, targets, allowed = residuals

  def body(kernel_bar, rows):
    hidden, targets, cotangent = rows
    _, kept = _scores(hidden, kernel, targets, allowed)
    hidden_bar, partial = _gradients(
      kept, hidden, kernel, targets, allowed, cotangent
    )
    return kernel_bar + partial, hidden_bar

  rows, chunks = _chunks(kernel.shape[1], hidden, targets, cotangent)
  kernel_bar, hidden_bar = jax.lax.scan(body, jnp.zeros_like(kernel), chunks)
  return _joined(hidden_bar)[:rows], kernel_bar, None, None


_recomputed.defvjp(_recomputed_forward, _recomputed_backward)


def _by_chunks(function, vocab, *arrays):
  rows, chunks = _chunks(vocab, *arrays)
  return _joined(jax.lax.map(function, chunks))[:rows]


def _chunks(vocab, *arrays):
  """Rows dealt round to the chunks: rows split over devices stay split."""
  rows = arrays[0].shape[0]
  count = -(-rows * vocab // MAX_LOGITS)
  padding = -rows % count

  def deal(x):
    x = jnp.pad(x, ((0, padding), *((0, 0),) * (x.ndim - 1)))
    return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)

  return rows, jax.tree.map(deal, arrays)


def _joined(chunks):
  return jnp.moveaxis(chunks, 0, 1).reshape(-1, *chunks.shape[2:])
