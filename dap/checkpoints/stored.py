"""Layer 3. Arrays of a checkpoint that have not been read, and reading them.

A layout opens a checkpoint as `Parts`: the name of each parameter in T5X's tree
and the `Part` of a stored array that holds it. Each stored array is read once,
by one of a few threads, and goes at once to where it is wanted: the devices of
a mesh or a file. So the host holds no more than what these threads read.
"""

import concurrent.futures
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jax
import ml_dtypes
import numpy as np
from flax import traverse_util
from jaxtyping import PyTree

from dap import progress
from dap.errors import InputError

NUM_THREADS = 4  # arrays that are read at a time
Box = tuple[slice, ...]
Shapes = Mapping[str, tuple[int, ...]]
_FLOATS = (np.float32, np.float16, np.float64, ml_dtypes.bfloat16)
_NAMED = 4  # parameters that an error names
_BIG = 1 << 28  # bytes: beyond it progress is shown


@dataclass(frozen=True, eq=False)
class Stored:
  """An array in a checkpoint, by what can be told without reading it.

  Attributes:
    name: the checkpoint's own, for messages.
    shape: of all of it.
    dtype: in which it is stored.
    read: reads a box of it; raises InputError where that cannot be done.
  """

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[Box], np.ndarray]

  @property
  def num_bytes(self) -> int:
    """In memory, in the stored dtype."""
    return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Part:
  """A parameter as a part of a stored array.

  Attributes:
    stored: the array.
    shape: of the parameter.
    cut: makes the parameter of the whole array; None where they are equal.
  """

  stored: Stored
  shape: tuple[int, ...]
  cut: Callable[[np.ndarray], np.ndarray] | None = None

  @property
  def num_bytes(self) -> int:
    """In memory, in the stored dtype."""
    return math.prod(self.shape) * self.stored.dtype.itemsize


Parts = dict[str, Part]


def whole(stored: Stored) -> Part:
  """The part that is all of a stored array."""
  return Part(stored, stored.shape)


def check_dtypes(parts: Parts, path: object) -> None:
  """Refuses arrays that hold no real numbers.

  Raises:
    InputError: naming the first.
  """
  for name, part in parts.items():
    if part.stored.dtype not in _FLOATS:
      raise InputError(
        f'Parameters are float32, bfloat16 or another float; {name} of {path}'
        f' is {part.stored.dtype}. This is no checkpoint of a T5 that was'
        ' trained: quantised ones must be converted back first.'
      )


def check_shapes(found: Shapes, needed: Shapes, path: object) -> None:
  """Refuses parameters that do not fit a model.

  Args:
    found: as the checkpoint has them, by name.
    needed: as the model has them.
    path: of the checkpoint.

  Raises:
    InputError: naming the first that are missing, unexpected or mis-shaped.
  """
  faults = {
    'missing': sorted(set(needed) - set(found)),
    'unexpected': sorted(set(found) - set(needed)),
    'of another shape': [
      f'{name} is {tuple(found[name])}, needed {tuple(needed[name])}'
      for name in sorted(set(found) & set(needed))
      if tuple(found[name]) != tuple(needed[name])
    ],
  }
  told = '; '.join(
    f'{len(names)} {kind}: {", ".join(names[:_NAMED])}'
    + (', …' if len(names) > _NAMED else '')
    for kind, names in faults.items()
    if names
  )
  if told:
    raise InputError(
      f'{path} is the checkpoint of another model. Of its parameters are'
      f' {told}. {_cure(found, needed)}'
    )


def _cure(found: Shapes, needed: Shapes) -> str:
  embedding = next((n for n in needed if n.endswith('/embedding')), '')
  if embedding in found and needed[embedding][1:] == found[embedding][1:]:
    rows, wanted = found[embedding][0], needed[embedding][0]
    if rows != wanted:
      return (
        f'Its embedding has {rows} rows and the model {wanted}: bind'
        f' VOCABULARY_SIZE={rows}, and the vocabulary that it was trained with.'
      )
  return (
    'Bind the model that wrote it: sizes, gated or plain feed-forward blocks'
    ' (T5 1.1 or 1.0), tied or untied logits; gin/models/from_checkpoint.gin'
    ' takes them from the checkpoint. Or give another checkpoint.'
  )


def read_each(
  parts: Parts,
  use: Callable[[str, np.ndarray], None],
  *,
  num_threads: int = NUM_THREADS,
  label: str = 'checkpoint',
) -> None:
  """Reads every stored array once and hands on the parameters cut from it.

  Args:
    parts: what to read.
    use: called with name and array, in the stored dtype, from several threads.
    num_threads: arrays that are in memory at a time.
    label: of the progress that is shown where it takes long.
  """

  def one(group: Mapping[str, Part]) -> int:
    stored = next(iter(group.values())).stored
    array = stored.read(_everything(stored.shape))
    for name, part in group.items():
      use(name, array if part.cut is None else part.cut(array))
    return stored.num_bytes

  run_threads(one, _by_array(parts), num_threads, label, _total_bytes(parts))


