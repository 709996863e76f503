"""Layer 3. Trees of other T5 implementations in T5X's terms: parts of arrays.

T5X's `scalable_t5` keeps the layers of a stack in one array, along its second
axis, and the kernels of attention split into heads; each of its layers has a
relative-position table of its own, and ours share one.
"""

import math
import re

import numpy as np

from dap.checkpoints.stored import Part, Parts, Stored, whole
from dap.errors import InputError

_STACKS = ('encoder', 'decoder')
_INTO_HEADS = re.compile(r'(query|key|value)/kernel$')
_OUT_OF_HEADS = re.compile(r'out/kernel$')
_TABLE = 'relpos_bias/rel_embedding'


def is_scanned(names: set[str]) -> bool:
  """Whether these are names of a tree with scanned layers."""
  return any(name.startswith(f'{s}/{s}/') for name in names for s in _STACKS)


def unscanned(arrays: dict[str, Stored]) -> Parts:
  """Parameters of T5X's unscanned tree, cut from arrays of a scanned one.

  Raises:
    InputError: the arrays do not agree on the number of layers.
  """
  parts: Parts = {}
  for name, array in arrays.items():
    stack = next((s for s in _STACKS if name.startswith(f'{s}/{s}/')), None)
    if stack is None:
      parts[name] = whole(array)
      continue
    rest = name.removeprefix(f'{stack}/{stack}/')
    if rest == _TABLE:
      shape = (array.shape[0], *array.shape[2:])
      parts[f'{stack}/{rest}'] = Part(array, shape, _shared(name))
      continue
    for layer in range(_num_layers(stack, arrays)):
      cut, shape = _layer(rest, array, layer)
      parts[f'{stack}/layers_{layer}/{rest}'] = Part(array, shape, cut)
  return parts


def _num_layers(stack: str, arrays: dict[str, Stored]) -> int:
  """The common size of the second axes."""
  own = [x for n, x in arrays.items() if n.startswith(f'{stack}/{stack}/')]
  sizes = {x.shape[1] if len(x.shape) > 1 else 0 for x in own}
  if len(sizes) != 1 or 0 in sizes:
    raise InputError(
      f'Scanned layers of the {stack} lie along the second axis of each array,'
      f' which then have one size; got {sorted(sizes)}. Give a checkpoint that'
      ' T5X wrote with scan_axis = 1.'
    )
  return sizes.pop()


def _layer(rest: str, array: Stored, layer: int):
  """How to cut one layer of an array, and its shape."""
  shape = (array.shape[0], *array.shape[2:])
  if len(shape) == 3 and _INTO_HEADS.search(rest):
    shape = (shape[0], math.prod(shape[1:]))
  elif len(shape) == 3 and _OUT_OF_HEADS.search(rest):
    shape = (math.prod(shape[:2]), shape[2])
  return lambda x: np.ascontiguousarray(x[:, layer]).reshape(shape), shape


def _shared(name: str):
  def cut(tables: np.ndarray) -> np.ndarray:
    first = np.ascontiguousarray(tables[:, 0])
    if not (tables == first[:, None]).all():
      raise InputError(
        f'All layers of a stack share one relative-position table here; in'
        f' {name} they differ, as in umT5, which this model is not. Give a T5,'
        ' mT5, ByT5 or Flan checkpoint.'
      )
    return first

  return cut
