"""Layer 2. What a T5 costs: operations and bytes, from its sizes alone."""

import jax.numpy as jnp

from dap.models.counts import Decoding, LayerBytes, Operations
from dap.models.t5_stacks import T5Config


def operations(
  config: T5Config, prompt_length: int, response_length: int
) -> Operations:
  """Counts of a T5; gated or not, attention included."""
  inner, d = _joined(config), config.emb_dim
  mlp = _mlp_kernels(config) * d * config.mlp_dim
  p, r = prompt_length, response_length
  encoder = 2 * p * (4 * d * inner + mlp) + 4 * p * p * inner
  decoder = 2 * r * (6 * d * inner + mlp) + 4 * r * (r + p) * inner
  return Operations(
    config.num_encoder_layers * encoder,
    config.num_decoder_layers * 2 * p * 2 * d * inner,
    config.num_decoder_layers * decoder,
    2 * r * d * config.vocab_size,
  )


def decoding(config: T5Config) -> Decoding:
  """Layers in the compute dtype, the float32 head, and a token's cache."""
  size, inner, d = itemsize(config), _joined(config), config.emb_dim
  mlp = _mlp_kernels(config) * d * config.mlp_dim
  layers = config.num_decoder_layers
  weights = size * layers * (6 * d * inner + mlp) + 4 * d * config.vocab_size
  return Decoding(weights, size * layers * 2 * inner)


def layer_bytes(config: T5Config, length: int) -> LayerBytes:
  """Of attention's weights or the feed-forward block, and of states."""
  attention = 2 * config.num_heads * length**2
  mlp = _mlp_kernels(config) * length * config.mlp_dim
  size = itemsize(config)
  return LayerBytes(
    size * max(attention, mlp), size * 4 * length * config.emb_dim
  )


def kernel_bytes(config: T5Config, num_parameters: int) -> int:
  """Kernels of the layers in the compute dtype, where that is another."""
  if itemsize(config) == 4:
    return 0
  embeddings = 1 if config.logits_via_embedding else 2
  outside = embeddings * config.vocab_size * config.emb_dim
  return itemsize(config) * (num_parameters - outside)


def itemsize(config: T5Config) -> int:
  """Bytes of a number in the compute dtype."""
  return jnp.dtype(config.dtype).itemsize


def _joined(config: T5Config) -> int:
  """Width of all heads together."""
  return config.num_heads * config.head_dim


def _mlp_kernels(config: T5Config) -> int:
  """Kernels of a feed-forward block."""
  return len(config.mlp_activations) + 1
