"""Layer 5. The jitted programs: one update, one rollout, one reference pass.

Every program is cached by the values that shape it, so the runs of a grid (or
of a worker process) share one compilation; learning rate and loss scalars are
traced. States are placed with their sharding before the first call, because a
state placed otherwise would cost a second compilation.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from dap import optimizers, partitioning
from dap.records import Pair, PreferenceBatch, TrainState

Scalars = Mapping[str, Any]


class Losses(NamedTuple):
  """Losses of a batch; the step reduces them: sum(weight * each) / sum(weight).

  `metrics` are per example and are reduced with the same weight.
  """

  each: Float[Array, ' batch']
  weight: Float[Array, ' batch']
  metrics: dict[str, Float[Array, ' batch']]


@runtime_checkable
class Objective(Protocol):
  """What an update minimises; a hashable value with no scalar in it."""

  @property
  def model(self) -> Any:
    """The trained model: a value with `init` and `logical_axes`."""
    ...

  def __call__(
    self, params: PyTree, batch: PreferenceBatch, scalars: Scalars
  ) -> Losses:
    """Losses per example, differentiable in `params`."""
    ...


def new_state(
  params: PyTree, optimizer: optimizers.Optimizer, step: int = 0
) -> TrainState:
  """The state before the first update."""
  return TrainState(
    jnp.asarray(step, jnp.int32),
    params,
    optimizer.transformation().init(params),
  )


def state_sharding(
  model: Any, optimizer: optimizers.Optimizer, mesh: partitioning.AnyMesh
) -> TrainState:
  """A tree of shardings for the state of `model` under `optimizer`."""
  params = jax.eval_shape(model.init, jax.random.key(0))
  state = jax.eval_shape(lambda tree: new_state(tree, optimizer), params)
  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  return TrainState(
    partitioning.replicated(mesh),
    placed,
    partitioning.like_params(state.optimizer, params, placed, mesh),
  )


Update = Callable[
  [TrainState, PreferenceBatch, Scalars], tuple[TrainState, dict[str, Array]]
]


def update_step(
  objective: Objective,
  optimizer: optimizers.Optimizer,
  num_microbatches: int = 1,
) -> Update:
  """One update as a pure function: (state, batch, scalars) -> (state, metrics).

  `scalars` holds `learning_rate` and what the loss takes. With microbatches the
  gradient of the weighted sum is accumulated and divided once, so their number
  changes rounding alone.
  """
  transformation = optimizer.transformation()
  gradient = _whole(objective)
  if num_microbatches > 1:
    gradient = _accumulated(gradient, num_microbatches)

  def step(state: TrainState, batch: PreferenceBatch, scalars: Scalars):
    (sums, weight), grads = gradient(state.params, batch, scalars)
    # A batch whose every row was dropped must not turn the state into nan.
    scale = 1 / jnp.maximum(weight, 1e-9)
    grads = jax.tree.map(lambda g: g * scale, grads)
    directions, opt_state = transformation.update(
      grads, state.optimizer, state.params
    )
    rate = scalars['learning_rate']
    updates = jax.tree.map(lambda d: -rate * d, directions)
    params = optax.apply_updates(state.params, updates)
    metrics = {name: total * scale for name, total in sums.items()}
    metrics['grad_norm'] = optax.tree.norm(grads)
    metrics['weight'] = weight
    return TrainState(state.step + 1, params, opt_state), metrics

  return step


@functools.cache
def update_program(
  objective: Objective,
  optimizer: optimizers.Optimizer,
  mesh: partitioning.AnyMesh,
  num_microbatches: int = 1,
) -> Update:
  """`update_step`, jitted; the scalars are traced and the state is donated."""
  placed = state_sharding(objective.model, optimizer, mesh)
  replicated = partitioning.replicated(mesh)
  return jax.jit(
    update_step(objective, optimizer, num_microbatches),
    in_shardings=(placed, partitioning.by_example(mesh), replicated),
    out_shardings=(placed, replicated),
    donate_argnums=0,
  )


def _whole(objective: Objective) -> Callable[..., Any]:
  """(params, batch, scalars) -> ((sums, weight), gradient), not yet divided."""

  def weighted_sum(params, batch, scalars):
    losses = objective(params, batch, scalars)
    sums = {'loss': losses.each, **losses.metrics}
    sums = {k: jnp.sum(losses.weight * v) for k, v in sums.items()}
    return sums['loss'], (sums, jnp.sum(losses.weight))

  differentiated = jax.value_and_grad(weighted_sum, has_aux=True)

  def gradient(params, batch, scalars):
    (_, sums), grads = differentiated(params, batch, scalars)
    return sums, grads

  return gradient


def _accumulated(
  gradient: Callable[..., Any], num_microbatches: int
) -> Callable[..., Any]:
  """The same sums over the parts of a batch, one part in memory at a time."""

  def accumulated(params, batch, scalars):
    split = jax.tree.map(
      lambda x: x.reshape(num_microbatches, -1, *x.shape[1:]), batch
    )

    def body(total, microbatch):
      part = gradient(params, microbatch, scalars)
      return jax.tree.map(jnp.add, total, part), None

    first = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(gradient, params, first, scalars)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(body, zeros, split)[0]

  return accumulated


class Rollout(NamedTuple):
  """What a rollout must remember beyond its batch, to be recorded.

  `first_is_chosen` says which of the two samples became the chosen response;
  `p_ab`, `p_ba` are the annotator's probabilities that the response shown
  first is preferred, in both orders; `tie` marks equal preference.
  """

  p_ab: Float[Array, ' batch']
  p_ba: Float[Array, ' batch']
  first_is_chosen: Float[Array, ' batch']
  tie: Float[Array, ' batch']


class SlotKeys(NamedTuple):
  """One key for each random slot of a step."""

  sampler: Key[Array, '']
  pairing: Key[Array, '']


def slot_keys(root: Key[Array, ''], step: Int[Array, ''] | int) -> SlotKeys:
  """Keys of a step: fold_in(fold_in(root, step), slot).

  A restart at step n repeats the run, and no slot can shift another's keys.
  """
  key = jax.random.fold_in(root, step)
  return SlotKeys(*(jax.random.fold_in(key, slot) for slot in range(2)))


def row_keys(key: Key[Array, ''], num_rows: int) -> Key[Array, ' rows']:
  """One key for each row of the global batch, whatever the device count."""
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(
    jnp.arange(num_rows)
  )


def rollout_step(
  policy: Any, sampler: Any, annotator: Any, pairing: Any
) -> Callable[..., tuple[PreferenceBatch, Rollout]]:
  """Sample, annotate, pair, and score under the reference: a pure function.

  Takes (behaviour, reference, annotator parameters, prompts, root key, step).
  Nothing in it is differentiated: samples and labels are data to the update.
  """

  def rollout(behaviour, reference, annotator_params, prompts, root, step):
    keys = slot_keys(root, step)
    rows = prompts.tokens.shape[0]
    responses = sampler(
      policy, behaviour, prompts.tokens, row_keys(keys.sampler, rows)
    )
    p_ab, p_ba = annotator(annotator_params, prompts.tokens, responses)
    first, weight = pairing(p_ab, p_ba, row_keys(keys.pairing, rows))
    log_probs = policy.log_probs(reference, prompts.tokens, responses.tokens)
    batch = PreferenceBatch(
      prompts,
      ordered(responses.tokens, first),
      ordered(responses.mask, first),
      ordered(log_probs, first),
      weight,
    )
    tie = (p_ab == p_ba).astype(jnp.float32)
    return batch, Rollout(p_ab, p_ba, first.astype(jnp.float32), tie)

  return rollout


@functools.cache
def rollout_program(
  policy: Any, sampler: Any, annotator: Any, pairing: Any, mesh: Any
) -> Callable[..., tuple[PreferenceBatch, Rollout]]:
  """`rollout_step`, jitted: one program."""
  placed = partitioning.param_sharding(policy.logical_axes(), mesh)
  judge = annotator.sharding(mesh)
  examples = partitioning.by_example(mesh)
  replicated = partitioning.replicated(mesh)
  return jax.jit(
    rollout_step(policy, sampler, annotator, pairing),
    in_shardings=(placed, placed, judge, examples, replicated, replicated),
    out_shardings=examples,
  )


def ordered(x: Array, first_is_chosen: Array) -> Pair[Array]:
  """Chosen and rejected rows of `x`, `[batch, 2, ...]`, by the labels."""
  first = first_is_chosen.reshape(-1, *(1,) * (x.ndim - 2))
  return Pair(
    jnp.where(first, x[:, 0], x[:, 1]), jnp.where(first, x[:, 1], x[:, 0])
  )


@functools.cache
def reference_program(
  policy: Any, mesh: Any
) -> Callable[[PyTree, Array, Pair[Array]], Pair[Array]]:
  """Log-probs of given pairs under the reference: (params, prompts, pair)."""
  placed = partitioning.param_sharding(policy.logical_axes(), mesh)
  examples = partitioning.by_example(mesh)
  return jax.jit(
    policy.pair_log_probs,
    in_shardings=(placed, examples, examples),
    out_shardings=examples,
  )


def place(tree: PyTree, sharding: PyTree) -> PyTree:
  """Puts a tree where a program expects it."""
  return jax.device_put(tree, sharding)
