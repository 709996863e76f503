"""Layer 5. The jitted programs of a step: update, draw, signals, minibatch.

Every program is cached by the values that shape it, so the runs of a grid (or
of a worker process) share one compilation; learning rate and loss scalars are
traced. Learners are placed with their sharding before the first call, because
one placed otherwise would cost a second compilation.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from dap import optimizers, partitioning
from dap.algorithms.objectives import DROPOUT, Objective
from dap.models.protocols import Parameters
from dap.models.trained import Policy, Trained
from dap.records import Batch, Learner, Losses, Scalars

Metrics = dict[str, Float[Array, '*members']]
Update = Callable[[Learner, Batch, Scalars], tuple[Learner, Metrics]]
# Weighted sums of the losses and metrics of a batch, its weight; gradients.
Sums = tuple[tuple[Metrics, Float[Array, '']], PyTree]
Gradient = Callable[[PyTree, Batch, Scalars], Sums]


def new_learner(
  params: PyTree, optimizer: optimizers.Optimizer, updates: int = 0
) -> Learner:
  """The learner before its first update."""
  return Learner(
    jnp.asarray(updates, jnp.int32),
    params,
    optimizer.transformation().init(params),
  )


def learner_sharding(
  model: Parameters,
  optimizer: optimizers.Optimizer,
  mesh: partitioning.AnyMesh,
) -> Learner:
  """A tree of shardings for the learner of `model` under `optimizer`."""
  params = jax.eval_shape(model.init, jax.random.key(0))
  learner = jax.eval_shape(lambda tree: new_learner(tree, optimizer), params)
  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  return Learner(
    partitioning.replicated(mesh),
    placed,
    partitioning.like_params(learner.optimizer, params, placed, mesh),
  )


def learner_template(
  model: Parameters, optimizer: optimizers.Optimizer, placed: Learner
) -> Learner:
  """Shapes and dtypes of a learner, with these shardings."""
  shapes = jax.eval_shape(
    lambda key: new_learner(model.init(key), optimizer), jax.random.key(0)
  )
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
    placed,
  )


def update_step(
  objective: Objective,
  optimizer: optimizers.Optimizer,
  num_microbatches: int = 1,
) -> Update:
  """One update, pure: (learner, batch, scalars) -> (learner, metrics).

  `scalars` holds `learning_rate` and what the loss takes. With microbatches the
  gradient of the weighted sum is accumulated and divided once, so their number
  changes rounding alone (and which values dropout takes).
  """
  transformation = optimizer.transformation()
  gradient = _whole(objective)
  if num_microbatches > 1:
    gradient = _accumulated(gradient, num_microbatches)

  def update(learner: Learner, batch: Batch, scalars: Scalars):
    scalars = with_dropout_key(scalars, learner.updates)
    (sums, weight), grads = gradient(learner.params, batch, scalars)
    # A batch whose every row was dropped must not turn the learner into nan.
    scale = 1 / jnp.maximum(weight, 1e-9)
    grads = jax.tree.map(lambda g: g * scale, grads)
    directions, opt_state = transformation.update(
      grads, learner.optimizer, learner.params
    )
    rate = scalars['learning_rate']
    updates = jax.tree.map(lambda d: -rate * d, directions)
    params = optax.apply_updates(learner.params, updates)
    metrics = {name: total * scale for name, total in sums.items()}
    metrics['grad_norm'] = optax.tree.norm(grads)
    metrics['weight'] = weight
    return Learner(learner.updates + 1, params, opt_state), metrics

  return update


@functools.cache
def update_program(
  objective: Objective,
  optimizer: optimizers.Optimizer,
  mesh: partitioning.AnyMesh,
  num_microbatches: int = 1,
) -> Update:
  """`update_step`, jitted; the scalars are traced, the learner is donated."""
  placed = learner_sharding(objective.model, optimizer, mesh)
  replicated = partitioning.replicated(mesh)
  return jax.jit(
    update_step(objective, optimizer, num_microbatches),
    in_shardings=(placed, partitioning.by_example(mesh), replicated),
    out_shardings=(placed, replicated),
    donate_argnums=0,
  )


def _whole(objective: Objective) -> Gradient:
  """(params, batch, scalars) -> ((sums, weight), gradient), not yet divided."""

  def weighted_sum(params: PyTree, batch: Batch, scalars: Scalars):
    losses: Losses = objective(params, batch, scalars)
    sums = {'loss': losses.each, **losses.metrics}
    sums = {k: jnp.sum(losses.weight * v) for k, v in sums.items()}
    return sums['loss'], (sums, jnp.sum(losses.weight))

  differentiated = jax.value_and_grad(weighted_sum, has_aux=True)

  def gradient(params: PyTree, batch: Batch, scalars: Scalars):
    (_, sums), grads = differentiated(params, batch, scalars)
    return sums, grads

  return gradient


def _accumulated(gradient: Gradient, num_microbatches: int) -> Gradient:
  """The same sums over the parts of a batch, one part in memory at a time."""

  def accumulated(params: PyTree, batch: Batch, scalars: Scalars):
    split = jax.tree.map(
      lambda x: x.reshape(num_microbatches, -1, *x.shape[1:]), batch
    )

    def body(total: Sums, part: tuple[Batch, Array]):
      microbatch, number = part
      sums = gradient(params, microbatch, _folded(scalars, number))
      return jax.tree.map(jnp.add, total, sums), None

    first = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(gradient, params, first, scalars)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    parts = split, jnp.arange(num_microbatches)
    return jax.lax.scan(body, zeros, parts)[0]

  return accumulated


def with_dropout_key(scalars: Scalars, updates: Int[Array, '']) -> Scalars:
  """Dropout's seed made the key of one update; no seed, no key."""
  if DROPOUT not in scalars:
    return scalars
  keyed = {**scalars, DROPOUT: jax.random.key(scalars[DROPOUT])}
  return _folded(keyed, updates)


