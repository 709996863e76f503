"""Layer 3. Trees of other T5 implementations in T5X's terms: parts of arrays.

Whoever saved a whole training has the parameters under a prefix (params/params,
model, target), beside moments of the optimizer, which have the same names.

T5X's `scalable_t5` keeps the layers of a stack in one array, along its second
axis, and the kernels of attention split into heads; each of its layers has a
relative-position table of its own, and ours share one.
"""

import math
import re
from collections.abc import Mapping

import numpy as np
from etils import epath

from dap.checkpoints.stored import Part, Parts, Stored, whole
from dap.errors import InputError

_STACKS = ('encoder', 'decoder')
_INTO_HEADS = re.compile(r'(query|key|value)/kernel$')
_OUT_OF_HEADS = re.compile(r'out/kernel$')
_TABLE = 'relpos_bias/rel_embedding'
_EMBEDDING = 'token_embedder/embedding'
_BODY = 'transformer/'  # of a preference model, beside its head
_TREES = ('target', 'params', 'model')  # what trees of parameters are called
_OWN = {'token_embedder', 'encoder', 'decoder', 'transformer', 'head'}
# What optax, flax and T5X call the states of an optimizer, and its moments.
_MOMENTS = {
  'opt',
  'optim',
  'optimizer',
  'optimizer_state',
  'opt_state',
  'opt_states',
  'param_states',
  'mu',
  'nu',
  'm',
  'v',
  'v_col',
  'v_row',
  'exp_avg',
  'exp_avg_sq',
}


def is_moment(name: str) -> bool:
  """Whether an array of this name is an optimizer's, never a parameter."""
  return not _MOMENTS.isdisjoint(name.lower().split('/'))


def parameters(
  arrays: Mapping[str, Stored], path: epath.Path
) -> dict[str, Stored]:
  """The parameters of a tree under their own names, wherever they lie in it.

  Args:
    arrays: all of the tree, by slash-separated names.
    path: of the checkpoint, for messages.

  Raises:
    InputError: there are none, several sets of them, or others beside a T5.
  """
  kept = {name: x for name, x in arrays.items() if not is_moment(name)}
  if not kept:
    raise InputError(
      f'{path} holds no parameters, but states of an optimizer alone, such as'
      f' {next(iter(arrays), "nothing")}. Give the folder of the parameters.'
    )
  found = {
    name.removesuffix(_EMBEDDING).removesuffix(_BODY)
    for name in kept
    if f'/{name}'.endswith(f'/{_EMBEDDING}')
  }
  if len(found) > 1:
    named = ', '.join(sorted(prefix or 'the root' for prefix in found))
    raise InputError(
      f'{path} holds several sets of parameters: under {named}. Save the one'
      ' that you want alone, and give that.'
    )
  if not found:
    return _under_a_root(kept)
  prefix = found.pop()
  under = {
    name.removeprefix(prefix): x
    for name, x in kept.items()
    if name.startswith(prefix)
  }
  others = [n for n, x in under.items() if n.split('/')[0] not in _OWN]
  if others:
    raise InputError(
      f'{path} has a T5 under {prefix or "its root"}, and beside it'
      f' {prefix}{others[0]}, which is no parameter of it. Save the parameters'
      ' alone, and give that.'
    )
  return under


def _under_a_root(arrays: dict[str, Stored]) -> dict[str, Stored]:
  """What is no T5 is taken from under the names that trees mostly have."""
  while True:
    root = next(
      (r for r in _TREES if any(n.startswith(f'{r}/') for n in arrays)), None
    )
    if root is None:
      return arrays
    arrays = {
      name.removeprefix(f'{root}/'): x
      for name, x in arrays.items()
      if name.startswith(f'{root}/')
    }


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
