"""Layer 5. Programs by the room of their batch, see `dap/models/packing.py`.

Who calls such a program sees one function; a room that it has not met before
is compiled when it comes. Rooms depend on what a batch holds alone, so that a
restart and a recorded stream call the same programs again.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from dap import partitioning
from dap.algorithms.objectives import Objective
from dap.algorithms.run import Run
from dap.models import packing
from dap.models.packing import Room
from dap.records import PADDING, Batch, Learner, Prompts, RoleParams, Scalars
from dap.training import rollouts, steps
from dap.training.rollouts import Place, Shape


def update(
  run: Run,
  mesh: partitioning.AnyMesh,
  make: Callable[[Objective], steps.Update],
) -> steps.Update:
  """The update that `make` gives a run's objective, of any batch's room."""
  if not run.rooms.counts:
    return make(run.objective)

  @functools.cache
  def program(room: Room) -> steps.Update:
    model = packing.packed(run.model, room)
    return make(dataclasses.replace(run, model=model).objective)

  def updated(learner: Learner, batch: Batch, scalars: Scalars):
    parts = run.num_microbatches
    prompts = _room(run, mesh, batch.prompts.tokens, 2, parts)
    responses = _room(run, mesh, batch.responses.tokens, 3, parts)
    return program(Room(prompts, responses))(learner, batch, scalars)

  return updated


def place(run: Run, make: Place) -> Place:
  """Rollouts as `make` compiles them, of any prompts' room.

  What is to be sampled has no length yet, and its readers pad it. So do those
  of a prompt that is to have several examples: they read it several times.
  """
  if not run.rooms.counts:
    return make

  def placed(
    function: Callable[..., PyTree],
    shape: Shape,
    given: tuple[str, ...],
    arguments: tuple[str, ...],
    mesh: partitioning.AnyMesh,
  ) -> Callable[..., PyTree]:
    examples, _ = rollouts.group_shape(shape.sampler, shape.pairing)
    if examples > 1:
      return make(function, shape, given, arguments, mesh)

    @functools.cache
    def program(room: int | None) -> Callable[..., PyTree]:
      return make(function, _packed(shape, room), given, arguments, mesh)

    def called(params: RoleParams, read: Prompts | Batch, *rest: Any):
      prompts = read.prompts if isinstance(read, Batch) else read
      room = _room(run, mesh, prompts.tokens, 2, 1)
      return program(room)(params, read, *rest)

    return called

  return placed


def _packed(shape: Shape, room: int | None) -> Shape:
  model, annotator = (
    packing.packed(each, Room(prompts=room))
    for each in (shape.model, shape.annotator)
  )
  return shape._replace(model=model, annotator=annotator)


def _room(
  run: Run,
  mesh: partitioning.AnyMesh,
  tokens: Int[Array | np.ndarray, '*rows length'],
  ndim: int,
  parts: int,
) -> int | None:
  """For each of the parts of a batch, whose own axes are the last `ndim`."""
  positions = math.prod(tokens.shape[-ndim:]) // parts
  most = _most_program(mesh)(tokens.reshape(-1, positions))
  return run.rooms(int(most), positions)


@functools.cache
def _most_program(
  mesh: partitioning.AnyMesh,
) -> Callable[[Int[Array | np.ndarray, 'parts positions']], Int[Array, '']]:
  """Real tokens of the part that has most, known to all processes."""
  return jax.jit(
    lambda tokens: jnp.max(jnp.sum(tokens > PADDING, axis=1)),
    out_shardings=partitioning.replicated(mesh),
  )
