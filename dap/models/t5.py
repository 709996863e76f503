"""Layer 2. The T5 family: a `LanguageModel` of encoder and decoder."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from dap import errors
from dap.models import packing, t5_counts, t5_initial
from dap.models.counts import Decoding, LayerBytes, Operations
from dap.models.packing import Room
from dap.models.t5_initial import own_query, query_from_key
from dap.models.t5_stacks import T5Config
from dap.models.t5_transformer import DecodeCache, Transformer, shift_right
from dap.records import PADDING

__all__ = [
  'T5',
  'DecodeCache',
  'T5Config',
  'Transformer',
  'apply',
  'init_params',
  'logical_axes',
  'own_query',
  'query_from_key',
  'shift_right',
]

Encoded = Float[Array, '*tokens emb']


@dataclasses.dataclass(frozen=True)
class T5:
  """T5 1.0 or 1.1, and what is built like them: mT5, ByT5, Flan.

  The memory of prompts is the encoder's states; see `LanguageModel`.

  Attributes:
    config: sizes and choices.
    room: of the batches that it reads, see `packing`; a training gives it.
    dropout_key: what is dropped where responses are scored, see `dropping`; an
      update gives it. Nothing when None, and never from samples.
  """

  config: T5Config
  room: Room = Room()
  dropout_key: Key[Array, ''] | None = None

  def packed(self, room: Room) -> 'T5':
    """The same, of batches with this room."""
    return dataclasses.replace(self, room=room)

  @property
  def dropout_rate(self) -> float:
    """The share of values that an update drops."""
    return self.config.dropout_rate

  def dropping(self, key: Key[Array, '']) -> 'T5':
    """The same, dropping by this key."""
    return dataclasses.replace(self, dropout_key=key)

  @property
  def vocab_size(self) -> int:
    """Rows of the embedding and of logits."""
    return self.config.vocab_size

  @property
  def emb_dim(self) -> int:
    """Width of the states."""
    return self.config.emb_dim

  def init(self, key: Key[Array, '']) -> PyTree[Array]:
    """Initial parameters under T5X's names."""
    return init_params(self.config, key)

  def logical_axes(self) -> PyTree:
    """T5X's logical axis names of each parameter."""
    return logical_axes(self.config)

  def encode(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
  ) -> Encoded:
    """States of the prompts."""
    layout, _ = self._layouts(prompts)
    rest = self._dropout()
    return self._apply(params, 'encode', prompts, layout=layout, **rest)

  def decode_hidden(
    self,
    params: PyTree,
    memory: Encoded,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length emb']:
    """States that predict each token, by teacher forcing."""
    arrays = memory, prompts, responses
    rest = {'layouts': self._layouts(prompts, responses)}
    rest |= self._dropout()
    return self._apply(params, 'decode_hidden', *arrays, **rest)

  def read(
    self,
    params: PyTree,
    memory: Encoded,
    prompts: Int[Array, 'batch prompt'],
    inputs: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length emb']:
    """States after each of the decoder's inputs, not shifted."""
    arrays = memory, prompts, inputs
    rest = {'layouts': self._layouts(prompts, inputs)}
    rest |= self._dropout()
    return self._apply(params, 'read', *arrays, **rest)

  def prefill(
    self,
    params: PyTree,
    memory: Encoded,
    prompts: Int[Array, 'batch prompt'],
    *,
    num_samples: int,
    length: int,
  ) -> DecodeCache:
    """Cross-attention's keys and values, and room for the responses'."""
    sizes = {'num_samples': num_samples, 'length': length}
    layout, _ = self._layouts(prompts)
    arrays = memory, prompts
    return self._apply(params, 'prefill', *arrays, layout=layout, **sizes)

  def decode_step(
    self,
    params: PyTree,
    cache: DecodeCache,
    tokens: Int[Array, 'batch n'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch n emb'], DecodeCache]:
    """States after `tokens`; padding is what a decoder of T5 starts from."""
    return self._apply(params, 'decode_step', cache, tokens, index)

  def output_kernel(self, params: PyTree) -> Float[Array, 'emb vocab']:
    """Of the vocabulary's head, or the scaled embedding's."""
    return self._apply(params, 'output_kernel')

  def operations(self, prompt_length: int, response_length: int) -> Operations:
    """Attention included; gated or not."""
    return t5_counts.operations(self.config, prompt_length, response_length)

  def decoding(self) -> Decoding:
    """Bytes of the decoder's layers, the head, and a token's cache."""
    return t5_counts.decoding(self.config)

  def layer_bytes(self, length: int) -> LayerBytes:
    """The larger of attention's and the feed-forward block's, and states."""
    return t5_counts.layer_bytes(self.config, length)

  def kernel_bytes(self) -> int:
    """Embedding and head are read in float32 and have no copy."""
    leaves = jax.tree.leaves(_shapes(self.config))
    number = sum(int(np.prod(leaf.shape)) for leaf in leaves)
    return t5_counts.kernel_bytes(self.config, number)

  @property
  def depth(self) -> tuple[int, ...]:
    """Layers of encoder and decoder."""
    return self.config.num_encoder_layers, self.config.num_decoder_layers

  def with_depth(self, depth: tuple[int, ...]) -> 'T5':
    """The same with so many layers in encoder and decoder."""
    encoder, decoder = depth
    config = dataclasses.replace(
      self.config, num_encoder_layers=encoder, num_decoder_layers=decoder
    )
    return dataclasses.replace(self, config=config)

  def _apply(self, params, method, *arrays, **rest):
    return apply(self.config, params, method, *arrays, **rest)

  def _layouts(self, prompts, responses=None):
    """Of prompts, and of responses where there are any."""
    layout = packing.layout(prompts > PADDING, self.room.prompts)
    if responses is None:
      return layout, packing.PADDED
    real = responses.reshape(-1, responses.shape[-1]) > PADDING
    return layout, packing.layout(real, self.room.responses)

  def _dropout(self) -> dict[str, Any]:
    """Flax's arguments for dropout with the key, or for none."""
    key = self.dropout_key
    if key is not None and self.room != Room():
      raise errors.InputError(
        'Dropout is drawn by text, and packed tokens know no texts. Train'
        ' without packing (gin/packing/padded.gin), or without dropout.'
      )
    keys = {} if key is None else {'dropout': key}
    return {'rngs': keys, 'deterministic': key is None}


def apply(
  config: T5Config, params: PyTree, method: str, *args, **kwargs
) -> Any:  # what the method returns
  """Calls a method of `Transformer(config)` by name with these parameters."""
  model = Transformer(config)
  return model.apply({'params': params}, *args, method=method, **kwargs)


def init_params(config: T5Config, key: Key[Array, '']) -> PyTree[Array]:
  """Initial parameters, float32, under T5X's names and distributions."""
  params = t5_initial.draw(_shapes(config), key, config.head_dim)
  for number in range(config.num_decoder_layers):
    cross = params['decoder'][f'layers_{number}']['encoder_decoder_attention']
    cross['query']['kernel'] = config.cross_query_init(
      cross['query']['kernel'], cross['key']['kernel']
    )
  return params


def logical_axes(config: T5Config) -> PyTree:
  """The tree of parameters with T5X's logical axis names for leaves."""
  return t5_initial.logical_axes(_shapes(config))


@functools.cache
def _shapes(config: T5Config) -> PyTree[jax.ShapeDtypeStruct]:
  tokens = jnp.zeros((1, 1), jnp.int32)
  init = lambda key: Transformer(config).init(key, tokens, tokens, tokens)
  return jax.eval_shape(init, jax.random.key(0))['params']
