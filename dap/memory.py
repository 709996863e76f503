"""Layer 5. Memory of trainings that are too large to compile here, estimated.

State and parameters are counted from their shapes and shardings. What a
gradient keeps of the forward pass is what jax's own partial evaluation keeps,
at one and two layers and two sizes of batch; layers are alike and rows are
alike, so the rest follows. XLA keeps less where it computes things again and
more where it cannot reuse a buffer: `tests/memory_test.py` holds both together.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dap import costs, partitioning
from dap.losses import heads
from dap.models.heads import JointPreferenceModel
from dap.models.policy import Policy
from dap.models.t5 import T5Config
from dap.training import steps

_ROWS = 4  # of the smaller batch that is looked at


class Memory(NamedTuple):
  """Bytes on each device, by what they hold.

  Attributes:
    state: parameters and optimizer.
    held: parameters of the start (and reference) and of the annotator.
    update: gradients and what they need of the forward pass.
    rollout: caches and transient values of sampling, judging and scoring.
  """

  state: float
  held: float
  update: float
  rollout: float

  @property
  def total(self) -> float:
    """The most that is there at one time."""
    return self.state + self.held + max(self.update, self.rollout)


class Saved(NamedTuple):
  """Bytes that a gradient keeps of the forward pass.

  Attributes:
    fixed: whatever the batch: kernels in the compute dtype, for one.
    row: for each row, with an axis that the mesh's model axis splits.
    wide: for each row, as wide as the model: whole on every model device.
  """

  fixed: float
  row: float
  wide: float


def traced(run: Any, prompt_length: int, length: int) -> Saved:
  """What the gradient of a microbatch keeps, as jax says."""
  return saved(_alike(run), prompt_length, length)


def estimate(
  run: Any,
  mesh_shape: tuple[int, int],
  prompt_length: int,
  length: int,
  keeps: Callable[[Any, int, int], Saved] = traced,
) -> Memory:
  """Memory of a `train.Run` on each device of a (data, model) mesh.

  Args:
    run: the choices.
    mesh_shape: devices along (data, model).
    prompt_length: tokens of a prompt.
    length: tokens of a response.
    keeps: what a gradient keeps; `traced` takes a second for each program,
      `kept.counted` none.
  """
  mesh = partitioning.abstract_mesh(mesh_shape)
  model, data = run.model, mesh_shape[0]
  params = params_bytes(model, mesh)
  state = _state_bytes(model, run.optimizer, mesh)
  rows = run.batch_size / run.num_microbatches / data
  kept = keeps(run, prompt_length, length)
  gradients = params * (1 if run.num_microbatches == 1 else 2)
  update = (
    gradients
    + (kept.fixed + rows * kept.row) / mesh_shape[1]
    + rows * kept.wide
  )
  held, rollout = params, 0.0
  if run.algorithm.samples:
    judge = run.algorithm.annotator.model
    held += params_bytes(judge, mesh)
    if not run.algorithm.refresh(1):
      held += params  # a copy that goes on sampling
    rows = run.batch_size / data
    rollout = max(
      sampling_bytes(model.config, rows, prompt_length, length, mesh_shape[1]),
      scoring_bytes(model.config, rows, prompt_length, length, mesh_shape[1]),
      judging_bytes(judge, rows, prompt_length, length, mesh_shape[1]),
    )
  return Memory(state, held, update, rollout)


@functools.cache
def _state_bytes(
  model: Any, optimizer: Any, mesh: partitioning.AnyMesh
) -> float:
  """Of parameters and optimizer on each device."""
  state = jax.eval_shape(
    lambda params: steps.new_state(params, optimizer), costs.shapes(model)
  )
  return _sharded_bytes(state, steps.state_sharding(model, optimizer, mesh))


@functools.cache
def params_bytes(model: Any, mesh: partitioning.AnyMesh) -> float:
  """Of the parameters on each device."""
  shapes = costs.shapes(model)
  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  partitioning.check_divisible(shapes, placed)
  return _sharded_bytes(shapes, placed)


@functools.cache
def saved(run: Any, prompt_length: int, length: int) -> Saved:
  """What the gradient of a microbatch keeps, extrapolated over layers."""
  config = run.model.config
  sizes = {
    layers: _saved_at(run, layers, prompt_length, length)
    for layers in ((1, 1), (2, 1), (1, 2))
  }
  base = np.array(sizes[1, 1])
  encoder, decoder = (
    np.array(sizes[layers]) - base for layers in ((2, 1), (1, 2))
  )
  more = config.num_encoder_layers - 1, config.num_decoder_layers - 1
  return Saved(*(base + more[0] * encoder + more[1] * decoder).tolist())


def _alike(run: Any) -> Any:
  """One run for all whose gradients keep the same of a row."""
  return dataclasses.replace(
    costs.program(run), batch_size=1, num_microbatches=1
  )


def sampling_bytes(
  config: T5Config, rows: float, prompt: int, length: int, split: int
) -> float:
  """Kernels, caches and logits while two responses to each row are drawn.

  Args:
    config: of the policy.
    rows: prompts on a device.
    prompt: tokens of a prompt.
    length: tokens of a response.
    split: devices of the model axis.
  """
  joined = config.num_heads * config.head_dim
  cache = 2 * config.num_decoder_layers * joined * (prompt + 2 * length)
  logits = 2 * 2 * config.vocab_size * 4
  each = 2 * cache * _itemsize(config) + logits  # a copy in another layout
  return (_kernel_bytes(config) + rows * each) / split


def scoring_bytes(
  config: T5Config, rows: float, prompt: int, length: int, split: int
) -> float:
  """Kernels, a layer and the head while pairs are scored; as above."""
  logits = min(2 * rows * length * config.vocab_size, heads.MAX_LOGITS)
  each = max(
    _forward_bytes(config, prompt, split),
    2 * _forward_bytes(config, length, split),
  )
  return (_kernel_bytes(config) + 2 * 4 * logits) / split + rows * each


def judging_bytes(
  model: Any, rows: float, prompt: int, length: int, split: int
) -> float:
  """Kernels and the largest layer while a preference model reads each row."""
  config = model.config
  if isinstance(model, JointPreferenceModel):
    each = 2 * _forward_bytes(config, model.context_length, split)
  else:
    each = _forward_bytes(config, prompt, split)
    each = max(each, 2 * _forward_bytes(config, length, split))
  return _kernel_bytes(config) / split + rows * each


def _forward_bytes(config: T5Config, length: int, split: int) -> float:
  """The largest values of one layer's forward pass, of one text."""
  attention = 2 * config.num_heads * length**2
  mlp = (len(config.mlp_activations) + 1) * length * config.mlp_dim
  whole = 4 * length * config.emb_dim
  return _itemsize(config) * (max(attention, mlp) / split + whole)


