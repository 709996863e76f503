"""Layer 3. Arrays in a tensorstore: zarr folders, alone or inside OCDBT.

Paths are local or of a bucket that tensorstore knows (gs://, s3://). What an
array's metadata declares is held against what is really there before memory is
taken for it.
"""

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from etils import epath

from dap import files
from dap.checkpoints.stored import Box, Stored
from dap.errors import InputError

if TYPE_CHECKING:
  import tensorstore

Store = Mapping[str, str | Mapping[str, str]]  # tensorstore's name of a place
Json = Mapping[str, Any]  # as a library parsed it
_METADATA = {'.zarray': 'zarr', 'zarr.json': 'zarr3'}
_DEFLATE = 1100  # times: gzip cannot shrink data further
_ANY = 20_000  # times: what we believe of other compressors
_SMALL = 1 << 26  # bytes that are read without such doubts


def folder(path: epath.Path) -> dict[str, str]:
  """Tensorstore's name of a folder of plain files, or of objects."""
  text = os.fspath(path).rstrip('/') + '/'
  if '://' not in text:
    return {'driver': 'file', 'path': str(path.resolve()).rstrip('/') + '/'}
  driver, _, rest = text.partition('://')
  bucket, _, key = rest.partition('/')
  drivers = {'gs': 'gcs', 's3': 's3'}
  if driver not in drivers:
    raise InputError(
      f'Arrays are read from local folders, gs:// and s3://; got {path}. Copy'
      ' the checkpoint to one of these.'
    )
  return {'driver': drivers[driver], 'bucket': bucket, 'path': key}


def ocdbt(path: epath.Path) -> dict[str, str | dict[str, str]]:
  """Tensorstore's name of the database that Orbax keeps in a folder."""
  return {'driver': 'ocdbt', 'base': folder(path)}


def is_file(path: epath.Path) -> bool:
  """Whether a file lies there; a pipe or a device is none."""
  if '://' in os.fspath(path):
    return path.is_file()
  return os.path.isfile(path)


def files_under(path: epath.Path) -> Iterator[epath.Path]:
  """All files in a folder and its folders, in the order of their names."""
  for name in sorted(listing(folder(path), path)):
    yield path / name


def listing(store: Store, path: epath.Path) -> set[str]:
  """All keys under a store.

  Raises:
    InputError: it cannot be read.
  """
  import tensorstore

  try:
    keys = tensorstore.KvStore.open(store).result().list().result()
  except Exception as error:  # tensorstore has ValueError and many others
    raise unreadable(path, 'its list of arrays', error) from error
  return {key.decode() for key in keys}


def array_folders(keys: set[str]) -> dict[str, str]:
  """Folders that hold an array, and the driver that reads each."""
  found = {}
  for key in keys:
    name, _, file = key.rpartition('/')
    if file in _METADATA:
      found[name] = _METADATA[file]
  return found


def open_arrays(
  store: Store,
  folders: Mapping[str, str],
  keys: set[str],
  path: epath.Path,
) -> dict[str, Stored]:
  """Opens arrays, all at once, without reading their numbers.

  Args:
    store: where they lie.
    folders: folder of each array, by the name that it gets.
    keys: all keys of the store.
    path: of the checkpoint, for messages and sizes.

  Raises:
    InputError: an array is absent, or holds less than it declares.
  """
  import tensorstore

  drivers = array_folders(keys)
  for name, place in folders.items():
    if place not in drivers:
      raise InputError(
        f'The checkpoint needs {path}/{files.shortened(place)}/.zarray, of the'
        f' array {files.shortened(name)};'
        ' there is none. Copy the whole folder with its dot files.'
      )
  futures = {}
  for name, place in folders.items():
    inside = {**store, 'path': f'{store.get("path", "")}{place}/'}
    spec = {'driver': drivers[place], 'kvstore': inside}
    futures[name] = tensorstore.open(spec, open=True, read=True)
  opened = {}
  for name, future in futures.items():
    try:
      opened[name] = future.result()
    except Exception as error:
      raise unreadable(path, name, error) from error
    _check_chunks(name, opened[name], folders[name], keys, path)
  _check_sizes(store, folders, opened, path)
  return {name: _stored(name, x, path) for name, x in opened.items()}


