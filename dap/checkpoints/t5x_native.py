"""Layer 3. Native T5X checkpoints, read and written without T5X.

A folder `checkpoint_N` holds `checkpoint` (flax msgpack: the tree, small arrays
inline) and one zarr folder for each large array, whose metadata are dot files.
Public T5 1.0, 1.1 and Flan checkpoints have this form, and the parameter names
of `models/t5.py`.
"""

import math

import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import serialization, traverse_util
from jaxtyping import PyTree

from dap.checkpoints import finite, stored, tensors, trees
from dap.checkpoints.stored import Parts, Stored
from dap.errors import InputError

INDEX = 'checkpoint'
VERSION = 3
OLDEST_VERSION = 2
_CHUNK = 64 << 20  # bytes of a chunk at most, as T5X has it
_GZIP = {'id': 'gzip', 'level': 1}


def is_native(path: epath.Path) -> bool:
  """Whether a folder has the index of a native T5X checkpoint."""
  return tensors.is_file(path / INDEX)


def open_native(path: epath.Path) -> tuple[dict[str, Stored], int]:
  """The parameters under their own names, not read yet, and the step.

  Raises:
    InputError: if this is no native T5X checkpoint, or part of it is missing.
  """
  content = _read_index(path)
  try:
    leaves, folders, step = _parsed(content, path)
  except (TypeError, ValueError, AttributeError, KeyError) as error:
    raise tensors.unreadable(path, f'the index {INDEX}', error) from error
  store = tensors.folder(path)
  keys = tensors.listing(store, path)
  arrays = tensors.open_arrays(store, folders, keys, path)
  inline = {
    name: _inline(name, leaf, path)
    for name, leaf in leaves.items()
    if name not in folders
  }
  found = {name: (arrays | inline)[name] for name in leaves}
  return trees.parameters(found, path), step


def _read_index(path: epath.Path) -> PyTree:
  try:
    return serialization.msgpack_restore((path / INDEX).read_bytes())
  except FileNotFoundError:
    raise InputError(
      f'A native T5X checkpoint needs a file {path / INDEX}; there is none.'
      ' Give the folder checkpoint_N itself.'
    ) from None
  except Exception as error:  # msgpack and flax raise many kinds
    raise tensors.unreadable(path, f'the index {INDEX}', error) from error


def _parsed(
  content: PyTree, path: epath.Path
) -> tuple[dict[str, PyTree], dict[str, str], int]:
  """Leaves by name, the folders of those that have one, and the step."""
  version = content.get('version', 0) if isinstance(content, dict) else 0
  if not isinstance(version, int) or version < OLDEST_VERSION:
    raise InputError(
      f'{path / INDEX} must be a T5X checkpoint of version >='
      f' {OLDEST_VERSION}, got {version!r}. Convert it with an older T5X first.'
    )
  index = content.get('optimizer', content)
  target = index.get('target')
  if not isinstance(target, dict) or not target:
    raise InputError(
      f'{path / INDEX} must have parameters under `target`; it has'
      f' {", ".join(map(str, index)) or "nothing"}. Give a checkpoint that T5X'
      ' wrote.'
    )
  flat = traverse_util.flatten_dict(target, is_leaf=lambda _, x: _is_spec(x))
  leaves: dict[str, PyTree] = {
    '/'.join(map(str, keys)): leaf for keys, leaf in flat.items()
  }
  folders = {name: _folder(x) for name, x in leaves.items() if _is_spec(x)}
  return leaves, folders, int(index.get('state', {}).get('step', 0))


def _is_spec(x: object) -> bool:
  return isinstance(x, dict) and {'driver', 'metadata'} <= x.keys()


def _folder(spec: PyTree) -> str:
  """The folder beside the index that holds an array.

  The stored driver and bucket say where the writer put it, and are not used.
  """
  # Before tensorstore 0.1.14 the path stood at the top level.
  path = spec.get('kvstore', {}).get('path') or spec.get('path', '')
  return str(path).rstrip('/').rpartition('/')[2]


def _inline(name: str, leaf: PyTree, path: epath.Path) -> Stored:
  try:
    array = np.asarray(leaf)
  except ValueError as error:
    raise tensors.unreadable(path, name, error) from error
  return Stored(name, array.shape, array.dtype, lambda box: array[box])


def write(
  folder: epath.Path, parts: Parts, step: int, dtype: str = 'float32'
) -> None:
  """Writes parameters as T5X does; the index, which makes it whole, last.

  Args:
    folder: of the checkpoint, T5X's `checkpoint_<step>`.
    parts: the parameters.
    step: updates that made them.
    dtype: to store them in, float32 or bfloat16.
  """
  import tensorstore

  base = tensors.folder(folder)

  def write_array(name: str, array: np.ndarray) -> None:
    spec = _spec(name, array.shape, dtype)
    place = {**base, 'path': f'{base["path"]}{_place(name)}/'}
    opened = tensorstore.open({**spec, 'kvstore': place}, create=True).result()
    opened.write(finite.cast(name, array, dtype)).result()

  stored.read_each(parts, write_array, label='write')
  tree = stored.nested({n: _spec(n, x.shape, dtype) for n, x in parts.items()})
  state = {'step': np.asarray(step, np.int32)}
  index = {'version': VERSION, 'optimizer': {'state': state, 'target': tree}}
  # In place: else flax sorts the keys, and T5X does not.
  packed = serialization.msgpack_serialize(index, in_place=True)
  (folder / INDEX).write_bytes(packed)


def layout(parts: Parts) -> list[str]:
  """The names of what `write` makes, one for each array, and the index."""
  return [INDEX, *(f'{_place(name)}/' for name in parts)]


def _place(name: str) -> str:
  return f'target.{name.replace("/", ".")}'


def _spec(name: str, shape: tuple[int, ...], dtype: str) -> dict[str, object]:
  itemsize = jnp.dtype(dtype).itemsize
  return {
    'driver': 'zarr',
    'dtype': dtype,
    'kvstore': {'driver': 'file', 'path': f'{_place(name)}/'},
    'metadata': {
      'chunks': list(chunk_shape(shape, _CHUNK // itemsize)),
      'compressor': dict(_GZIP),
      'shape': list(shape),
    },
  }


def chunk_shape(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
  """The shape cut along its longest axes until it has at most `most` numbers.

  Chunks divide the array evenly, as T5X's do.
  """
  chunk = list(shape)
  while math.prod(chunk) > most:
    axis = max(range(len(chunk)), key=lambda i: chunk[i])
    size = shape[axis]
    chunk[axis] = next(n for n in range(chunk[axis] - 1, 0, -1) if not size % n)
  return tuple(chunk)
