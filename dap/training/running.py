"""Layer 5. How rollouts are run, which changes no number.

`fused`, one program; `split`, with an annotator on the host between two
programs; `ahead`, where the draw of the next step is dispatched before the
update of this one. A run's `Collect` chooses.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import PyTree

from dap import errors, partitioning
from dap.algorithms.algorithm import Algorithm
from dap.algorithms.refresh import Lagged
from dap.algorithms.run import Run
from dap.annotators.host import Answers
from dap.records import (
  Collected,
  Prompts,
  Responses,
  RoleParams,
  State,
)
from dap.stages import values
from dap.training import rollouts
from dap.training.rollouts import Collector, Place, Scores, Shape, compile_one


class Rollouts:
  """The programs of one run's (or stack's) rollouts, and where its rows are.

  Attributes:
    prompts: (step) -> the prompts of a step, on the mesh.
  """

  def __init__(
    self,
    shape: Shape,
    given: tuple[str, ...],
    prompts: Callable[[int], Prompts],
    seed: int,
    mesh: jax.sharding.Mesh,
    place: Place = compile_one,
  ):
    """Compiles nothing yet.

    Args:
      shape: of the programs.
      given: the roles that have parameters.
      prompts: of a step.
      seed: of the root key.
      mesh: of devices.
      place: how functions become programs.
    """
    self._shape, self._given, self._mesh = shape, given, mesh
    self._place = place
    self.prompts = prompts
    self.root = jax.device_put(
      jax.random.key(seed), partitioning.replicated(mesh)
    )

  def program(
    self, function: Callable[..., PyTree], *arguments: str
  ) -> Callable[..., PyTree]:
    """A function of `rollouts` as a program."""
    return self._place(
      function, self._shape, self._given, arguments, self._mesh
    )


def fused(rolling: Rollouts) -> Collector:
  """One program for all: the default."""
  program = rolling.program(rollouts.rollout, 'rows', 'shared', 'shared')

  def collect(state: State) -> tuple[State, Collected]:
    prompts = rolling.prompts(state.step)
    batch, drawn = program(
      rollouts.role_params(state), prompts, rolling.root, np.int32(state.step)
    )
    taken_at = state.roles.behaviour.taken_at
    return state, Collected(state.step, taken_at, batch, drawn)

  return collect


def ahead(rolling: Rollouts, num_steps: int) -> Collector:
  """Dispatches the draw of the next step before the update of this one.

  The numbers are those of `refresh.Lagged(1)`: the policy that the next step
  samples from is the one before this step's update. Columns are computed at
  their own step, as there.
  """
  drawing = rolling.program(rollouts.draw, 'rows', 'shared', 'shared')
  finishing = rolling.program(rollouts.signals_of, 'sampled')

  def drawn_for(step: int, taken_at: int, params: RoleParams) -> Collected:
    prompts = rolling.prompts(step)
    batch, drawn = drawing(params, prompts, rolling.root, np.int32(step))
    return Collected(step, taken_at, batch, drawn)

  def collect(state: State) -> tuple[State, Collected]:
    # No role of its own: what is dispatched now reads the policy as it is.
    params = rollouts.role_params(state)
    now = state.pending
    if now is None:
      now = drawn_for(state.step, state.step, params)
    pending = None
    if state.step + 1 < num_steps:
      pending = drawn_for(state.step + 1, state.step, params)
    now = now._replace(batch=finishing(params, now.batch))
    return state._replace(pending=pending), now

  return collect


def check_ahead(algorithm: Algorithm) -> None:
  """Refuses an algorithm whose numbers `ahead` would change.

  Raises:
    errors.InputError: its behaviour policy does not lag by one step.
  """
  if algorithm.behaviour != Lagged(1):
    raise errors.InputError(
      'Rollouts ahead of their update sample from the policy of one step'
      f' before; the behaviour policy of this run is {algorithm.behaviour}.'
      ' Include gin/refresh/lagged.gin (REFRESH_LAG = 1), or do not run ahead.'
    )


# (step, prompts, responses, state) -> scores: a program, or the host.
Ask = Callable[[int, Prompts, Responses, State], Scores]


def split(rolling: Rollouts, ask: Ask) -> Collector:
  """Two programs with `ask` between them."""
  sampling = rolling.program(rollouts.sample, 'rows', 'shared', 'shared')
  finishing = rolling.program(
    rollouts.finish, 'rows', 'sampled', 'sampled', 'shared', 'shared'
  )

  def collect(state: State) -> tuple[State, Collected]:
    step, params = state.step, rollouts.role_params(state)
    prompts = rolling.prompts(step)
    root, number = rolling.root, np.int32(step)
    responses = sampling(params, prompts, root, number)
    scores = ask(step, prompts, responses, state)
    batch, drawn = finishing(params, prompts, responses, scores, root, number)
    taken_at = state.roles.behaviour.taken_at
    return state, Collected(step, taken_at, batch, drawn)

  return collect


def on_device(rolling: Rollouts) -> Ask:
  """Asks the annotator of the run by a program of its own."""
  program = rolling.program(
    rollouts.annotate, 'rows', 'sampled', 'shared', 'shared'
  )

  def ask(
    step: int, prompts: Prompts, responses: Responses, state: State
  ) -> Scores:
    return program(
      rollouts.role_params(state),
      prompts,
      responses,
      rolling.root,
      np.int32(step),
    )

  return ask


def on_host(
  answers: Answers,
  decode: Callable[[np.ndarray], str],
  mesh: jax.sharding.Mesh,
) -> Ask:
  """Asks with texts; process 0 asks, and tells the others.

  Args:
    answers: what was said before, and whom to ask.
    decode: token ids to text.
    mesh: of devices.
  """
  examples = partitioning.by_example(mesh)

  def ask(
    step: int, prompts: Prompts, responses: Responses, state: State
  ) -> Scores:
    del step, state
    tokens, written = _whole((prompts.tokens, responses.tokens))
    scores = np.zeros(written.shape[:2], np.float32)
    if jax.process_index() == 0:
      texts = [[decode(row) for row in group] for group in written]
      scores = answers.ask([decode(row) for row in tokens], texts)
    return jax.device_put(_told(scores), examples)

  return ask


def _whole(tree: PyTree) -> PyTree:
  """Arrays of all processes, on each."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  from jax.experimental import multihost_utils

  return multihost_utils.process_allgather(tree, tiled=True)


