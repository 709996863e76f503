"""Layer 2. Which device holds what: mesh, logical axis rules, shardings.

A mesh has the axes `data` (examples) and `model` (width, heads, vocabulary).
T5X's rules say which logical axis of a parameter lies along which of them. The
mesh changes where numbers live, not what they are, beyond rounding.
"""

import math

import jax
from jax.sharding import (
  AbstractMesh,
  AxisType,
  Mesh,
  NamedSharding,
  PartitionSpec,
)
from jaxtyping import PyTree

from dap.errors import InputError

Rules = tuple[tuple[str, str | None], ...]
AnyMesh = Mesh | AbstractMesh

# T5X's standard_logical_axis_rules: parameters split along one mesh axis.
STANDARD_RULES: Rules = (
  ('batch', 'data'),
  ('vocab', 'model'),
  ('mlp', 'model'),
  ('heads', 'model'),
  ('joined_kv', 'model'),
  ('embed', None),
  ('kv', None),
  ('relpos_buckets', None),
)

# The same with parameters and optimizer state split over the data axis too.
FULLY_SHARDED_RULES: Rules = (
  *(rule for rule in STANDARD_RULES if rule[0] != 'embed'),
  ('embed', 'data'),
)


def mesh(shape: tuple[int, int] | None = None) -> Mesh:
  """A mesh of (data, model) devices; all devices on `data` by default.

  The first `data * model` devices are taken. Axes are automatic: XLA chooses
  the sharding of intermediate values.

  Raises:
    InputError: if there are too few devices.
  """
  devices = jax.devices()
  if shape is None:
    shape = (len(devices), 1)
  if min(shape) < 1 or math.prod(shape) > len(devices):
    raise InputError(
      f'A mesh of {shape[0]} x {shape[1]} (data x model) needs'
      f' {math.prod(shape)} devices, both numbers at least 1; there are'
      f' {len(devices)}. Choose a smaller mesh.'
    )
  return jax.make_mesh(
    shape,
    ('data', 'model'),
    axis_types=(AxisType.Auto, AxisType.Auto),
    devices=devices[: math.prod(shape)],
  )


def abstract_mesh(shape: tuple[int, int]) -> AbstractMesh:
  """A (data, model) mesh without devices: enough for shapes and lowering."""
  axis_types = (AxisType.Auto, AxisType.Auto)
  return AbstractMesh(shape, ('data', 'model'), axis_types=axis_types)


def replicated(mesh: AnyMesh) -> NamedSharding:
  """All of an array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def by_example(mesh: AnyMesh) -> NamedSharding:
  """The first axis of an array split over the data axis."""
  return NamedSharding(mesh, PartitionSpec('data'))


def param_sharding(
  logical_axes: PyTree, mesh: AnyMesh, rules: Rules = STANDARD_RULES
) -> PyTree:
  """Shardings of parameters whose logical axes are the leaves given.

  An axis without a rule (or named None) is not split; of two axes of one
  parameter with the same mesh axis, the first has it.
  """
  table = dict(rules)

  def place(names: tuple[str | None, ...]) -> NamedSharding:
    spec: list[str | None] = []
    for name in names:
      axis = table.get(name) if name is not None else None
      spec.append(None if axis in spec else axis)
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(place, logical_axes, is_leaf=_is_names)


def _is_names(x: object) -> bool:
  return isinstance(x, tuple) and all(
    name is None or isinstance(name, str) for name in x
  )


def like_params(
  tree: PyTree, params: PyTree, sharding: PyTree, mesh: AnyMesh
) -> PyTree:
  """Shardings of an optimizer's state: moments lie as their parameters do.

  A leaf whose path ends in a parameter's path and that has its shape is placed
  like it; all else (counts, factored moments) is replicated.

  Args:
    tree: state, arrays or shapes.
    params: parameters, arrays or shapes.
    sharding: of the parameters.
    mesh: of the sharding.

  Raises:
    InputError: if a parameter cannot be split as its sharding says.
  """
  check_divisible(params, sharding)
  shapes = jax.tree_util.tree_leaves_with_path(params)
  placed = jax.tree.leaves(sharding)
  known = {
    path: (leaf.shape, leaf_sharding)
    for (path, leaf), leaf_sharding in zip(shapes, placed, strict=True)
  }

  def place(path, leaf):
    for start in range(len(path)):
      shape, leaf_sharding = known.get(path[start:], (None, None))
      if shape == leaf.shape:
        return leaf_sharding
    return replicated(mesh)

  return jax.tree_util.tree_map_with_path(place, tree)


def check_divisible(params: PyTree, sharding: PyTree) -> None:
  """Refuses parameters that cannot be split as their shardings say.

  Raises:
    InputError: naming the first.
  """
  shapes = jax.tree_util.tree_leaves_with_path(params)
  placed = jax.tree.leaves(sharding)
  for (path, leaf), leaf_sharding in zip(shapes, placed, strict=True):
    _check_divisible(jax.tree_util.keystr(path), leaf.shape, leaf_sharding)


def _check_divisible(
  name: str, shape: tuple[int, ...], sharding: NamedSharding
) -> None:
  for size, axis in zip(shape, sharding.spec):
    count = 1 if axis is None else sharding.mesh.shape[axis]
    if size % count:
      raise InputError(
        f'Parameter {name} of shape {shape} needs an axis divisible by the'
        f' {count} devices of the mesh axis {axis!r}, got {size}. Change the'
        " mesh, or pad the model's size."
      )
