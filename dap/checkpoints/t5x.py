"""Layer 3. Native T5X checkpoints, read without T5X.

A folder `checkpoint_N` holds `checkpoint` (flax msgpack: the tree, small arrays
inline) and one zarr folder for each large array, whose metadata are dot files.
Public T5 1.0, 1.1 and Flan checkpoints have this form, and the parameter names
of `models/t5.py`.
"""

import hashlib
import pathlib
from typing import Any

import jax
import numpy as np
from flax import serialization, traverse_util
from jaxtyping import PyTree

from dap.errors import InputError

OLDEST_VERSION = 2
_HEAD = 1 << 16  # bytes of each file that tell checkpoints apart


def is_native(directory: str | pathlib.Path) -> bool:
  """Whether a folder has the index of a native T5X checkpoint."""
  return pathlib.Path(directory, 'checkpoint').is_file()


def read_native(directory: str | pathlib.Path) -> dict[str, Any]:
  """Parameters, as nested dicts of float32 numpy arrays.

  Raises:
    InputError: if this is no native T5X checkpoint, or part of it is missing.
  """
  directory = pathlib.Path(directory)
  target = _read_index(directory)['target']
  specs = traverse_util.flatten_dict(target, is_leaf=lambda _, x: _is_spec(x))
  opened = {path: _open(directory, x) for path, x in specs.items()}
  arrays = {
    path: np.asarray(x if isinstance(x, np.ndarray) else x.result(), np.float32)
    for path, x in opened.items()
  }
  return traverse_util.unflatten_dict(arrays)


def read_native_step(directory: str | pathlib.Path) -> int:
  """The number of updates that made the parameters."""
  return int(_read_index(pathlib.Path(directory))['state']['step'])


def fingerprint(directory: str | pathlib.Path) -> str:
  """SHA-256 of the index and of name, size and beginning of all other files.

  The beginnings alone, because the largest of these checkpoints have 45 GB;
  compressed weights of two models differ in their first bytes.
  """
  digest = hashlib.sha256()
  directory = pathlib.Path(directory)
  for path in sorted(directory.rglob('*')):
    if path.is_file():
      name = path.relative_to(directory).as_posix()
      with open(path, 'rb') as file:
        head = file.read(-1 if name == 'checkpoint' else _HEAD)
      digest.update(f'{name} {path.stat().st_size} '.encode())
      digest.update(hashlib.sha256(head).digest())
  return digest.hexdigest()


def check_params(params: PyTree, expected: PyTree) -> None:
  """Refuses parameters that do not fit a model.

  Args:
    params: parameters as read.
    expected: the model's own, arrays or shapes, e.g. of `Policy.init`.

  Raises:
    InputError: naming the first parameters that are missing, unknown, or of
      another shape.
  """
  found: dict[str, Any] = traverse_util.flatten_dict(params, sep='/')
  wanted: dict[str, Any] = traverse_util.flatten_dict(expected, sep='/')
  faults = [f'{name} is missing' for name in sorted(set(wanted) - set(found))]
  faults += [f'{name} is unknown' for name in sorted(set(found) - set(wanted))]
  faults += [
    f'{name} has shape {np.shape(found[name])}, not {wanted[name].shape}'
    for name in sorted(set(found) & set(wanted))
    if np.shape(found[name]) != wanted[name].shape
  ]
  if faults:
    raise InputError(
      f'The checkpoint must fit the model; {len(faults)} of its parameters do'
      f' not: {"; ".join(faults[:3])}. Choose the model configuration that the'
      ' checkpoint was made with (unscanned layers, gated or plain MLP, tied or'
      ' untied logits).'
    )


def _read_index(directory: pathlib.Path) -> dict[str, Any]:
  path = directory / 'checkpoint'
  if not path.is_file():
    raise InputError(
      f'A native T5X checkpoint needs a file {path}; there is none. Give the'
      ' folder checkpoint_N itself.'
    )
  index: Any = serialization.msgpack_restore(path.read_bytes())
  version = index.get('version', 0) if isinstance(index, dict) else 0
  if version < OLDEST_VERSION:
    raise InputError(
      f'{path} must be a T5X checkpoint of version >= {OLDEST_VERSION}, got'
      f' {version}. Convert it with an older T5X first.'
    )
  return index['optimizer']


def _is_spec(x: Any) -> bool:
  return isinstance(x, dict) and {'driver', 'metadata'} <= x.keys()


def _open(directory: pathlib.Path, leaf: Any) -> Any:
  """An inline array itself, or the future of a stored one.

  The stored driver and bucket say where the writer put the array; it is read
  from beside the index.
  """
  if isinstance(leaf, np.ndarray | np.generic | jax.Array):
    return np.asarray(leaf)
  import tensorstore

  # Before tensorstore 0.1.14 the path stood at the top level.
  name = leaf.get('kvstore', leaf).get('path', leaf.get('path', ''))
  folder = directory / pathlib.PurePosixPath(name).name
  if not (folder / '.zarray').is_file():
    raise InputError(
      f'The checkpoint needs {folder}/.zarray; there is none. Copy the whole'
      ' folder with its dot files.'
    )
  kvstore = {'driver': 'file', 'path': f'{folder}/'}
  array = tensorstore.open({'driver': 'zarr', 'kvstore': kvstore}).result()
  return array.read()
