"""Layer 2. T5 1.1 encoder-decoder: teacher forcing, prefill and decoding.

The tree of parameters is T5X's (`encoder/layers_0/attention/query/kernel`, …),
so its checkpoints load without renaming. A prompt is encoded once, and its
cross-attention keys and values serve all `n` of its responses without copies.
Decoding carries an explicit cache, a pytree of arrays.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dap.models import dense, t5_layers
from dap.models.packing import PADDED, Layout, Layouts
from dap.models.t5_stacks import Decoder, Encoder, T5Config
from dap.records import PADDING


class DecodeCache(NamedTuple):
  """What decoding remembers: prompts once, `n` growing responses each.

  Tuples have one entry a decoder layer. `bias` is the relative-position bias
  of every (query, memory) position. The keys of the prompts lie transposed.
  """

  cross_key: tuple[Float[Array, 'batch heads head_dim prompt'], ...]
  cross_value: tuple[Float[Array, 'batch heads prompt head_dim'], ...]
  cross_mask: Bool[Array, 'batch 1 1 prompt']
  bias: Float[Array, '1 heads length length']
  self_key: tuple[Float[Array, 'sequences heads length head_dim'], ...]
  self_value: tuple[Float[Array, 'sequences heads length head_dim'], ...]


def attention_mask(
  query: Int[Array, 'batch length'], memory: Int[Array, 'batch memory']
) -> Bool[Array, 'batch 1 length memory']:
  """True where neither position is padding."""
  return ((query > PADDING)[:, :, None] & (memory > PADDING)[:, None, :])[
    :, None
  ]


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
  """Decoder inputs of target `tokens`: padding, and all but the last."""
  start = jnp.full_like(tokens[..., :1], PADDING)
  return jnp.concatenate([start, tokens[..., :-1]], axis=-1)


class Transformer(nn.Module):
  """T5 1.1; each public method is pure in (params, arrays)."""

  config: T5Config

  def setup(self):
    config = self.config
    self.token_embedder = t5_layers.Weight(
      (config.vocab_size, config.emb_dim), 'embedding'
    )
    self.encoder = Encoder(config)
    self.decoder = Decoder(config)

  def _embed(self, tokens: Int[Array, '*tokens']):
    return self.token_embedder()[tokens].astype(self.config.dtype)

  def encode(
    self,
    tokens: Int[Array, 'batch prompt'],
    segment_ids: Int[Array, 'batch prompt'] | None = None,
    *,
    layout: Layout = PADDED,
    deterministic: bool = True,
  ) -> Float[Array, '*tokens emb']:
    """States of right-padded prompts (or, with segment ids, T5X's packed ones),
    as they lie in the layout."""
    mask = attention_mask(tokens, tokens)
    if segment_ids is not None:
      mask &= same_segment(segment_ids, segment_ids)
    x = self._embed(layout.pack(tokens))
    return self.encoder(x, mask, layout, deterministic)

  def decode_hidden(
    self,
    encoded: Float[Array, '*tokens emb'],
    prompt_tokens: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
    *,
    layouts: Layouts = (PADDED, PADDED),
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
      layouts=layouts,
      deterministic=deterministic,
    )

  def read(
    self,
    encoded: Float[Array, '*tokens emb'],
    prompt_tokens: Int[Array, 'batch prompt'],
    inputs: Int[Array, 'batch n length'],
    *,
    layouts: Layouts = (PADDED, PADDED),
    deterministic: bool = True,
  ) -> Float[Array, 'batch n length emb']:
    """States after each of the decoder `inputs` themselves, not shifted."""
    causal = causal_mask(inputs.shape[-1])
    real = (prompt_tokens > PADDING)[:, None, None, :]
    _, layout = layouts
    x = self._embed(layout.pack(inputs.reshape(-1, inputs.shape[-1])))
    states = self.decoder(x, encoded, (causal, real), layouts, deterministic)
    return layout.spread(states).reshape(*inputs.shape, -1)

  def prefill(
    self,
    encoded: Float[Array, '*tokens emb'],
    prompt_tokens: Int[Array, 'batch prompt'],
    *,
    num_samples: int,
    length: int,
    layout: Layout = PADDED,
  ) -> DecodeCache:
    """Cache for `num_samples` responses of up to `length` tokens a prompt."""
    config = self.config
    cross = [
      layer.cross_keys_values(encoded, layout) for layer in self.decoder.layers
    ]
    keys, values = zip(*cross, strict=True)
    shape = (len(prompt_tokens) * num_samples, config.num_heads, length)
    empty = jnp.zeros((*shape, config.head_dim), config.dtype)
    return DecodeCache(
      cross_key=tuple(jnp.swapaxes(key, 2, 3) for key in keys),
      cross_value=values,
      cross_mask=(prompt_tokens > PADDING)[:, None, None, :],
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
    """States that predict tokens at `index` after `tokens` (padding first)."""
    length = cache.bias.shape[-1]
    bias = jax.lax.dynamic_slice_in_dim(cache.bias, index, 1, axis=2)
    mask = (jnp.arange(length) <= index)[None, None, None, :]
    x = self._embed(tokens.reshape(-1, 1))
    caches = []
    for number, layer in enumerate(self.decoder.layers):
      x, cache_of_layer = layer.step(
        x,
        (cache.cross_key[number], cache.cross_value[number]),
        cache.cross_mask,
        (cache.self_key[number], cache.self_value[number]),
        bias,
        mask,
        index,
      )
      caches.append(cache_of_layer)
    keys, values = zip(*caches, strict=True)
    states = self.decoder.decoder_norm(x).reshape(*tokens.shape, -1)
    return states, cache._replace(self_key=keys, self_value=values)

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
      (self_mask, cross_mask),
      (PADDED, PADDED),
      deterministic,
    )
    states = states.astype(jnp.float32)
    (logits,) = dense.project(states, self.output_kernel())
    return logits

  def output_kernel(self) -> Float[Array, 'emb vocab']:
    """Float32 kernel from states to logits; the embedding's when tied."""
    if not self.config.logits_via_embedding:
      return self.decoder.logits_dense()
    return self.token_embedder().T / jnp.sqrt(self.config.emb_dim)