def _told(scores: np.ndarray) -> np.ndarray:
  """What process 0 has, on all."""
  if jax.process_count() == 1:
    return scores
  from jax.experimental import multihost_utils

  return np.asarray(multihost_utils.broadcast_one_to_all(scores))


def answers_of(
  algorithm: Algorithm, folder: pathlib.Path, name: str
) -> Answers:
  """What the host annotator of a run said before, in `folder`."""
  assert algorithm.host_annotator is not None
  return Answers(algorithm.host_annotator, folder / 'answers.jsonl', name)


@runtime_checkable
class Collect(Protocol):
  """How rollouts are run: a place, which changes no number.

  Attributes:
    lead: steps that a draw is dispatched ahead of its own; the behaviour policy
      of the run lags by as many.
  """

  lead: ClassVar[int]

  def __call__(
    self, run: Run, rolling: Rollouts, mesh: jax.sharding.Mesh
  ) -> Collector:
    """The collector of a run that samples."""
    ...


@dataclasses.dataclass(frozen=True)
class InStep:
  """Each rollout in its own step, as one program: the default."""

  lead: ClassVar[int] = 0

  def __call__(
    self, run: Run, rolling: Rollouts, mesh: jax.sharding.Mesh
  ) -> Collector:
    """See `Collect`."""
    del run, mesh
    return fused(rolling)


@dataclasses.dataclass(frozen=True)
class Ahead:
  """Each draw while the step before it is trained; needs a lag of one."""

  lead: ClassVar[int] = 1

  def __call__(
    self, run: Run, rolling: Rollouts, mesh: jax.sharding.Mesh
  ) -> Collector:
    """See `Collect`.

    Raises:
      errors.InputError: the behaviour policy does not lag by one step.
    """
    del mesh
    check_ahead(run.algorithm)
    return ahead(rolling, run.num_steps)


@dataclasses.dataclass(frozen=True)
class Split:
  """Sampling, then the annotator by a program of its own, then the rest."""

  lead: ClassVar[int] = 0

  def __call__(
    self, run: Run, rolling: Rollouts, mesh: jax.sharding.Mesh
  ) -> Collector:
    """See `Collect`."""
    del run, mesh
    return split(rolling, on_device(rolling))


@dataclasses.dataclass(frozen=True)
class AskHost:
  """Two programs with the run's host annotator between them.

  Attributes:
    folder: keeps the answers.
    decode: token ids to text.
  """

  folder: pathlib.Path
  decode: Callable[[np.ndarray], str]
  lead: ClassVar[int] = 0

  def __call__(
    self, run: Run, rolling: Rollouts, mesh: jax.sharding.Mesh
  ) -> Collector:
    """See `Collect`."""
    name = values.digest(run.algorithm.host_annotator)
    answers = answers_of(run.algorithm, self.folder, name)
    ask = on_host(answers, self.decode, mesh)
    return split(rolling, ask)


IN_STEP = InStep()
