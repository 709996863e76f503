"""Layer 5. Rollouts: the policy answers, somebody judges, examples are made.

draw: sample > annotate > pair           reads behaviour and annotator
signals: the columns that a loss reads   read policy and reference
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from dap import errors, partitioning
from dap.algorithms.algorithm import Algorithm
from dap.algorithms.pairings import Pairing
from dap.algorithms.samplers import Sampler
from dap.algorithms.signals import Signal
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
  return shape.sampler(policy_of(shape.model), writer, prompts, keys)


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
  prompts = prompts._replace(answers=None)
  keys = _keys(root, step, 'pairing', prompts)
  numbers, weight = shape.pairing(responses, scores, keys)
  _, k, m = numbers.shape
  flat = numbers.reshape(-1, m)  # examples of a prompt follow each other
  sampled = responses.mask[:, shape.sampler.num_data :]
  drawn_tokens = jnp.sum(sampled > 0, axis=(1, 2), dtype=jnp.int32)
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
  return signals_of(shape, params, batch), drawn


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


def role_params(state: State) -> RoleParams:
  """The parameters that a program may read, by whose they are."""
  roles: Roles = state.roles
  return RoleParams(
    state.learner.params,
    roles.behaviour.params,
    roles.reference.params,
    roles.annotator.params,
    roles.control.params,
  )


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
    'control': partitioning.replicated(mesh),
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


def signals_of(shape: Shape, params: RoleParams, batch: Batch) -> Batch:
  """The batch with its columns."""
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
  return signals_of(shape, params, batch), drawn