def _stored(
  name: str, array: 'tensorstore.TensorStore', path: epath.Path
) -> Stored:
  def read(box: Box) -> np.ndarray:
    try:
      return array[box].read().result()
    except Exception as error:
      raise unreadable(path, name, error) from error

  return Stored(name, tuple(array.shape), array.dtype.numpy_dtype, read)


def _check_chunks(
  name: str,
  array: 'tensorstore.TensorStore',
  place: str,
  keys: set[str],
  path: epath.Path,
) -> None:
  """An absent chunk would be read as zeros, a vast one into vast memory."""
  metadata = array.spec().to_json()['metadata']
  shape = array.chunk_layout.write_chunk.shape or ()  # None of a scalar
  chunk = cast(tuple[int, ...], shape)
  size = math.prod(chunk) * array.dtype.numpy_dtype.itemsize
  if size > max(_SMALL, _bytes(array)):
    raise InputError(
      f'The array {name} of {path} declares {_bytes(array):,} bytes in chunks'
      f' of {size:,}. The checkpoint is damaged: copy it again.'
    )
  if metadata.get('fill_value') is not None:
    return  # chunks of nothing else may be left out
  grid = [math.ceil(n / c) for n, c in zip(array.shape, chunk)]
  wanted = math.prod(grid)
  if wanted > len(keys):
    missing = f'{wanted} chunks, where there are at most {len(keys)}'
  else:
    boxes = itertools.product(*map(range, grid))
    names = (_chunk_key(box, metadata) for box in boxes)
    absent = [key for key in names if f'{place}/{key}' not in keys]
    if not absent:
      return
    missing = f'{wanted} chunks; {len(absent)} are absent, first {absent[0]!r}'
  raise InputError(
    f'The array {name} of {path} needs {missing}. The checkpoint was not copied'
    ' whole, or its writing was interrupted: copy it again.'
  )


def _bytes(array: 'tensorstore.TensorStore') -> int:
  return math.prod(array.shape) * array.dtype.numpy_dtype.itemsize


def _chunk_key(box: tuple[int, ...], metadata: Json) -> str:
  if metadata.get('zarr_format') == 3:
    encoding = metadata.get('chunk_key_encoding', {})
    part = encoding.get('configuration', {}).get('separator', '/')
    return part.join(['c', *map(str, box)])
  return metadata.get('dimension_separator', '.').join(map(str, box)) or '0'


def _check_sizes(
  store: Store,
  folders: Mapping[str, str],
  opened: Mapping[str, 'tensorstore.TensorStore'],
  path: epath.Path,
) -> None:
  """Refuses headers that declare what the bytes beside them cannot hold."""
  if store['driver'] == 'ocdbt':
    total = sum(map(_bytes, opened.values()))
    checks = [('its arrays', path, total, _ANY)] if total > _SMALL else []
  else:
    checks = [
      (name, path / folders[name], _bytes(array), _ratio(array))
      for name, array in opened.items()
      if _bytes(array) > _SMALL
    ]
  for name, place, size, ratio in checks:
    found = sum(file.stat().length for file in files_under(place))
    if size > ratio * found:
      raise InputError(
        f'{name} of {path} declare {size:,} bytes, but {found:,} bytes are'
        ' stored. The checkpoint is damaged: copy it again.'
      )


def _ratio(array: 'tensorstore.TensorStore') -> int:
  """How many times smaller than its numbers an array's files can be."""
  compressor = array.spec().to_json()['metadata'].get('compressor') or {}
  return _DEFLATE if compressor.get('id') in ('gzip', 'zlib') else _ANY


def first_line(error: Exception) -> str:
  """What an error of a library says first."""
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0][:400]


def unreadable(path: object, name: str, error: Exception) -> InputError:
  """The error of an array, a file or a list that cannot be read."""
  return InputError(
    f'{name} of the checkpoint {path} cannot be read: {first_line(error)}.'
    ' Where it is cut short, copy the checkpoint again; where a bucket refuses,'
    ' log in, or copy it to a local folder.'
  )
