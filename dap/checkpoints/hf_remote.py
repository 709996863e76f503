"""Layer 3. Files of safetensors in a bucket, read in parts.

The library of that name maps local files only. A file is the length of its
header (8 bytes, little-endian), the header (JSON: dtype, shape and span of each
array) and the arrays' bytes one after the other.
"""

import json
import math
from collections.abc import Callable

import ml_dtypes
import numpy as np
from etils import epath

from dap.checkpoints.stored import Box

# Name of an array: its shape, its dtype as the file names it, and its reader.
Arrays = dict[str, tuple[tuple[int, ...], str, Callable[[Box], np.ndarray]]]
_MOST = 100_000_000  # bytes of a header, as the library has it
# Those that parameters have, by their names in such files.
DTYPES = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}


def arrays(path: epath.Path) -> Arrays:
  """Shape, dtype and reader of each array; only the header is read.

  Raises:
    ValueError: the header is none, or claims what the file has not.
  """
  size = path.stat().length
  with path.open('rb') as file:
    length = int.from_bytes(file.read(8), 'little')
    if length > min(_MOST, size - 8):
      raise ValueError(f'a header of {length:,} bytes in a file of {size:,}')
    header = json.loads(file.read(length))
  header.pop('__metadata__', None)
  start = 8 + length
  found: Arrays = {}
  for name, entry in header.items():
    shape, dtype = tuple(entry['shape']), entry['dtype']
    first, last = (start + offset for offset in entry['data_offsets'])
    kind = DTYPES.get(dtype)
    if kind is not None:
      wanted = math.prod(shape) * kind.itemsize
      if not (start <= first <= last <= size and last - first == wanted):
        raise ValueError(f'{name} of shape {shape} lies in {first} to {last}')
    found[name] = shape, dtype, _reader(path, first, shape, kind)
  return found


def _reader(
  path: epath.Path, first: int, shape: tuple[int, ...], kind: np.dtype | None
) -> Callable[[Box], np.ndarray]:
  def read(box: Box) -> np.ndarray:
    assert kind is not None, 'of a dtype that is refused before reading'
    rows = box[0].indices(shape[0])[:2] if shape else (0, 1)
    row = math.prod(shape[1:]) * kind.itemsize
    with path.open('rb') as file:
      file.seek(first + rows[0] * row)
      content = file.read((rows[1] - rows[0]) * row)
    part = np.frombuffer(content, kind).reshape(-1, *shape[1:])
    return part[:, *box[1:]] if shape else part[0]

  return read
