"""Layer 2. The parts of T5 1.1, with T5X's parameter names and dtype rules.

Activations are `[sequences, length, width]`, or `[tokens, width]` packed
(`packing`); every dense product is one 2-D matmul over all tokens
(`dense.project`), which is what makes its gradient fast on a CPU. Parameters
are float32 and are cast to the compute dtype where they are used. Norms and
softmax follow T5X, so published checkpoints keep their values.

Source: google-research/t5x, t5x/examples/t5/{layers,network}.py.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers
from jaxtyping import Array, Bool, Float, Int

from dap.models import attention, dense
from dap.models.packing import PADDED, Layout

NUM_BUCKETS = 32
MAX_DISTANCE = 128

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  'gelu': jax.nn.gelu,
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
  'swish': jax.nn.silu,  # T5X has both names
  'linear': lambda x: x,
}


def relative_position_bucket(
  relative_position: Int[Array, '*shape'], *, bidirectional: bool
) -> Int[Array, '*shape']:
  """Bucket (0 to 31) of `memory position - query position`.

  Near distances have a bucket each; beyond a quarter (or half, when causal) of
  the buckets they grow logarithmically up to distance 128. Causal attention
  puts the future in bucket 0.
  """
  buckets = NUM_BUCKETS
  distance = -relative_position
  offset = jnp.zeros_like(distance)
  if bidirectional:
    buckets //= 2
    offset = jnp.where(distance < 0, buckets, 0)
    distance = jnp.abs(distance)
  distance = jnp.maximum(distance, 0)
  exact = buckets // 2
  scale = (buckets - exact) / math.log(MAX_DISTANCE / exact)
  # The tiny term keeps log finite at 0; it is T5X's, and moves no bucket.
  ratio = distance.astype(jnp.float32) / exact + jnp.finfo(jnp.float32).eps
  far = exact + (jnp.log(ratio) * scale).astype(jnp.int32)
  far = jnp.minimum(far, buckets - 1)
  return offset + jnp.where(distance < exact, distance, far)


class Weight(nn.Module):
  """One parameter under T5X's name, e.g. `query/kernel`; called, it is read.

  Modules declare shapes only: `t5_initial.draw` makes initial values.
  """

  shape: tuple[int, ...]
  leaf: str = 'kernel'

  @nn.compact
  def __call__(self) -> Array:
    return self.param(self.leaf, initializers.zeros, self.shape)


class RMSNorm(nn.Module):
  """Root-mean-square norm in float32, then cast and scaled in `dtype`."""

  width: int
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, '*rows width']) -> Array:
    scale = self.param('scale', initializers.ones, (self.width,))
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    normed = (x * jax.lax.rsqrt(mean_square + 1e-6)).astype(self.dtype)
    return normed * jnp.broadcast_to(scale.astype(self.dtype), x.shape)


class RelativeBias(nn.Module):
  """Bias by bucketed distance: one table a stack, shared by its layers."""

  num_heads: int
  bidirectional: bool
  dtype: str

  @nn.compact
  def __call__(self, length: int) -> Float[Array, '1 heads length length']:
    shape = (self.num_heads, NUM_BUCKETS)
    table = self.param('rel_embedding', initializers.zeros, shape)
    table = table.astype(self.dtype)
    position = jnp.arange(length)
    buckets = relative_position_bucket(
      position[None, :] - position[:, None], bidirectional=self.bidirectional
    )
    # A matmul rather than a gather: its gradient is then not a scatter.
    one_hot = jax.nn.one_hot(
      buckets.reshape(-1), NUM_BUCKETS, axis=0, dtype=table.dtype
    )
    return (table @ one_hot).reshape(1, self.num_heads, length, length)


def drop(module: nn.Module, x: Array, rate: float, shared_axis: int | None):
  """Inverted dropout; one draw is shared along `shared_axis` (T5X: length)."""
  shape = list(x.shape)
  if shared_axis is not None:
    shape[shared_axis] = 1
  keep = jax.random.bernoulli(module.make_rng('dropout'), 1 - rate, shape)
  keep = jnp.broadcast_to(keep, x.shape)
  return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


class Attention(nn.Module):
  """Multi-head attention without biases and without 1/sqrt(head_dim).

  That factor is in the initial values of the query kernel, as in T5X.
  """

  emb_dim: int
  num_heads: int
  head_dim: int
  float32_logits: bool
  dropout_rate: float

  def setup(self):
    joined = self.num_heads * self.head_dim
    self.query = Weight((self.emb_dim, joined))
    self.key = Weight((self.emb_dim, joined))
    self.value = Weight((self.emb_dim, joined))
    self.out = Weight((joined, self.emb_dim))

  def heads(
    self, x: Float[Array, 'batch length joined']
  ) -> Float[Array, 'batch heads length head_dim']:
    """Splits the joined axis into heads and moves them before the length."""
    split = x.reshape(*x.shape[:2], self.num_heads, self.head_dim)
    return split.transpose(0, 2, 1, 3)

  def keys_values(
    self, x: Float[Array, '*tokens emb'], layout: Layout = PADDED
  ):
    """Keys and values of `x`, split by heads."""
    parts = dense.project(x, self.key(), self.value())
    key, value = (self.heads(layout.spread(part)) for part in parts)
    return key, value

  def queries_keys_values(
    self, x: Float[Array, '*tokens emb'], layout: Layout = PADDED
  ):
    """The three projections of self-attention, split by heads."""
    parts = dense.project(x, self.query(), self.key(), self.value())
    query, key, value = (self.heads(layout.spread(part)) for part in parts)
    return query, key, value

  def cross(
    self,
    x: Float[Array, '*tokens emb'],
    key: Float[Array, 'batch heads memory head_dim'],
    value: Float[Array, 'batch heads memory head_dim'],
    mask: Bool[Array, '#batch 1 #joined memory'],
    layout: Layout = PADDED,
    *,
    deterministic: bool = True,
  ) -> Float[Array, '*tokens emb']:
    """Attention to keys shared by the `sequences / batch` texts of a row."""
    (query,) = dense.project(x, self.query())
    query = layout.spread(query)
    mixed = self._mixed(
      self.heads(query.reshape(key.shape[0], -1, query.shape[-1])),
      key,
      value,
      None,
      mask,
      deterministic,
    )
    return self._joined(mixed, layout, query.shape)

  def cross_step(
    self,
    x: Float[Array, 'sequences length emb'],
    transposed_key: Float[Array, 'batch heads head_dim memory'],
    value: Float[Array, 'batch heads memory head_dim'],
    mask: Bool[Array, '#batch 1 #joined memory'],
  ) -> Float[Array, 'sequences length emb']:
    """`cross` for a few queries, whose product with the keys is then faster."""
    (query,) = dense.project(
      x.reshape(value.shape[0], -1, self.emb_dim), self.query()
    )
    query = self.heads(query)
    mixed = attention.attend_transposed(
      query, transposed_key, value, mask, self._softmax_dtype(query)
    )
    return self._joined(mixed, PADDED, (*x.shape[:2], -1))

  def attend(
    self,
    query: Float[Array, 'batch heads length head_dim'],
    key: Float[Array, 'batch heads memory head_dim'],
    value: Float[Array, 'batch heads memory head_dim'],
    bias: Float[Array, '1 heads length memory'] | None,
    mask: Bool[Array, '#batch 1 #length memory'],
    layout: Layout = PADDED,
    *,
    deterministic: bool = True,
  ) -> Float[Array, '*tokens emb']:
    """Softmax over the allowed memory, the weighted values, projected out."""
    mixed = self._mixed(query, key, value, bias, mask, deterministic)
    return self._joined(mixed, layout, (len(query), query.shape[2], -1))

  def _mixed(self, query, key, value, bias, mask, deterministic):
    """Weighted values, by heads."""
    dtype = self._softmax_dtype(query)
    query, key = query.astype(dtype), key.astype(dtype)
    if self.dropout_rate and not deterministic:
      weights = attention.weights(query, key, bias, mask).astype(value.dtype)
      return attention.mix(drop(self, weights, self.dropout_rate, -2), value)
    return attention.attend(query, key, value, bias, mask)

  def _softmax_dtype(self, query):
    return jnp.float32 if self.float32_logits else query.dtype

  def _joined(self, mixed, layout, shape):
    """Heads put side by side again, as texts of `shape`, and projected out."""
    joined = mixed.transpose(0, 2, 1, 3).reshape(shape)
    (out,) = dense.project(layout.pack(joined), self.out())
    return out


class MLP(nn.Module):
  """Feed-forward block; several activations multiply (gated gelu in 1.1)."""

  emb_dim: int
  mlp_dim: int
  activations: tuple[str, ...]
  dropout_rate: float

  def setup(self):
    shape = (self.emb_dim, self.mlp_dim)
    if len(self.activations) == 1:
      self.wi = Weight(shape)
    else:
      for index in range(len(self.activations)):
        setattr(self, f'wi_{index}', Weight(shape))
    self.wo = Weight((self.mlp_dim, self.emb_dim))

  def __call__(
    self, x: Float[Array, '*tokens emb'], *, deterministic: bool = True
  ) -> Float[Array, '*tokens emb']:
    if len(self.activations) == 1:
      kernels = [self.wi()]
    else:
      kernels = [
        getattr(self, f'wi_{index}')() for index in range(len(self.activations))
      ]
    product = functools.reduce(
      jnp.multiply,
      [
        ACTIVATIONS[name](part)
        for name, part in zip(self.activations, dense.project(x, *kernels))
      ],
    )
    if self.dropout_rate and not deterministic:
      product = drop(self, product, self.dropout_rate, -2)
    (out,) = dense.project(product, self.wo())
    return out
