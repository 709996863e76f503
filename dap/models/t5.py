"""Layer 2. T5 1.1 encoder-decoder: teacher forcing, prefill and decoding.

The tree of parameters is T5X's (`encoder/layers_0/attention/query/kernel`, …),
so its checkpoints load without renaming. A prompt is encoded once, and its
cross-attention keys and values serve all `n` of its responses without copies.
Decoding carries an explicit cache, a pytree of arrays.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.nn import initializers
from jaxtyping import Array, Bool, Float, Int, Key

from dap.models import t5_layers


def own_query(
  query: Float[Array, 'emb joined'], key: Float[Array, 'emb joined']
) -> Float[Array, 'emb joined']:
  """T5X's initial cross-attention queries: independent of the keys."""
  del key
  return query


def query_from_key(
  query: Float[Array, 'emb joined'], key: Float[Array, 'emb joined']
) -> Float[Array, 'emb joined']:
  """Starts cross-attention at Wq proportional to Wk: like attends to like.

  The spread of T5X's query kernel is kept, so logits keep their scale. Learns
  preference models from scratch several times faster; not T5X's initialiser.
  """
  return key * (jnp.std(query) / jnp.std(key))


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Sizes and choices of one T5; equal values share compiled programs.

  `dtype` is the compute dtype by name; parameters are always float32.
  `cross_query_init` maps the initial (query, key) kernels of each
  cross-attention to its query kernel.
  """

  vocab_size: int
  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  num_encoder_layers: int
  num_decoder_layers: int
  mlp_activations: tuple[str, ...] = ('gelu', 'linear')
  dropout_rate: float = 0.0
  logits_via_embedding: bool = False
  float32_attention_logits: bool = False
  dtype: str = 'float32'
  cross_query_init: Callable[[Array, Array], Array] = own_query


class DecodeCache(NamedTuple):
  """What decoding remembers: prompts once, `n` growing responses each.

  Tuples have one entry a decoder layer. `bias` is the relative-position bias
  of every (query, memory) position.
  """

  cross_key: tuple[Float[Array, 'batch heads prompt head_dim'], ...]
  cross_value: tuple[Float[Array, 'batch heads prompt head_dim'], ...]
  cross_mask: Bool[Array, 'batch 1 1 prompt']
  bias: Float[Array, '1 heads length length']
  self_key: tuple[Float[Array, 'sequences heads length head_dim'], ...]
  self_value: tuple[Float[Array, 'sequences heads length head_dim'], ...]


def attention_mask(
  query: Int[Array, 'batch length'], memory: Int[Array, 'batch memory']
) -> Bool[Array, 'batch 1 length memory']:
  """True where neither position is padding (0)."""
  return ((query > 0)[:, :, None] & (memory > 0)[:, None, :])[:, None]


def same_segment(
  query: Int[Array, 'batch length'], memory: Int[Array, 'batch memory']
) -> Bool[Array, 'batch 1 length memory']:
  """True within one packed example."""
  return (query[:, :, None] == memory[:, None, :])[:, None]


def causal_mask(length: int) -> Bool[Array, '1 1 length length']:
  """True where memory is not in the future of the query."""
  return jnp.tri(length, dtype=bool)[None, None]


def shift_right(
  tokens: Int[Array, '*rows length'],
) -> Int[Array, '*rows length']:
  """Decoder inputs of target `tokens`: 0 first, the last token dropped."""
  zero = jnp.zeros_like(tokens[..., :1])
  return jnp.concatenate([zero, tokens[..., :-1]], axis=-1)


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

  def __call__(self, x, bias, mask, deterministic):
    normed = self.pre_attention_layer_norm(x)
    query, key, value = self.attention.queries_keys_values(normed)
    attended = self.attention.attend(
      query, key, value, bias, mask, deterministic=deterministic
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

  def __call__(self, x, encoded, bias, self_mask, cross_mask, deterministic):
    """All positions at once; `encoded` has one row for each n rows of `x`."""
    normed = self.pre_self_attention_layer_norm(x)
    query, key, value = self.self_attention.queries_keys_values(normed)
    attended = self.self_attention.attend(
      query, key, value, bias, self_mask, deterministic=deterministic
    )
    x += _dropout(self, attended, deterministic)
    key, value = self.encoder_decoder_attention.keys_values(encoded)
    return self.after_self_attention(x, key, value, cross_mask, deterministic)

  def after_self_attention(self, x, key, value, mask, deterministic):
    normed = self.pre_cross_attention_layer_norm(x)
    attended = self.encoder_decoder_attention.cross(
      normed, key, value, mask, deterministic=deterministic
    )
    x += _dropout(self, attended, deterministic)
    normed = self.pre_mlp_layer_norm(x)
    forward = self.mlp(normed, deterministic=deterministic)
    return x + _dropout(self, forward, deterministic)

  def cross_keys_values(self, encoded):
    return self.encoder_decoder_attention.keys_values(encoded)

  def step(self, x, cross, self_key, self_value, bias, mask, cross_mask, index):
    """One position: `x [sequences, 1, emb]`; also the two updated caches."""
    normed = self.pre_self_attention_layer_norm(x)
    query, key, value = self.self_attention.queries_keys_values(normed)
    start = (0, 0, index, 0)
    self_key = jax.lax.dynamic_update_slice(self_key, key, start)
    self_value = jax.lax.dynamic_update_slice(self_value, value, start)
    x += self.self_attention.attend(query, self_key, self_value, bias, mask)
    x = self.after_self_attention(x, *cross, cross_mask, True)
    return x, self_key, self_value


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

  def __call__(self, x, mask, deterministic):
    bias = self.relpos_bias(x.shape[1])
    x = _dropout(self, x, deterministic)
    for layer in self.layers:
      x = layer(x, bias, mask, deterministic)
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
      self.logits_dense = t5_layers.Weight(
        (config.emb_dim, config.vocab_size),
        initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal'),
      )

  def __call__(self, x, encoded, self_mask, cross_mask, deterministic):
    bias = self.relpos_bias(x.shape[1])
    x = _dropout(self, x, deterministic)
    for layer in self.layers:
      x = layer(x, encoded, bias, self_mask, cross_mask, deterministic)
    return _dropout(self, self.decoder_norm(x), deterministic)


class Transformer(nn.Module):
  """T5 1.1; each public method is pure in (params, arrays)."""

  config: T5Config

  def setup(self):
    config = self.config
    self.token_embedder = t5_layers.Weight(
      (config.vocab_size, config.emb_dim), initializers.normal(1.0), 'embedding'
    )
    self.encoder = Encoder(config)
    self.decoder = Decoder(config)

  def _embed(self, tokens: Int[Array, 'batch length']):
    return self.token_embedder()[tokens].astype(self.config.dtype)

  def encode(
    self,
    tokens: Int[Array, 'batch prompt'],
    segment_ids: Int[Array, 'batch prompt'] | None = None,
    *,
    deterministic: bool = True,
  ) -> Float[Array, 'batch prompt emb']:
    """States of right-padded (or, with segment ids, packed) prompts."""
    mask = attention_mask(tokens, tokens)
    if segment_ids is not None:
      mask &= same_segment(segment_ids, segment_ids)
    return self.encoder(self._embed(tokens), mask, deterministic)

  def decode_hidden(
    self,
    encoded: Float[Array, 'batch prompt emb'],
    prompt_tokens: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
    *,
    deterministic: bool = True,
  ) -> Float[Array, 'batch n length emb']:
    """States that predict each token of `n` responses, by teacher forcing.

    Position t has seen the prompt and the tokens before t. States on padding
    are finite and mean nothing.
    """
    return self.read(
      encoded,
      prompt_tokens,
      shift_right(responses),
      deterministic=deterministic,
    )

  def read(
    self,
    encoded: Float[Array, 'batch prompt emb'],
    prompt_tokens: Int[Array, 'batch prompt'],
    inputs: Int[Array, 'batch n length'],
    *,
    deterministic: bool = True,
  ) -> Float[Array, 'batch n length emb']:
    """States after each of the decoder `inputs` themselves, not shifted."""
    states = self.decoder(
      self._embed(inputs.reshape(-1, inputs.shape[-1])),
      encoded,
      causal_mask(inputs.shape[-1]),
      (prompt_tokens > 0)[:, None, None, :],
      deterministic,
    )
    return states.reshape(*inputs.shape, -1)

  def prefill(
    self,
    encoded: Float[Array, 'batch prompt emb'],
    prompt_tokens: Int[Array, 'batch prompt'],
    *,
    num_samples: int,
    length: int,
  ) -> DecodeCache:
    """Cache for `num_samples` responses of up to `length` tokens a prompt."""
    config = self.config
    cross = [layer.cross_keys_values(encoded) for layer in self.decoder.layers]
    keys, values = zip(*cross, strict=True)
    shape = (encoded.shape[0] * num_samples, config.num_heads, length)
    empty = jnp.zeros((*shape, config.head_dim), config.dtype)
    return DecodeCache(
      cross_key=keys,
      cross_value=values,
      cross_mask=(prompt_tokens > 0)[:, None, None, :],
      bias=self.decoder.relpos_bias(length),
      self_key=(empty,) * len(cross),
      self_value=(empty,) * len(cross),
    )

  def decode_step(
    self,
    cache: DecodeCache,
    tokens: Int[Array, 'batch n'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch n emb'], DecodeCache]:
    """States that predict the token at `index` after `tokens` (0 at first)."""
    length = cache.bias.shape[-1]
    bias = jax.lax.dynamic_slice_in_dim(cache.bias, index, 1, axis=2)
    mask = (jnp.arange(length) <= index)[None, None, None, :]
    x = self._embed(tokens.reshape(-1, 1))
    keys, values = [], []
    for number, layer in enumerate(self.decoder.layers):
      x, key, value = layer.step(
        x,
        (cache.cross_key[number], cache.cross_value[number]),
        cache.self_key[number],
        cache.self_value[number],
        bias,
        mask,
        cache.cross_mask,
        index,
      )
      keys.append(key)
      values.append(value)
    states = self.decoder.decoder_norm(x).reshape(*tokens.shape, -1)
    return states, cache._replace(
      self_key=tuple(keys), self_value=tuple(values)
    )

  def __call__(
    self,
    encoder_input_tokens: Int[Array, 'batch prompt'],
    decoder_input_tokens: Int[Array, 'batch length'],
    decoder_target_tokens: Int[Array, 'batch length'],
    encoder_segment_ids: Int[Array, 'batch prompt'] | None = None,
    decoder_segment_ids: Int[Array, 'batch length'] | None = None,
    encoder_positions: Int[Array, 'batch prompt'] | None = None,
    decoder_positions: Int[Array, 'batch length'] | None = None,
    *,
    deterministic: bool = True,
  ) -> Float[Array, 'batch length vocab']:
    """Logits of every position with all of T5X's masks, as T5X computes them.

    Positions are taken for the sake of packed batches and not read: relative
    distances within a segment do not depend on where it lies.
    """
    del encoder_positions, decoder_positions
    encoded = self.encode(
      encoder_input_tokens, encoder_segment_ids, deterministic=deterministic
    )
    target, source = decoder_target_tokens, encoder_input_tokens
    self_mask = attention_mask(target, target) & causal_mask(target.shape[1])
    cross_mask = attention_mask(target, source)
    if decoder_segment_ids is not None:
      self_mask &= same_segment(decoder_segment_ids, decoder_segment_ids)
      assert encoder_segment_ids is not None
      cross_mask &= same_segment(decoder_segment_ids, encoder_segment_ids)
    states = self.decoder(
      self._embed(decoder_input_tokens),
      encoded,
      self_mask,
      cross_mask,
      deterministic,
    )
    states = states.astype(jnp.float32)
    return t5_layers.project(states, self.output_kernel())

  def output_kernel(self) -> Float[Array, 'emb vocab']:
    """Float32 kernel from states to logits; the embedding's when tied."""
    if not self.config.logits_via_embedding:
      return self.decoder.logits_dense()
    return self.token_embedder().T / jnp.sqrt(self.config.emb_dim)


