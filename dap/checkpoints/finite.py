"""Layer 3. No checkpoint holds a number that is not finite: one place for it.

A parameter that is no number makes every later one so. It is refused where
checkpoints are written, where they are read, and where numbers change their
dtype, and the array is named.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Shaped

from dap.checkpoints.stored import Box, Part, Parts, Stored
from dap.errors import InputError

_NAMED = 4  # arrays that an error names
_Leaf = Shaped[Array | np.ndarray, '...'] | np.generic


class Wrong(NamedTuple):
  """An array with numbers that are not finite, and how many of how many."""

  name: str
  count: int
  size: int


@jax.jit
def _is_finite(array: Shaped[Array, '...']) -> Bool[Array, '']:
  return jnp.isfinite(array).all()


@jax.jit
def _count(array: Shaped[Array, '...']) -> Array:
  return jnp.sum(~jnp.isfinite(array))


def wrong(named: dict[str, _Leaf]) -> list[Wrong]:
  """Arrays that hold a number that is not finite, as they lie.

  What lies on CPUs is looked at where it lies, part by part: a program of many
  devices for each array would be many at a time, and they wait for each other's
  threads for ever. What lies elsewhere is reduced there, one program a shape,
  and comes to the host as one bit an array.

  Args:
    named: arrays of jax or numpy, by name; those of no floats are passed over.
  """
  floats = {
    name: leaf
    for name, leaf in named.items()
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  }
  good = jax.device_get(
    {
      name: all(map(_holds, _parts(leaf)))
      if _is_here(leaf)
      else _is_finite(leaf)
      for name, leaf in floats.items()
    }
  )
  return [
    Wrong(name, int(jax.device_get(_count(jnp.asarray(leaf)))), leaf.size)
    for name, leaf in floats.items()
    if not good[name]
  ]


def _is_here(leaf: _Leaf) -> bool:
  if not isinstance(leaf, jax.Array):
    return True
  devices = leaf.sharding.device_set
  return leaf.is_fully_addressable and all(d.platform == 'cpu' for d in devices)


def _parts(leaf: _Leaf) -> list[np.ndarray]:
  """An array in its parts, each once."""
  if not isinstance(leaf, jax.Array):
    return [np.asarray(leaf)]
  return [
    np.asarray(s.data) for s in leaf.addressable_shards if not s.replica_id
  ]


def _holds(array: np.ndarray) -> bool:
  """Whether all is finite; of what is, the sum mostly is, and takes no room."""
  with np.errstate(over='ignore', invalid='ignore'):
    total = np.sum(array, dtype=np.float32)
  return bool(np.isfinite(total)) or bool(np.isfinite(array).all())


def told(found: list[Wrong], number: int) -> str:
  """'2 of 29 arrays: encoder/kernel (3 of 64), …'."""
  named = ', '.join(f'{w.name} ({w.count:,} of {w.size:,})' for w in found[:4])
  more = ', …' if len(found) > _NAMED else ''
  return f'{len(found)} of {number} arrays: {named}{more}'


def checked(parts: Parts, path: object) -> Parts:
  """The same parts; to read one of them that is not finite is an error.

  Raises:
    InputError: not here, but where an array is read.
  """
  wrapped: dict[int, Stored] = {}

  def once(stored: Stored) -> Stored:  # parts of one array stay of one
    if id(stored) not in wrapped:
      wrapped[id(stored)] = _reading(stored, path)
    return wrapped[id(stored)]

  return {
    name: Part(once(part.stored), part.shape, part.cut)
    for name, part in parts.items()
  }


def _reading(stored: Stored, path: object) -> Stored:
  def read(box: Box) -> np.ndarray:
    array = np.asarray(stored.read(box))
    narrow = array
    if array.dtype.itemsize > 4:  # parameters are float32
      with np.errstate(over='ignore'):
        narrow = array.astype(np.float32)
    if not _holds(narrow):
      count = int(np.sum(~np.isfinite(narrow)))
      raise InputError(
        f'Parameters are finite numbers of float32; of {stored.name} of {path}'
        f' {count:,} of {array.size:,} are not. The training that wrote it had'
        ' gone wrong, or the file is damaged: give an older checkpoint.'
      )
    return array

  return dataclasses.replace(stored, read=read)


def cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
  """The array in another dtype, whose range is to hold its numbers.

  Raises:
    InputError: a number becomes infinite.
  """
  wanted = jnp.dtype(dtype)
  with np.errstate(over='ignore'):
    narrow = array.astype(wanted, copy=False)
  if narrow is not array and not _holds(narrow):
    raise InputError(
      f'{name} has numbers too large for {dtype}: the largest is'
      f' {np.abs(array.astype(np.float64)).max():.3g}. Convert to float32.'
    )
  return narrow