def _folded(scalars: Scalars, number: Int[Array, '']) -> Scalars:
  if DROPOUT not in scalars:
    return scalars
  key = jax.random.fold_in(scalars[DROPOUT], number)
  return {**scalars, DROPOUT: key}


def rows_of(batch: Batch, rows: Int[Array, ' part'] | np.ndarray) -> Batch:
  """The examples of a minibatch."""
  return jax.tree.map(lambda leaf: leaf[rows], batch)


@functools.cache
def rows_program(
  mesh: partitioning.AnyMesh,
) -> Callable[[Batch, np.ndarray], Batch]:
  """`rows_of`, jitted."""
  examples = partitioning.by_example(mesh)
  replicated = partitioning.replicated(mesh)
  return jax.jit(
    rows_of, in_shardings=(examples, replicated), out_shardings=examples
  )


@functools.cache
def log_probs_program(
  policy: Policy, mesh: partitioning.AnyMesh
) -> Callable[[PyTree, Array, Array], Array]:
  """Log-probs of responses: (params, prompts, responses) -> nats a token."""
  placed = partitioning.param_sharding(policy.logical_axes(), mesh)
  examples = partitioning.by_example(mesh)
  return jax.jit(
    policy.log_probs,
    in_shardings=(placed, examples, examples),
    out_shardings=examples,
  )


# The number of each random slot of a step; a new one takes the next number, so
# that no slot ever moves another's keys.
SLOTS = {'sampler': 0, 'pairing': 1, 'annotator': 2}


def slot_key(
  root: Key[Array, ''], step: Int[Array, ''] | np.int32 | int, slot: str
) -> Key[Array, '']:
  """The key of a slot in a step: fold_in(fold_in(root, step), its number).

  A restart at step n repeats the run.
  """
  return jax.random.fold_in(jax.random.fold_in(root, step), SLOTS[slot])


def row_keys(key: Key[Array, ''], num_rows: int) -> Key[Array, ' rows']:
  """One key for each row of the global batch, whatever the device count."""
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(
    jnp.arange(num_rows)
  )


def shared_sharding(model: Trained, mesh: partitioning.AnyMesh) -> PyTree:
  """Where the part of a model's parameters lies that others read."""
  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  return model.split(placed)[0]
