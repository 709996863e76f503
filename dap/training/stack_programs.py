"""Layer 5. The programs of a stack: those of one run, mapped over members."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from dap import errors, optimizers, partitioning
from dap.algorithms.objectives import Objective
from dap.algorithms.refresh import Never
from dap.algorithms.run import Run
from dap.algorithms.signals import Signal
from dap.models.trained import Trained
from dap.records import Batch, Drawn, Learner, RoleParams
from dap.training import collectors, packed, rollouts, steps
from dap.training.programs import Kind

# Which parts have the axis of members: of what a data set gives none, of a
# rollout all but the prompts; of its parameters those that follow the policy.
_AXES: dict[str, Any] = {  # axes to map over stand in the place of arrays
  'prompts': None, 'responses': 0, 'scores': 0, 'weight': 0, 'columns': 0,
}  # fmt: skip
SAMPLED = Batch(**_AXES)


def stacked(runs: tuple[Run, ...], mesh: jax.sharding.Mesh) -> Kind:
  """The programs of several runs at once: those of one, mapped by name."""
  shared, count = runs[0], len(runs)

  def stack(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * count), tree)

  def learner(one: Learner) -> Learner:
    single = steps.learner_sharding(shared.model, shared.optimizer, mesh)
    return jax.device_put(stack(one), stacked_sharding(single))

  def template(one: Learner) -> Learner:
    return jax.tree.map(functools.partial(_stacked_shape, count), one)

  def role(params: PyTree) -> PyTree:
    single = steps.shared_sharding(shared.model, mesh)
    return jax.device_put(stack(params), stacked_sharding(single))

  def scalars(step: int) -> dict[str, np.ndarray]:
    each = [run.scalars(step) for run in runs]
    return {name: np.stack([one[name] for one in each]) for name in each[0]}

  own, axes = _own_roles(shared), _batch_axes(shared)
  update = lambda objective: update_program(
    objective, shared.optimizer, mesh, shared.num_microbatches, axes
  )
  return Kind(
    packed.place(shared, functools.partial(_compiled, own)),
    _shared_signals if axes is None else functools.partial(_own_signals, own),
    packed.update(shared, mesh, update),
    rows_program(mesh, axes),
    learner,
    template,
    role,
    scalars,
  )


def _stacked_shape(count: int, leaf: PyTree) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(
    (count, *leaf.shape), leaf.dtype, sharding=stacked_sharding(leaf.sharding)
  )


def stacked_sharding(sharding: PyTree) -> PyTree:
  """Shardings of a stack: every device has its part of all members."""
  return jax.tree.map(
    lambda each: NamedSharding(each.mesh, PartitionSpec(None, *each.spec)),
    sharding,
  )


def _batch_axes(run: Run) -> Batch | None:
  """Batches of data are shared, unless they have columns of each member."""
  algorithm, own = run.algorithm, _own_roles(run)
  of_members = any(each.owner in own for each in algorithm.columns)
  return SAMPLED if of_members or algorithm.sampler is not None else None


def _shared_signals(
  model: Trained,
  signals: tuple[Signal, ...],
  given: tuple[str, ...],
  mesh: partitioning.AnyMesh,
) -> collectors.SignalProgram:
  """`collectors.signal_program` of columns that all members share."""
  del given  # nothing that a member has of its own
  program = collectors.signal_program(model, signals, (), mesh)
  return lambda params, batch: program(RoleParams(None), batch)


@functools.cache
def _own_signals(
  own: frozenset[str],
  model: Trained,
  signals: tuple[Signal, ...],
  given: tuple[str, ...],
  mesh: partitioning.AnyMesh,
) -> collectors.SignalProgram:
  """`collectors.signal_program`, of which every member has its own batch."""
  places = rollouts.layout(model, None, given, mesh)
  axes, params = _member_params(own, given, places)
  stack = stacked_sharding(places.examples)
  return jax.jit(
    jax.vmap(
      functools.partial(rollouts.with_columns, model, signals),
      in_axes=(axes, None),
      out_axes=SAMPLED,
    ),
    in_shardings=(params, places.examples),
    out_shardings=_places(SAMPLED, places.examples, stack),
  )


def _own_roles(run: Run) -> frozenset[str]:
  """Parameters of which each member has its own: those that follow it."""
  algorithm = run.algorithm
  own = {'policy', 'behaviour'}
  own |= {'reference'} if algorithm.reference != Never() else set()
  own |= {'annotator'} if algorithm.refit != Never() else set()
  return frozenset(own)


@functools.cache
def update_program(
  objective: Objective,
  optimizer: optimizers.Optimizer,
  mesh: jax.sharding.Mesh,
  num_microbatches: int,
  batch_axes: Batch | None,
) -> steps.Update:
  """`steps.update_program` of a stack.

  Scalars and metrics have one number for each member.
  """
  step = steps.update_step(objective, optimizer, num_microbatches)
  placed = stacked_sharding(
    steps.learner_sharding(objective.model, optimizer, mesh)
  )
  replicated = partitioning.replicated(mesh)
  return jax.jit(
    jax.vmap(step, in_axes=(0, batch_axes, 0)),
    in_shardings=(placed, _batch_sharding(mesh, batch_axes), replicated),
    out_shardings=(placed, replicated),
    donate_argnums=0,
  )


@functools.cache
def rows_program(mesh: jax.sharding.Mesh, batch_axes: Batch | None):
  """`steps.rows_program` of a stack."""
  places, function = _batch_sharding(mesh, batch_axes), steps.rows_of
  if batch_axes is not None:
    function = jax.vmap(
      function, in_axes=(batch_axes, None), out_axes=batch_axes
    )
  return jax.jit(
    function,
    in_shardings=(places, partitioning.replicated(mesh)),
    out_shardings=places,
  )


@functools.cache
def _compiled(
  own: frozenset[str],
  function: Callable[..., PyTree],
  shape: rollouts.Shape,
  given: tuple[str, ...],
  arguments: tuple[str, ...],
  mesh: partitioning.AnyMesh,
) -> Callable[..., PyTree]:
  """See `rollouts.Place`: all members answer the same prompts with one key."""
  places = rollouts.layout(shape.model, shape.annotator, given, mesh)
  axes, params = _member_params(own, given, places)
  stack = stacked_sharding(places.examples)
  lies = {
    'rows': (None, places.examples),
    'sampled': (0, stack),
    'shared': (None, places.replicated),
  }
  outputs, where = _outputs(function, places.examples, stack)
  return jax.jit(
    jax.vmap(
      functools.partial(function, shape),
      in_axes=(axes, *(lies[name][0] for name in arguments)),
      out_axes=outputs,
    ),
    in_shardings=(params, *(lies[name][1] for name in arguments)),
    out_shardings=where,
  )


def _member_params(
  own: frozenset[str], given: tuple[str, ...], places: rollouts.Layout
) -> tuple[RoleParams, RoleParams]:
  """(axes, shardings) of the parameters that a program is given."""
  axes = RoleParams(
    **{n: 0 if n in own and n in given else None for n in RoleParams._fields}
  )
  params = RoleParams(
    *(
      stacked_sharding(place) if axis == 0 else place
      for place, axis in zip(places.params, axes, strict=True)
    )
  )
  return axes, params


def _outputs(
  function: Callable[..., PyTree],
  examples: jax.sharding.Sharding,
  stack: jax.sharding.Sharding,
) -> tuple[PyTree, PyTree]:
  """(axes, shardings) of what a function of rollouts returns."""
  batch = SAMPLED, _places(SAMPLED, examples, stack)
  if function is rollouts.rollout or function is rollouts.draw:
    return (batch[0], Drawn(0, 0)), (batch[1], Drawn(stack, stack))
  raise errors.InputError('A group of runs rolls out in its own step alone.')


def _places(
  axes: Batch, examples: jax.sharding.Sharding, stack: jax.sharding.Sharding
) -> PyTree:
  """A sharding for each field of a batch."""
  places: PyTree = [examples if axis is None else stack for axis in axes]
  return Batch(*places)


def _batch_sharding(mesh: jax.sharding.Mesh, axes: Batch | None) -> PyTree:
  examples = partitioning.by_example(mesh)
  if axes is None:
    return examples
  return _places(axes, examples, stacked_sharding(examples))