def place(
  parts: Parts,
  shardings: Mapping[str, jax.sharding.Sharding],
  *,
  num_threads: int = NUM_THREADS,
) -> dict[str, jax.Array]:
  """Float32 parameters on the devices, each array read once.

  Of an array that is a parameter as it is, a process reads what its devices
  hold; arrays from which parameters are cut or turned are read whole.

  Args:
    parts: what to read.
    shardings: where each parameter lies.
    num_threads: arrays that are in memory at a time.
  """
  placed: dict[str, jax.Array] = {}

  def one(group: Mapping[str, Part]) -> int:
    (name, part), *others = group.items()
    if not others and part.cut is None:
      box = _own_box(part.shape, shardings[name])
      array = np.asarray(part.stored.read(box))  # a scalar is none
      placed[name] = _put(array, box, part.shape, shardings[name])
      return array.nbytes
    array = part.stored.read(_everything(part.stored.shape))
    for name, part in group.items():
      value = array if part.cut is None else part.cut(array)
      box = _everything(part.shape)
      placed[name] = _put(value, box, part.shape, shardings[name])
    return part.stored.num_bytes

  run_threads(one, _by_array(parts), num_threads, 'load', _total_bytes(parts))
  return {name: placed[name] for name in parts}


def nested(named: Mapping[str, object]) -> PyTree:
  """The tree whose leaves have these slash-separated names."""
  return traverse_util.unflatten_dict(
    {tuple(name.split('/')): leaf for name, leaf in named.items()}
  )


def run_threads(
  work: Callable,
  items: Iterable,
  num_threads: int,
  label: str,
  num_bytes: int,
) -> None:
  """Calls `work` on each item; shows progress in MB where there are many.

  The first error stops what has not begun, and is raised.
  """
  pool = concurrent.futures.ThreadPoolExecutor(num_threads)
  try:
    futures = [pool.submit(work, item) for item in items]
    finished = concurrent.futures.as_completed(futures)
    if num_bytes < _BIG:
      for future in finished:
        future.result()
      return
    done = shown = 0
    with progress.track(f'{label}, MB', num_bytes // 10**6) as tick:
      for future in finished:
        done += future.result()
        if done // 10**6 > shown:
          tick(shown := done // 10**6)
  finally:
    pool.shutdown(cancel_futures=True)


def _by_array(parts: Parts) -> list[dict[str, Part]]:
  """Parameters by the array they are cut from, the largest arrays first."""
  groups: dict[int, dict[str, Part]] = {}
  for name, part in parts.items():
    groups.setdefault(id(part.stored), {})[name] = part
  size = lambda group: -next(iter(group.values())).stored.num_bytes
  return sorted(groups.values(), key=size)


def _total_bytes(parts: Parts) -> int:
  arrays = {id(part.stored): part.stored.num_bytes for part in parts.values()}
  return sum(arrays.values())


def _everything(shape: tuple[int, ...]) -> Box:
  return (slice(None),) * len(shape)


def _own_box(shape: tuple[int, ...], sharding: jax.sharding.Sharding) -> Box:
  """The smallest box with all that devices of this process hold."""
  held = [
    [part.indices(size)[:2] for part, size in zip(box, shape)]
    for box in sharding.addressable_devices_indices_map(shape).values()
    if box is not None
  ]
  return tuple(
    slice(min(start for start, _ in axis), max(stop for _, stop in axis))
    for axis in zip(*held)
  )


def _put(
  array: np.ndarray,
  box: Box,
  shape: tuple[int, ...],
  sharding: jax.sharding.Sharding,
) -> jax.Array:
  """The whole array of this shape, on the devices, of its part in `box`.

  Each device turns its own piece into float32, so that the host never holds
  a second array; one at a time, because other processes have another order.
  """
  pieces = []
  starts = [part.indices(size)[0] for part, size in zip(box, shape)]
  for device, held in sharding.addressable_devices_indices_map(shape).items():
    assert held is not None
    inside = tuple(
      slice(*(edge - start for edge in part.indices(size)[:2]))
      for part, size, start in zip(held, shape, starts)
    )
    piece = jax.device_put(array[inside], device)
    pieces.append(piece.astype(np.float32))
  whole = jax.make_array_from_single_device_arrays(shape, sharding, pieces)
  return jax.block_until_ready(whole)