def init_params(config: T5Config, key: Key[Array, '']) -> dict[str, Any]:
  """Initial parameters, float32, under T5X's names and distributions."""
  return _init(config)(key)


@functools.cache
def _init(config: T5Config):
  def init(key):
    tokens = jnp.zeros((1, 1), jnp.int32)
    params = Transformer(config).init(key, tokens, tokens, tokens)['params']
    for number in range(config.num_decoder_layers):
      cross = params['decoder'][f'layers_{number}']['encoder_decoder_attention']
      query, key = cross['query']['kernel'], cross['key']['kernel']
      cross['query']['kernel'] = config.cross_query_init(query, key)
    return params

  return jax.jit(init)


_AXES = {
  'embedding': ('vocab', 'embed'),
  'rel_embedding': ('heads', 'relpos_buckets'),
  'scale': ('embed',),
  'query': ('embed', 'joined_kv'),
  'key': ('embed', 'joined_kv'),
  'value': ('embed', 'joined_kv'),
  'out': ('joined_kv', 'embed'),
  'wi': ('embed', 'mlp'),
  'wi_0': ('embed', 'mlp'),
  'wi_1': ('embed', 'mlp'),
  'wo': ('mlp', 'embed'),
  'logits_dense': ('embed', 'vocab'),
}


def logical_axes(config: T5Config) -> dict[str, Any]:
  """The tree of parameters with T5X's logical axis names for leaves."""
  shapes = jax.eval_shape(_init(config), jax.random.key(0))
  flat = traverse_util.flatten_dict(shapes)
  return traverse_util.unflatten_dict(
    {
      path: _AXES[path[-2] if path[-1] == 'kernel' else path[-1]]
      for path in flat
    }
  )
