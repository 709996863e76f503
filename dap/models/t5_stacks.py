"""Layer 2. The encoder and the decoder of T5 1.1, layer by layer."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array

from dap import errors
from dap.losses import ranges
from dap.losses.ranges import Dropout, Size
from dap.models import dtypes, t5_initial, t5_layers


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Sizes and choices of one T5; equal values share compiled programs.

  `dtype` is the compute dtype, float32 or bfloat16 in any spelling, and then
  its name; parameters are always float32. `dropout_rate` acts in updates whose
  loss compares with no reference, see `dropping`.
  `cross_query_init` maps the initial (query, key) kernels of each
  cross-attention to its query kernel.
  """

  vocab_size: Size
  emb_dim: Size
  num_heads: Size
  head_dim: Size
  mlp_dim: Size
  num_encoder_layers: Size
  num_decoder_layers: Size
  mlp_activations: tuple[str, ...] = ('gelu', 'linear')
  dropout_rate: Dropout = 0.0
  logits_via_embedding: bool = False
  float32_attention_logits: bool = False
  dtype: dtypes.Spelling = 'float32'
  cross_query_init: Callable[[Array, Array], Array] = t5_initial.own_query

  def __post_init__(self):
    ranges.check(self)
    name = dtypes.name_of(self.dtype, 'The dtype that a T5 computes in')
    object.__setattr__(self, 'dtype', name)
    unknown = set(self.mlp_activations) - set(t5_layers.ACTIVATIONS)
    if unknown or not self.mlp_activations:
      raise errors.InputError(
        'Feed-forward blocks of a T5 have one or several of the activations'
        f' {", ".join(t5_layers.ACTIVATIONS)}; got {self.mlp_activations}.'
        " Bind mlp_activations=('gelu', 'linear') for T5 1.1, ('relu',) for"
        " T5 1.0, ('silu', 'linear') for UL2."
      )


def _attention(config: T5Config) -> t5_layers.Attention:
  return t5_layers.Attention(
    config.emb_dim,
    config.num_heads,
    config.head_dim,
    config.float32_attention_logits,
    config.dropout_rate,
  )


def _mlp(config: T5Config) -> t5_layers.MLP:
  return t5_layers.MLP(
    config.emb_dim, config.mlp_dim, config.mlp_activations, config.dropout_rate
  )


def _norm(config: T5Config) -> t5_layers.RMSNorm:
  return t5_layers.RMSNorm(config.emb_dim, config.dtype)


def _dropout(module, x, deterministic: bool, shared_axis: int | None = -2):
  rate = module.config.dropout_rate
  if deterministic or not rate:
    return x
  return t5_layers.drop(module, x, rate, shared_axis)


class EncoderLayer(nn.Module):
  """Pre-norm self-attention and feed-forward block."""

  config: T5Config

  def setup(self):
    self.pre_attention_layer_norm = _norm(self.config)
    self.attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)

  def __call__(self, x, bias, mask, layout, deterministic):
    normed = self.pre_attention_layer_norm(x)
    query, key, value = self.attention.queries_keys_values(normed, layout)
    attended = self.attention.attend(
      query, key, value, bias, mask, layout, deterministic=deterministic
    )
    x += _dropout(self, attended, deterministic)
    normed = self.pre_mlp_layer_norm(x)
    forward = self.mlp(normed, deterministic=deterministic)
    return x + _dropout(self, forward, deterministic)


class DecoderLayer(nn.Module):
  """Pre-norm self-attention, cross-attention and feed-forward block."""

  config: T5Config

  def setup(self):
    self.pre_self_attention_layer_norm = _norm(self.config)
    self.self_attention = _attention(self.config)
    self.pre_cross_attention_layer_norm = _norm(self.config)
    self.encoder_decoder_attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)

  def __call__(self, x, encoded, bias, masks, layouts, deterministic):
    """All positions at once; `encoded` has one row for each n rows of `x`.

    Masks are of self- and cross-attention, layouts of prompts and responses.
    """
    self_mask, cross_mask = masks
    prompts, layout = layouts
    normed = self.pre_self_attention_layer_norm(x)
    query, key, value = self.self_attention.queries_keys_values(normed, layout)
    attended = self.self_attention.attend(
      query, key, value, bias, self_mask, layout, deterministic=deterministic
    )
    x += _dropout(self, attended, deterministic)
    key, value = self.cross_keys_values(encoded, prompts)
    normed = self.pre_cross_attention_layer_norm(x)
    attended = self.encoder_decoder_attention.cross(
      normed, key, value, cross_mask, layout, deterministic=deterministic
    )
    x += _dropout(self, attended, deterministic)
    normed = self.pre_mlp_layer_norm(x)
    forward = self.mlp(normed, deterministic=deterministic)
    return x + _dropout(self, forward, deterministic)

  def cross_keys_values(self, encoded, layout):
    """What cross-attention reads of the prompts."""
    return self.encoder_decoder_attention.keys_values(encoded, layout)

  def step(self, x, cross, cross_mask, cache, bias, mask, index):
    """One position: `x [sequences, 1, emb]`, and the updated cache.

    `cross` and `cache` are (keys, values): of the prompts, whose keys lie
    transposed, and of the responses up to here.
    """
    normed = self.pre_self_attention_layer_norm(x)
    query, key, value = self.self_attention.queries_keys_values(normed)
    start = (0, 0, index, 0)
    keys = jax.lax.dynamic_update_slice(cache[0], key, start)
    values = jax.lax.dynamic_update_slice(cache[1], value, start)
    x += self.self_attention.attend(query, keys, values, bias, mask)
    normed = self.pre_cross_attention_layer_norm(x)
    x += self.encoder_decoder_attention.cross_step(
      normed, cross[0], cross[1], cross_mask
    )
    return x + self.mlp(self.pre_mlp_layer_norm(x)), (keys, values)


class Encoder(nn.Module):
  """Embedded prompts to normed states."""

  config: T5Config

  def setup(self):
    config = self.config
    self.relpos_bias = t5_layers.RelativeBias(
      config.num_heads, bidirectional=True, dtype=config.dtype
    )
    self.layers = [
      EncoderLayer(config) for _ in range(config.num_encoder_layers)
    ]
    self.encoder_norm = _norm(config)

  def __call__(self, x, mask, layout, deterministic):
    bias = self.relpos_bias(mask.shape[-1])
    x = _dropout(self, x, deterministic)
    for layer in self.layers:
      x = layer(x, bias, mask, layout, deterministic)
    return _dropout(self, self.encoder_norm(x), deterministic, None)


class Decoder(nn.Module):
  """Embedded decoder inputs to normed states, and T5X's output kernel."""

  config: T5Config

  def setup(self):
    config = self.config
    self.relpos_bias = t5_layers.RelativeBias(
      config.num_heads, bidirectional=False, dtype=config.dtype
    )
    self.layers = [
      DecoderLayer(config) for _ in range(config.num_decoder_layers)
    ]
    self.decoder_norm = _norm(config)
    if not config.logits_via_embedding:
      self.logits_dense = t5_layers.Weight((config.emb_dim, config.vocab_size))

  def __call__(self, x, encoded, masks, layouts, deterministic):
    bias = self.relpos_bias(masks[0].shape[-1])
    x = _dropout(self, x, deterministic)
    for layer in self.layers:
      x = layer(x, encoded, bias, masks, layouts, deterministic)
    return _dropout(self, self.decoder_norm(x), deterministic)
