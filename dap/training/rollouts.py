"""Layer 5. Rollouts: the policy answers, somebody judges, examples are made.

    draw: sample > annotate > pair           reads behaviour and annotator
    signals: the columns that a loss reads   read policy and reference

Three ways to run them give the same numbers: `fused`, one program; `split`,
with an annotator on the host between two programs; `ahead`, where the draw of
the next step is dispatched before the update of this one.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from dap import errors, partitioning
from dap.algorithms.algorithm import Algorithm
from dap.algorithms.pairings import Pairing
from dap.algorithms.refresh import Lagged
from dap.algorithms.samplers import Sampler
from dap.algorithms.signals import Signal
from dap.annotators.host import Answers
from dap.annotators.models import Annotator
from dap.models.trained import Trained, policy_of
from dap.records import (
  Batch,
  Collected,
  Drawn,
  Prompts,
  Responses,
  RoleParams,
  Roles,
  State,
)
from dap.training import steps

Scores = Float[Array, 'batch n']
Root = Key[Array, '']
Step = Int[Array, ''] | np.int32 | int
# (what has been collected for) the step of the state, and the state after it.
Collector = Callable[[State], tuple[State, Collected]]


class Shape(NamedTuple):
  """What the programs of a rollout depend on; hashable."""

  model: Trained
  sampler: Sampler
  annotator: Annotator | None
  pairing: Pairing
  signals: tuple[Signal, ...]


def shape_of(model: Trained, algorithm: Algorithm) -> Shape:
  """Of a run; its sampler is there."""
  assert algorithm.sampler is not None
  return Shape(
    model,
    algorithm.sampler,
    algorithm.annotator,
    algorithm.pairing,
    algorithm.columns,
  )


# -- pure functions of arrays


def sample(
  shape: Shape, params: RoleParams, prompts: Prompts, root: Root, step: Step
) -> Responses:
  """Responses of the behaviour policy: the policy itself where it has none."""
  writer = params.behaviour
  if writer is None:
    writer = shape.model.split(params.policy)[0]
  keys = _keys(root, step, 'sampler', prompts)
  return shape.sampler(policy_of(shape.model), writer, prompts.tokens, keys)


def annotate(
  shape: Shape,
  params: RoleParams,
  prompts: Prompts,
  responses: Responses,
  root: Root,
  step: Step,
) -> Scores:
  """A number for each response; 0 where nobody is asked."""
  if shape.annotator is None:
    return jnp.zeros(responses.tokens.shape[:2], jnp.float32)
  keys = _keys(root, step, 'annotator', prompts)
  return shape.annotator(params.annotator, prompts.tokens, responses, keys)


def pair(
  shape: Shape,
  prompts: Prompts,
  responses: Responses,
  scores: Scores,
  root: Root,
  step: Step,
) -> tuple[Batch, Drawn]:
  """The examples that the pairing makes, k of them to a prompt."""
  keys = _keys(root, step, 'pairing', prompts)
  numbers, weight = shape.pairing(responses, scores, keys)
  _, k, m = numbers.shape
  flat = numbers.reshape(-1, m)  # examples of a prompt follow each other
  drawn_tokens = jnp.sum(responses.mask > 0, axis=(1, 2), dtype=jnp.int32)
  if k > 1:
    prompts, responses, scores = jax.tree.map(
      lambda leaf: jnp.repeat(leaf, k, axis=0), (prompts, responses, scores)
    )
  batch = Batch(
    prompts,
    jax.tree.map(lambda leaf: _take(leaf, flat), responses),
    _take(scores, flat),
    weight.reshape(-1),
    {},
  )
  each = jnp.zeros((len(drawn_tokens), k), jnp.int32).at[:, 0].set(drawn_tokens)
  return batch, Drawn(flat.astype(jnp.int32), each.reshape(-1))


def with_columns(
  model: Trained,
  signals: tuple[Signal, ...],
  params: RoleParams,
  batch: Batch,
) -> Batch:
  """The batch with what the signals compute, in their order.

  Raises:
    errors.InputError: a column is not of every response.
  """
  for signal in signals:
    column = signal(model, params, batch)
    if column.shape[:2] != batch.scores.shape:
      batch_size, n = batch.scores.shape
      raise errors.InputError(
        f'The signal {signal.name} must give [batch, n, ...], here'
        f' ({batch_size}, {n}, ...), got {column.shape}. What belongs to a'
        ' whole group stands at each of its responses: jnp.repeat(x[:, None],'
        ' n, 1).'
      )
    batch = batch._replace(columns={**batch.columns, signal.name: column})
  return batch


@functools.cache
def group_shape(sampler: Sampler | None, pairing: Pairing) -> tuple[int, int]:
  """(examples of a prompt, responses of an example): data has pairs."""
  if sampler is None:
    return 1, 2
  shape = (1, sampler.num_samples, sampler.length)
  tokens = jax.ShapeDtypeStruct(shape, jnp.int32)
  numbers = jax.ShapeDtypeStruct(shape, jnp.float32)
  scores = jax.ShapeDtypeStruct(shape[:2], jnp.float32)
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
  responses = Responses(tokens, numbers, numbers)
  rows, _ = jax.eval_shape(pairing, responses, scores, keys)
  return rows.shape[1:]


def abstract_columns(
  model: Trained, signals: tuple[Signal, ...], batch: Batch
) -> Batch:
  """Shapes of a batch with its columns, from shapes of one without."""
  if not signals:
    return batch
  params = jax.eval_shape(model.init, jax.random.key(0))
  shared = jax.eval_shape(lambda tree: model.split(tree)[0], params)
  return jax.eval_shape(
    functools.partial(with_columns, model, signals),
    RoleParams(params, shared, shared),
    batch,
  )


def draw(
  shape: Shape, params: RoleParams, prompts: Prompts, root: Root, step: Step
) -> tuple[Batch, Drawn]:
  """Sample, annotate, pair. Nothing in it is differentiated."""
  responses = sample(shape, params, prompts, root, step)
  scores = annotate(shape, params, prompts, responses, root, step)
  return pair(shape, prompts, responses, scores, root, step)


def rollout(
  shape: Shape, params: RoleParams, prompts: Prompts, root: Root, step: Step
) -> tuple[Batch, Drawn]:
  """Draw, then compute the columns."""
  batch, drawn = draw(shape, params, prompts, root, step)
  return _signals_of(shape, params, batch), drawn


def _keys(
  root: Root, step: Step, slot: str, prompts: Prompts
) -> Key[Array, ' b']:
  return steps.row_keys(
    steps.slot_key(root, step, slot), prompts.tokens.shape[0]
  )


def _take(
  leaf: Shaped[Array, 'rows n ...'],
  numbers: Int[Array, 'rows m'],
) -> Array:
  index = numbers.reshape(*numbers.shape, *(1,) * (leaf.ndim - 2))
  return jnp.take_along_axis(leaf, index, axis=1)


# -- the same, compiled


class Layout(NamedTuple):
  """Where the arguments and results of rollouts lie."""

  params: RoleParams
  examples: jax.sharding.Sharding
  replicated: jax.sharding.Sharding


def layout(
  model: Trained,
  annotator: Annotator | None,
  given: tuple[str, ...],
  mesh: partitioning.AnyMesh,
) -> Layout:
  """Shardings of rows and of the parameters `given`, by `RoleParams`."""
  shared = steps.shared_sharding(model, mesh)
  placed: dict[str, PyTree] = {
    'policy': partitioning.param_sharding(model.logical_axes(), mesh),
    'behaviour': shared,
    'reference': shared,
  }
  if annotator is not None:
    axes = annotator.model.logical_axes()
    placed['annotator'] = partitioning.param_sharding(axes, mesh)
  return Layout(
    RoleParams(
      **{n: placed[n] if n in given else None for n in RoleParams._fields}
    ),
    partitioning.by_example(mesh),
    partitioning.replicated(mesh),
  )


@runtime_checkable
class Place(Protocol):
  """How a pure function of rollouts becomes a program.

  `compile_one` for one run; stacks map over the axis of their members.
  """

  def __call__(
    self,
    function: Callable[..., PyTree],
    shape: Shape,
    given: tuple[str, ...],
    arguments: tuple[str, ...],
    mesh: partitioning.AnyMesh,
  ) -> Callable[..., PyTree]:
    """`function(shape, params, *arguments)`, without its first argument.

    `arguments` says of each further one 'rows' (prompts, which all members
    share), 'sampled' (of its own to each member) or 'shared' (root and step).
    """
    ...


@functools.cache
def compile_one(
  function: Callable[..., PyTree],
  shape: Shape,
  given: tuple[str, ...],
  arguments: tuple[str, ...],
  mesh: partitioning.AnyMesh,
) -> Callable[..., PyTree]:
  """See `Place`."""
  places = layout(shape.model, shape.annotator, given, mesh)
  lies = {
    'rows': places.examples,
    'sampled': places.examples,
    'shared': places.replicated,
  }
  return jax.jit(
    functools.partial(function, shape),
    in_shardings=(places.params, *(lies[name] for name in arguments)),
    out_shardings=places.examples,
  )


def _signals_of(shape: Shape, params: RoleParams, batch: Batch) -> Batch:
  return with_columns(shape.model, shape.signals, params, batch)


def finish(
  shape: Shape,
  params: RoleParams,
  prompts: Prompts,
  responses: Responses,
  scores: Scores,
  root: Root,
  step: Step,
) -> tuple[Batch, Drawn]:
  """What is left of a rollout after the annotator: pair, compute columns."""
  batch, drawn = pair(shape, prompts, responses, scores, root, step)
  return _signals_of(shape, params, batch), drawn


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
    """A function of this module as a program."""
    return self._place(
      function, self._shape, self._given, arguments, self._mesh
    )


def role_params(state: State) -> RoleParams:
  """The parameters that a program may read, by whose they are."""
  roles: Roles = state.roles
  return RoleParams(
    state.learner.params,
    roles.behaviour.params,
    roles.reference.params,
    roles.annotator.params,
  )


def fused(rollouts: Rollouts) -> Collector:
  """One program for all: the default."""
  program = rollouts.program(rollout, 'rows', 'shared', 'shared')

  def collect(state: State) -> tuple[State, Collected]:
    prompts = rollouts.prompts(state.step)
    batch, drawn = program(
      role_params(state), prompts, rollouts.root, np.int32(state.step)
    )
    taken_at = state.roles.behaviour.taken_at
    return state, Collected(state.step, taken_at, batch, drawn)

  return collect


def ahead(rollouts: Rollouts, num_steps: int) -> Collector:
  """Dispatches the draw of the next step before the update of this one.

  The numbers are those of `refresh.Lagged(1)`: the policy that the next step
  samples from is the one before this step's update. Columns are computed at
  their own step, as there.
  """
  drawing = rollouts.program(draw, 'rows', 'shared', 'shared')
  finishing = rollouts.program(_signals_of, 'sampled')

  def drawn_for(step: int, taken_at: int, params: RoleParams) -> Collected:
    prompts = rollouts.prompts(step)
    batch, drawn = drawing(params, prompts, rollouts.root, np.int32(step))
    return Collected(step, taken_at, batch, drawn)

  def collect(state: State) -> tuple[State, Collected]:
    # No role of its own: what is dispatched now reads the policy as it is.
    params = role_params(state)
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


def split(rollouts: Rollouts, ask: Ask) -> Collector:
  """Two programs with `ask` between them."""
  sampling = rollouts.program(sample, 'rows', 'shared', 'shared')
  finishing = rollouts.program(
    finish, 'rows', 'sampled', 'sampled', 'shared', 'shared'
  )

  def collect(state: State) -> tuple[State, Collected]:
    step, params = state.step, role_params(state)
    prompts = rollouts.prompts(step)
    root, number = rollouts.root, np.int32(step)
    responses = sampling(params, prompts, root, number)
    scores = ask(step, prompts, responses, state)
    batch, drawn = finishing(params, prompts, responses, scores, root, number)
    taken_at = state.roles.behaviour.taken_at
    return state, Collected(step, taken_at, batch, drawn)

  return collect


def on_device(rollouts: Rollouts) -> Ask:
  """Asks the annotator of the run by a program of its own."""
  program = rollouts.program(annotate, 'rows', 'sampled', 'shared', 'shared')

  def ask(
    step: int, prompts: Prompts, responses: Responses, state: State
  ) -> Scores:
    return program(
      role_params(state), prompts, responses, rollouts.root, np.int32(step)
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
