"""Layer 2. T5's attention: no scale, an additive bias, a boolean mask.

The gradient is written out: it keeps the weights and the result and nothing
else, and takes the sum of the softmax's gradient over head_dim rather than over
the memory, which on a CPU is a fifth faster than what jax derives.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

MASKED = -1e10  # T5X's: a row without any memory attends evenly


@jax.custom_vjp
def attend(
  query: Float[Array, 'batch heads length head_dim'],
  key: Float[Array, 'batch heads memory head_dim'],
  value: Float[Array, 'batch heads memory head_dim'],
  bias: Float[Array, '1 heads length memory'] | None,
  mask: Bool[Array, '#batch 1 #length memory'],
) -> Float[Array, 'batch heads length head_dim']:
  """Values of the memory, averaged by softmax(query . key + bias).

  Softmax is in the dtype of query and key (T5X's float32_attention_logits is
  to pass them in float32), its weights in that of value. `mask` is True where
  the memory may be read.
  """
  return mix(weights(query, key, bias, mask).astype(value.dtype), value)


def weights(
  query: Float[Array, 'batch heads length head_dim'],
  key: Float[Array, 'batch heads memory head_dim'],
  bias: Float[Array, '1 heads length memory'] | None,
  mask: Bool[Array, '#batch 1 #length memory'],
) -> Float[Array, 'batch heads length memory']:
  """Attention weights; each row sums to 1."""
  logits = jnp.einsum('bhqd,bhkd->bhqk', query, key)
  if bias is not None:
    logits += jnp.broadcast_to(bias.astype(logits.dtype), logits.shape)
  return _masked_softmax(logits, mask)


def mix(
  weights: Float[Array, 'batch heads length memory'],
  value: Float[Array, 'batch heads memory head_dim'],
) -> Float[Array, 'batch heads length head_dim']:
  """Weighted sums of the values."""
  return jnp.einsum('bhqk,bhkd->bhqd', weights, value)


def attend_transposed(
  query: Float[Array, 'batch heads length head_dim'],
  transposed_key: Float[Array, 'batch heads head_dim memory'],
  value: Float[Array, 'batch heads memory head_dim'],
  mask: Bool[Array, '#batch 1 #length memory'],
  dtype: DTypeLike,
) -> Float[Array, 'batch heads length head_dim']:
  """`attend` without bias, softmax in `dtype`, to keys that lie transposed.

  With one query or few, reading keys along the memory halves the time of their
  product; with many, transposing them costs more than that.
  """
  query, transposed_key = query.astype(dtype), transposed_key.astype(dtype)
  logits = jnp.einsum('bhqd,bhdk->bhqk', query, transposed_key)
  return mix(_masked_softmax(logits, mask).astype(value.dtype), value)


def _masked_softmax(logits, mask):
  allowed = jnp.broadcast_to(mask, logits.shape)
  return jax.nn.softmax(jnp.where(allowed, logits, MASKED))


def _forward(query, key, value, bias, mask):
  soft = weights(query, key, bias, mask)
  mixed = mix(soft.astype(value.dtype), value)
  return mixed, (query, key, value, bias, mask, soft, mixed)


def _backward(residuals, mixed_bar):
  query, key, value, bias, mask, soft, mixed = residuals
  dtype = soft.dtype
  # sum_k weight * weight_bar, as the same sum over head_dim.
  shift = jnp.sum((mixed_bar * mixed).astype(dtype), axis=-1, keepdims=True)
  weights_bar = jnp.einsum('bhqd,bhkd->bhqk', mixed_bar, value).astype(dtype)
  logits_bar = soft * (weights_bar - jnp.broadcast_to(shift, soft.shape))
  logits_bar = jnp.where(jnp.broadcast_to(mask, soft.shape), logits_bar, 0)
  bias_bar = None
  if bias is not None:
    bias_bar = jnp.sum(logits_bar, axis=0, keepdims=True).astype(bias.dtype)
  return (
    jnp.einsum('bhqk,bhkd->bhqd', logits_bar, key),
    jnp.einsum('bhqk,bhqd->bhkd', logits_bar, query),
    jnp.einsum('bhqk,bhqd->bhkd', soft.astype(value.dtype), mixed_bar),
    bias_bar,
    None,
  )


attend.defvjp(_forward, _backward)