def _kernel_bytes(config: T5Config) -> float:
  """Kernels of the layers in the compute dtype, where that is another."""
  if _itemsize(config) == 4:
    return 0.0
  embeddings = 1 if config.logits_via_embedding else 2
  outside = embeddings * config.vocab_size * config.emb_dim
  inside = costs.num_parameters(Policy(config)) - outside
  return float(_itemsize(config) * inside)


def _itemsize(config: T5Config) -> int:
  return jnp.dtype(config.dtype).itemsize


def _saved_at(
  run: Any, layers: tuple[int, int], prompt_length: int, length: int
) -> tuple[float, float, float]:
  """`Saved` of the model with so many encoder and decoder layers."""
  config = dataclasses.replace(
    run.model.config, num_encoder_layers=layers[0], num_decoder_layers=layers[1]
  )
  small = dataclasses.replace(
    run, model=dataclasses.replace(run.model, config=config)
  )
  one, two = (
    _residuals(small, rows, prompt_length, length)
    for rows in (_ROWS, 2 * _ROWS)
  )
  fixed = row = wide = 0.0
  for (shape, first), (_, second) in zip(one, two, strict=True):
    slope = (second - first) / _ROWS
    fixed += first - _ROWS * slope
    if len(shape) > 1 and shape[-1] == config.emb_dim:
      wide += slope
    else:
      row += slope
  return fixed, row, wide


def _residuals(
  run: Any, rows: int, prompt_length: int, length: int
) -> list[tuple[tuple[int, ...], float]]:
  """Shape and bytes of each array that the gradient keeps."""
  objective = run.objective

  def total(params, batch):
    losses = objective(params, batch, run.scalars(0))
    return (losses.weight * losses.each).sum()

  def gradient(params, batch):
    return jax.vjp(lambda params: total(params, batch), params)[1]

  kept = jax.eval_shape(
    gradient,
    jax.eval_shape(run.model.init, jax.random.key(0)),
    costs.abstract_batch(rows, prompt_length, length),
  )
  return [(leaf.shape, _bytes(leaf)) for leaf in jax.tree.leaves(kept)]


def _sharded_bytes(shapes: PyTree, placed: PyTree) -> float:
  sizes = jax.tree.map(
    lambda leaf, sharding: (
      math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    ),
    shapes,
    placed,
  )
  return float(sum(jax.tree.leaves(sizes)))


def _bytes(leaf: Any) -> float:
  if leaf.dtype == jax.dtypes.float0:
    return 0.0
  return float(math.prod(leaf.shape) * leaf.dtype.itemsize)
