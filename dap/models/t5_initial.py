"""Layer 2. T5X's initial values and logical axes, by the name of a parameter.

All parameters of one distribution are cut from one draw by small programs:
compiling a random number generator for each parameter would take longer than
compiling a training step.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float, Key, PyTree

Draw = Callable[[Key[Array, ''], tuple[int, ...]], Array]
Flat = dict[tuple[str, ...], jax.ShapeDtypeStruct]


class Parameter(NamedTuple):
  """Logical axes, a draw of unit variance, and the standard deviation.

  The last is a function of (shape, head_dim).
  """

  axes: tuple[str, ...]
  draw: Draw
  deviation: Callable[[tuple[int, ...], int], float]


def _ones(key: Key[Array, ''], shape: tuple[int, ...]) -> Array:
  del key
  return jnp.ones(shape)


def _normal(key: Key[Array, ''], shape: tuple[int, ...]) -> Array:
  return jax.random.normal(key, shape)


def _truncated(key: Key[Array, ''], shape: tuple[int, ...]) -> Array:
  deviation_of_cut = 0.87962566103423978
  return jax.random.truncated_normal(key, -2.0, 2.0, shape) / deviation_of_cut


def _uniform(key: Key[Array, ''], shape: tuple[int, ...]) -> Array:
  limit = math.sqrt(3)
  return jax.random.uniform(key, shape, minval=-limit, maxval=limit)


def _unit(shape: tuple[int, ...], head_dim: int) -> float:
  del shape, head_dim
  return 1.0


def _fan_in(shape: tuple[int, ...], head_dim: int) -> float:
  del head_dim
  return shape[0] ** -0.5


def _fan_average(shape: tuple[int, ...], head_dim: int) -> float:
  del head_dim
  return (sum(shape) / 2) ** -0.5


def _query(shape: tuple[int, ...], head_dim: int) -> float:
  return _fan_in(shape, head_dim) * head_dim**-0.5


PARAMETERS: dict[str, Parameter] = {
  'embedding': Parameter(('vocab', 'embed'), _normal, _unit),
  'rel_embedding': Parameter(
    ('heads', 'relpos_buckets'), _uniform, _fan_average
  ),
  'scale': Parameter(('embed',), _ones, _unit),
  'query': Parameter(('embed', 'joined_kv'), _normal, _query),
  'key': Parameter(('embed', 'joined_kv'), _normal, _fan_in),
  'value': Parameter(('embed', 'joined_kv'), _normal, _fan_in),
  'out': Parameter(('joined_kv', 'embed'), _normal, _fan_in),
  'wi': Parameter(('embed', 'mlp'), _truncated, _fan_in),
  'wi_0': Parameter(('embed', 'mlp'), _truncated, _fan_in),
  'wi_1': Parameter(('embed', 'mlp'), _truncated, _fan_in),
  'wo': Parameter(('mlp', 'embed'), _truncated, _fan_in),
  'logits_dense': Parameter(('embed', 'vocab'), _truncated, _fan_in),
}


_SOURCES: tuple[Draw, ...] = (_ones, _normal, _truncated, _uniform)
_MOST = 1 << 30  # numbers of one draw: positions in it are int32


def parameter(path: tuple[str, ...]) -> Parameter:
  """What is known of the parameter at `path` of T5X's tree."""
  return PARAMETERS[path[-2] if path[-1] == 'kernel' else path[-1]]


def _flat(shapes: PyTree) -> Flat:
  return cast(Flat, traverse_util.flatten_dict(shapes))


def logical_axes(shapes: PyTree) -> PyTree:
  """The tree of logical axis names for a tree of parameters or shapes."""
  flat = _flat(shapes)
  return traverse_util.unflatten_dict(
    {path: parameter(path).axes for path in flat}
  )


def draw(
  shapes: PyTree[jax.ShapeDtypeStruct], key: Key[Array, ''], head_dim: int
) -> PyTree[Array]:
  """Float32 parameters of the given tree of shapes."""
  flat = _flat(shapes)
  values = {}
  for number, source in enumerate(_SOURCES):
    paths = [path for path in flat if parameter(path).draw is source]
    for part, group in enumerate(_groups(paths, flat)):
      total = sum(flat[path].size for path in group)
      own_key = jax.random.fold_in(key, number + len(_SOURCES) * part)
      numbers = _source(source, own_key, total)
      start = 0
      for path in group:
        shape = flat[path].shape
        scale = parameter(path).deviation(shape, head_dim)
        values[path] = _cut(numbers, start, scale, shape)
        start += flat[path].size
  return traverse_util.unflatten_dict({path: values[path] for path in flat})


def _groups(
  paths: list[tuple[str, ...]], flat: Flat
) -> list[list[tuple[str, ...]]]:
  """The paths in order, cut so that no group has more than `_MOST` numbers."""
  groups: list[list[tuple[str, ...]]] = []
  total = _MOST
  for path in paths:
    total += flat[path].size
    if total > _MOST:
      groups.append([])
      total = flat[path].size
    groups[-1].append(path)
  return groups


@functools.partial(jax.jit, static_argnums=(0, 2))
def _source(source: Draw, key, total):
  return source(key, (total,))


@functools.partial(jax.jit, static_argnums=3)
def _cut(numbers, start, scale, shape):
  cut = jax.lax.dynamic_slice(numbers, (start,), (math.prod(shape),))
  return cut.reshape(shape) * scale


def own_query(
  query: Float[Array, 'emb joined'], key: Float[Array, 'emb joined']
) -> Float[Array, 'emb joined']:
  """T5X's initial cross-attention queries: independent of the keys."""
  del key
  return query


def query_from_key(
  query: Float[Array, 'emb joined'], key: Float[Array, 'emb joined']
) -> Float[Array, 'emb joined']:
  """Starts cross-attention at Wq proportional to Wk: like attends to like.

  The spread of T5X's query kernel is kept, so logits keep their scale. Learns
  preference models from nothing several times faster; not T5X's initialiser.
  """
  return key * (jnp.std(query) / jnp.std(key))
