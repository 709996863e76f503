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
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dap import costs, optimizers, partitioning
from dap.algorithms.passes import Once
from dap.algorithms.run import Run
from dap.losses import heads
from dap.models.protocols import LanguageModel, Parameters, Reader
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


def traced(run: Run, prompt_length: int, length: int) -> Saved:
  """What the gradient of a microbatch keeps, as jax says."""
  return saved(_alike(run), prompt_length, length)


def estimate(
  run: Run,
  mesh_shape: tuple[int, int],
  prompt_length: int,
  length: int,
  keeps: Callable[[Run, int, int], Saved] = traced,
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
  params = params_bytes(run.model, mesh)
  state = _state_bytes(run.model, run.optimizer, mesh)
  rows = run.rows_of_update / run.num_microbatches / mesh_shape[0]
  kept = keeps(run, prompt_length, length)
  gradients = params * (1 if run.num_microbatches == 1 else 2)
  update = (
    gradients
    + (kept.fixed + rows * kept.row) / mesh_shape[1]
    + rows * kept.wide
  )
  rollout = _rollout_bytes(run, mesh_shape, prompt_length, length)
  return Memory(state, _held_bytes(run, mesh), update, rollout)


def _held_bytes(run: Run, mesh: partitioning.AnyMesh) -> float:
  """Of the parameters beside the learner's: of roles and of the annotator."""
  algorithm = run.algorithm
  params = params_bytes(run.model, mesh)
  held = params
  if algorithm.sampler is None:
    return held
  if algorithm.behaviour.keeps:
    held += params  # a copy that goes on sampling
  if algorithm.needs_reference and algorithm.reference.keeps:
    held += params
  if algorithm.annotator is not None:
    held += params_bytes(algorithm.annotator.model, mesh)
  return held


def _rollout_bytes(
  run: Run, mesh_shape: tuple[int, int], prompt_length: int, length: int
) -> float:
  """Of the program of a rollout that takes most: they run one by one."""
  sampler, annotator = run.algorithm.sampler, run.algorithm.annotator
  if sampler is None:
    return 0.0
  rows = run.batch_size / mesh_shape[0]
  sizes = rows, prompt_length, length, mesh_shape[1], sampler.num_samples
  return max(
    sampling_bytes(run.model.language_model, *sizes),
    scoring_bytes(run.model, *sizes),
    0.0 if annotator is None else judging_bytes(annotator.model, *sizes),
  )


@functools.cache
def _state_bytes(
  model: Parameters, optimizer: optimizers.Optimizer, mesh: partitioning.AnyMesh
) -> float:
  """Of parameters and optimizer on each device."""
  state = jax.eval_shape(
    lambda params: steps.new_learner(params, optimizer), costs.shapes(model)
  )
  return _sharded_bytes(state, steps.learner_sharding(model, optimizer, mesh))


@functools.cache
def params_bytes(model: Parameters, mesh: partitioning.AnyMesh) -> float:
  """Of the parameters on each device."""
  shapes = costs.shapes(model)
  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  partitioning.check_divisible(shapes, placed)
  return _sharded_bytes(shapes, placed)


@functools.cache
def saved(run: Run, prompt_length: int, length: int) -> Saved:
  """What the gradient of a microbatch keeps, extrapolated over layers."""
  depth = run.model.language_model.depth
  shallow = (1,) * len(depth)
  total = base = np.array(_saved_at(run, shallow, prompt_length, length))
  for stack, number in enumerate(depth):
    deeper = (*shallow[:stack], 2, *shallow[stack + 1 :])
    each = np.array(_saved_at(run, deeper, prompt_length, length)) - base
    total = total + (number - 1) * each
  return Saved(*total.tolist())


def _alike(run: Run) -> Run:
  """One run for all whose gradients keep the same of a row."""
  whole = dataclasses.replace(run.algorithm, passes=Once())
  return dataclasses.replace(
    costs.program(
      dataclasses.replace(run, algorithm=whole, num_microbatches=1)
    ),
    batch_size=1,
  )


def sampling_bytes(
  model: LanguageModel,
  rows: float,
  prompt: int,
  length: int,
  split: int,
  n: int = 2,
) -> float:
  """Kernels, caches and logits while n responses to each row are drawn.

  Args:
    model: of the policy.
    rows: prompts on a device.
    prompt: tokens of a prompt.
    length: tokens of a response.
    split: devices of the model axis.
    n: responses to each prompt.
  """
  cache = model.decoding().token * (prompt + n * length)
  logits = 2 * n * model.vocab_size * 4
  each = 2 * cache + logits  # a copy in another layout
  return (model.kernel_bytes() + rows * each) / split


def scoring_bytes(
  policy: Reader,
  rows: float,
  prompt: int,
  length: int,
  split: int,
  n: int = 2,
) -> float:
  """Kernels, a layer and the head while groups are scored; as above."""
  model = policy.language_model
  logits = min(n * rows * length * model.vocab_size, heads.MAX_LOGITS)
  each = _widest(policy, prompt, length, split, n)
  return (model.kernel_bytes() + 2 * 4 * logits) / split + rows * each


def judging_bytes(
  model: Reader,
  rows: float,
  prompt: int,
  length: int,
  split: int,
  n: int = 2,
) -> float:
  """Kernels and the largest layer while a judge reads each row; as above."""
  each = _widest(model, prompt, length, split, n)
  return model.language_model.kernel_bytes() / split + rows * each


def _widest(
  model: Reader, prompt: int, length: int, split: int, n: int
) -> float:
  """The largest layer of a group: its texts at most grow with their number."""
  return model.widest_bytes(prompt, length, split) * max(1, n / 2)


def _saved_at(
  run: Run, depth: tuple[int, ...], prompt_length: int, length: int
) -> tuple[float, float, float]:
  """`Saved` of the model with so many layers in each stack."""
  model = run.model.language_model.with_depth(depth)
  small = dataclasses.replace(run, model=run.model.with_language_model(model))
  one, two = (
    _residuals(small, rows, prompt_length, length)
    for rows in (_ROWS, 2 * _ROWS)
  )
  fixed = row = wide = 0.0
  for (shape, first), (_, second) in zip(one, two, strict=True):
    slope = (second - first) / _ROWS
    fixed += first - _ROWS * slope
    if len(shape) > 1 and shape[-1] == model.emb_dim:
      wide += slope
    else:
      row += slope
  return fixed, row, wide


def _residuals(
  run: Run, rows: int, prompt_length: int, length: int
) -> list[tuple[tuple[int, ...], float]]:
  """Shape and bytes of each array that the gradient keeps."""
  objective = run.objective
  scalars = steps.with_dropout_key(run.scalars(0), jnp.zeros((), jnp.int32))

  def total(params, batch):
    losses = objective(params, batch, scalars)
    return (losses.weight * losses.each).sum()

  def gradient(params, batch):
    return jax.vjp(lambda params: total(params, batch), params)[1]

  kept = jax.eval_shape(
    gradient,
    jax.eval_shape(run.model.init, jax.random.key(0)),
    costs.abstract_batch(run, rows, prompt_length, length),
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


def _bytes(leaf: jax.ShapeDtypeStruct) -> float:
  if leaf.dtype == jax.dtypes.float0:
    return 0.0
  return float(math.prod(leaf.shape) * leaf.dtype.itemsize)
