"""Layer 5. What a gradient keeps of the forward pass, counted layer by layer.

`memory.saved` asks jax, which takes a second for each program; this takes none.
The counts are those of `dap/models/t5_stacks.py` without dropout, by the axis
that an array is as wide as; `tests/kept_test.py` holds both together. Another
family needs counts of its own.
"""

from typing import cast

import jax.numpy as jnp

from dap.algorithms.run import Run
from dap.losses import heads
from dap.memory import Saved
from dap.models.counts import PairReading
from dap.models.t5 import T5, T5Config
from dap.models.t5_layers import NUM_BUCKETS
from dap.training import rollouts

# Arrays as wide as its block that the gradient of an activation keeps.
_OF_ACTIVATION = {'gelu': 5, 'relu': 1, 'linear': 0}


def counted(run: Run, prompt_length: int, length: int) -> Saved:
  """What the gradient of a microbatch keeps, in bytes, from sizes alone.

  Args:
    run: a `train.Run`.
    prompt_length: tokens of a prompt.
    length: tokens of a response.
  """
  algorithm = run.algorithm
  _, n = rollouts.group_shape(algorithm.sampler, algorithm.pairing)
  read = run.model.pair_reading(prompt_length, length).of_group(n)
  config = cast(T5, run.model.language_model).config
  wide, row = _encoder(config, read)
  more_wide, more_row = _decoder(config, read)
  logits = read.scored * config.vocab_size
  if logits * run.rows_of_update <= run.num_microbatches * heads.MAX_LOGITS:
    more_row += 4 * logits  # else they are computed again
  fixed = _fixed(config, read)
  if read.head:
    fixed += 4 * config.emb_dim * config.vocab_size
  return Saved(fixed, row + more_row, wide + more_wide)


def _encoder(config: T5Config, read: PairReading) -> tuple[float, float]:
  """(wide, row) of all contexts of a pair."""
  size, layers = jnp.dtype(config.dtype).itemsize, config.num_encoder_layers
  tokens = read.contexts * read.context_length
  # A norm keeps what it read in float32 and what it made, twice.
  wide = tokens * layers * (4 * (4 + size) + 2 * size)
  wide += tokens * 2 * (4 + size)  # the last norm
  scores = config.num_heads * read.context_length
  row = tokens * layers * size * (5 * _joined(config) + _mlp(config) + scores)
  return config.emb_dim * wide, row


def _decoder(config: T5Config, read: PairReading) -> tuple[float, float]:
  """(wide, row) of all texts of a pair, with keys and values of contexts."""
  size, layers = jnp.dtype(config.dtype).itemsize, config.num_decoder_layers
  tokens = read.texts * read.length
  keys = read.contexts * read.context_length
  wide = tokens * layers * (6 * (4 + size) + 3 * size) + keys * layers * size
  wide += tokens * (2 * (4 + size) + size)
  scores = config.num_heads * (read.length + read.context_length)
  row = tokens * (8 * _joined(config) + _mlp(config) + scores)
  row = layers * size * (row + keys * 2 * _joined(config))
  return config.emb_dim * wide, row


def _fixed(config: T5Config, read: PairReading) -> float:
  """Kernels as they are multiplied, and the tables of relative positions."""
  size, d = jnp.dtype(config.dtype).itemsize, config.emb_dim
  mlp = (len(config.mlp_activations) + 1) * d * config.mlp_dim
  attention = 4 * d * _joined(config)
  kernels = config.num_encoder_layers * (attention + mlp)
  kernels += config.num_decoder_layers * (2 * attention + mlp)
  pairs = read.context_length**2 + read.length**2
  tables = (NUM_BUCKETS + config.num_heads) * pairs
  return float(size * (kernels + tables))


def _joined(config: T5Config) -> int:
  return config.num_heads * config.head_dim


def _mlp(config: T5Config) -> int:
  """Numbers that a block keeps of each token, those of its width."""
  names = config.mlp_activations
  gates = 2 if len(names) > 1 else 0  # a product keeps both factors
  arrays = 1 + gates + sum(_OF_ACTIVATION.get(name, 5) for name in names)
  return arrays * config.mlp_dim
