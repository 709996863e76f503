"""Layer 5. What the loop calls: the programs of a run, in the order of a step.

A stack of runs has the same, see `dap/training/stack_programs.py`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dap import errors, partitioning
from dap.algorithms.algorithm import Algorithm
from dap.algorithms.controls import Control
from dap.algorithms.refresh import Current, Never, Schedule
from dap.algorithms.run import Run
from dap.models import trained
from dap.records import (
  Batch,
  Collected,
  Learner,
  Role,
  Roles,
  Scalars,
  State,
)
from dap.training import collectors, packed, rollouts, steps
from dap.training.collectors import Examples
from dap.training.restart import Template
from dap.training.rollouts import Collector
from dap.training.running import IN_STEP, Collect, Rollouts


class Params(NamedTuple):
  """Parameters that a run starts from or looks at.

  `initial` are those that others read (a critic is drawn); `reference` anchors
  the loss; `annotator` labels samples. The last two may be None where the
  algorithm has no use for them.
  """

  initial: PyTree
  reference: PyTree = None
  annotator: PyTree = None


class Programs(NamedTuple):
  """What the loop calls; the state may be one run's or a stack of several.

  Attributes:
    start: the state before the first step, placed as `template` says.
    template: what a restart reads.
    refresh: the state with the roles of its step.
    collect: the examples of the step, and the state after drawing them.
    passes: the batches of the step's updates.
    update: the next learner, and metrics.
    scalars: the traced numbers of a step.
  """

  start: Callable[[], State]
  template: Template
  refresh: Callable[[State], State]
  collect: Collector
  passes: Callable[[int, Batch], Iterator[Batch]]
  update: steps.Update
  scalars: Callable[[int], Scalars]


class Kind(NamedTuple):
  """How pure functions become programs: of one run, or of a stack.

  Attributes:
    place: of rollouts.
    signals: of columns that are computed for data at each step.
    update: of the update.
    rows: of a minibatch.
    learner: the first learner, placed, from one run's.
    template: a learner's shapes, from one run's.
    role: parameters that follow the policy, placed, from one run's.
    scalars: the numbers of a step.
  """

  place: rollouts.Place
  signals: Callable[..., collectors.SignalProgram]
  update: steps.Update
  rows: Callable[[Batch, np.ndarray], Batch]
  learner: Callable[[Learner], Learner]
  template: Callable[[Learner], Learner]
  role: Callable[[PyTree], PyTree]
  scalars: Callable[[int], Scalars]


def of(
  run: Run,
  examples: Examples,
  params: Params,
  mesh: jax.sharding.Mesh,
  collect: Collect = IN_STEP,
  kind: Kind | None = None,
) -> Programs:
  """The programs of a run, or of the stack of runs that `kind` says.

  Args:
    run: the choices; what all runs of a stack share.
    examples: to train on, or whose prompts are answered.
    params: where to start, what anchors, what annotates.
    mesh: of devices.
    collect: how rollouts are run.
    kind: how functions become programs; those of one run when None.

  Raises:
    errors.InputError: something that the run reads is not given.
  """
  kind = kind or one(run, mesh)
  algorithm = run.algorithm
  params = place(params, run, mesh)
  single = steps.learner_sharding(run.model, run.optimizer, mesh)
  template = steps.learner_template(run.model, run.optimizer, single)
  roles = _roles(algorithm, params, kind, mesh)

  def start() -> State:
    return State(0, kind.learner(_first_learner(run, params.initial)), roles)

  def passes(step: int, batch: Batch) -> Iterator[Batch]:
    count = batch.weight.shape[-1]
    for taken in algorithm.passes(count, run.seed, step):
      yield batch if taken is None else kind.rows(batch, taken)

  return Programs(
    start,
    Template(
      kind.template(template),
      partitioning.by_example(mesh),
      roles,
      collect.lead > 0,
    ),
    _refresh(run, collect),
    _collector(run, examples, params, mesh, collect, kind),
    passes,
    kind.update,
    kind.scalars,
  )


def _first_learner(run: Run, initial: PyTree) -> Learner:
  """A copy: the update donates the learner, the caller keeps its arrays."""
  rest = trained.rest_of(run.model, jax.random.key(run.seed))
  params = run.model.join(jax.tree.map(jnp.array, initial), rest)
  return steps.new_learner(params, run.optimizer)


def one(run: Run, mesh: jax.sharding.Mesh) -> Kind:
  """The programs of a single run."""
  placed = steps.learner_sharding(run.model, run.optimizer, mesh)
  shared = steps.shared_sharding(run.model, mesh)
  update = lambda objective: steps.update_program(
    objective, run.optimizer, mesh, run.num_microbatches
  )
  return Kind(
    packed.place(run, rollouts.compile_one),
    collectors.signal_program,
    packed.update(run, mesh, update),
    steps.rows_program(mesh),
    lambda learner: jax.device_put(learner, placed),
    lambda template: template,
    lambda params: jax.device_put(params, shared),
    run.scalars,
  )


def place(params: Params, run: Run, mesh: jax.sharding.Mesh) -> Params:
  """Puts reference and annotator on the mesh once."""
  annotator = params.annotator
  asked = run.algorithm.annotator
  if asked is None or run.algorithm.sampler is None:
    annotator = None
  else:
    axes = asked.model.logical_axes()
    annotator = jax.device_put(
      annotator, partitioning.param_sharding(axes, mesh)
    )
  reference = params.reference
  if reference is not None and run.algorithm.needs_reference:
    shared = steps.shared_sharding(run.model, mesh)
    reference = jax.device_put(reference, shared)
  else:
    reference = None
  return Params(params.initial, reference, annotator)


def _roles(
  algorithm: Algorithm,
  params: Params,
  kind: Kind,
  mesh: jax.sharding.Mesh,
) -> Roles:
  """As a run starts; a behaviour policy that is a copy is the initial one."""
  behaviour, reference = None, params.reference
  if algorithm.sampler is not None and algorithm.behaviour != Current():
    behaviour = kind.role(params.initial)
  if reference is not None and algorithm.reference.keeps:
    reference = kind.role(reference)
  numbers = None
  if algorithm.control is not None and algorithm.sampler is not None:
    numbers = algorithm.control.start()
    numbers = jax.device_put(numbers, partitioning.replicated(mesh))
  return Roles(
    Role(behaviour, 0),
    Role(reference, 0),
    Role(params.annotator, 0),
    Role(numbers, 0),
  )


def _refresh(run: Run, collect: Collect) -> Callable[[State], State]:
  algorithm = run.algorithm
  behaviour, reference = algorithm.behaviour, algorithm.reference
  if algorithm.sampler is None or collect.lead:
    behaviour = Current()  # nobody samples; or what is drawn ahead is the lag
  if not algorithm.needs_reference:
    reference = Never()
  schedules = {
    'behaviour': behaviour,
    'reference': reference,
    'annotator': algorithm.refit,
  }

  def refresh(state: State) -> State:
    policy = run.model.split(state.learner.params)[0]
    made = {
      name: _asked(schedule, state.step, getattr(state.roles, name), policy)
      for name, schedule in schedules.items()
    }
    return state._replace(roles=state.roles._replace(**made))

  return refresh


def _asked(schedule: Schedule, step: int, role: Role, policy: PyTree) -> Role:
  """What a schedule says, which must keep what it makes."""
  made = schedule(step, role, policy)
  if not schedule.keeps and (
    made.params is not None and made.params is not role.params
  ):
    raise errors.InputError(
      f'{schedule} makes parameters, but its keeps is False: no checkpoint'
      ' would hold them, and a restart would go on with others. Set keeps ='
      ' True.'
    )
  return made


def _collector(
  run: Run,
  examples: Examples,
  params: Params,
  mesh: jax.sharding.Mesh,
  collect: Collect,
  kind: Kind,
) -> Collector:
  algorithm = run.algorithm
  if algorithm.sampler is None:
    return collectors.read(run, examples, params.reference, mesh, kind.signals)
  if algorithm.needs_reference:
    collectors.require_reference(params.reference)
  given = ['policy']
  if algorithm.behaviour != Current() and not collect.lead:
    given.append('behaviour')
  given += [
    name
    for name in ('reference', 'annotator')
    if getattr(params, name) is not None
  ]
  if algorithm.control is not None:
    given.append('control')
  rolling = Rollouts(
    rollouts.shape_of(run.model, algorithm),
    tuple(given),
    collectors.prompts_of(run, examples, mesh),
    run.seed,
    mesh,
    kind.place,
  )
  collector = collect(run, rolling, mesh)
  if algorithm.control is None:
    return collector
  return _controlled(collector, _control_program(algorithm.control, mesh))


@functools.cache
def _control_program(
  control: Control, mesh: partitioning.AnyMesh
) -> Callable[[PyTree, Batch], PyTree]:
  """(numbers, batch) -> the numbers of the next step."""
  return jax.jit(control, out_shardings=partitioning.replicated(mesh))


def _controlled(
  collect: Collector, control: Callable[[PyTree, Batch], PyTree]
) -> Collector:
  """Numbers of the next step follow what this one collected."""

  def controlled(state: State) -> tuple[State, Collected]:
    state, collected = collect(state)
    numbers = control(state.roles.control.params, collected.batch)
    role = Role(numbers, state.step + 1)
    return state._replace(roles=state.roles._replace(control=role)), collected

  return controlled


def check_mesh(run: Run, mesh: partitioning.AnyMesh) -> None:
  """Refuses a batch that the mesh cannot split evenly.

  Raises:
    errors.InputError: says what does not fit and what to change.
  """
  data = mesh.shape['data']
  part = run.rows_of_update // run.num_microbatches
  if part % data or run.batch_size % data:
    raise errors.InputError(
      f'A batch of {run.batch_size} in {run.num_microbatches} microbatches'
      f' needs to be divisible by the {data} devices of the data axis, got'
      f' {part} rows. Change BATCH_SIZE or the mesh.'
    )
  if run.rooms.counts and data > 1:
    raise errors.InputError(
      'Packing joins the rows of a batch, which a mesh splits over the'
      f' {data} devices of its data axis. Include gin/packing/padded.gin, or'
      ' take one device.'
    )


def check(run: Run, examples: Examples, mesh: jax.sharding.Mesh) -> None:
  """Refuses a run that cannot work, before any work.

  Raises:
    errors.InputError: says what does not fit and what to change.
  """
  check_mesh(run, mesh)
  if len(examples) < run.batch_size:
    raise errors.InputError(
      f'A batch of {run.batch_size} needs as many examples, the data set has'
      f' {len(examples)}. Lower BATCH_SIZE or give more data.'
    )
