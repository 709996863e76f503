import threading

import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dap import partitioning
from dap.checkpoints import stored
from dap.errors import InputError


class Shelf:
  """Arrays that count how they are read."""

  def __init__(self, **shapes):
    self.arrays = {
      name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
      for name, shape in shapes.items()
    }
    self.boxes = []
    self.at_once = self.most_at_once = 0
    self._lock = threading.Lock()

  def stored(self, name):
    def read(box):
      with self._lock:
        self.boxes.append((name, box))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
      threading.Event().wait(0.01)
      with self._lock:
        self.at_once -= 1
      return self.arrays[name][box]

    array = self.arrays[name]
    return stored.Stored(name, array.shape, array.dtype, read)

  def parts(self):
    return {name: stored.whole(self.stored(name)) for name in self.arrays}


def sharding(*axes):
  return NamedSharding(partitioning.mesh((2, 2)), PartitionSpec(*axes))


def test_each_array_is_read_once_whatever_the_mesh():
  shelf = Shelf(a=(4, 6), b=(8,), c=())
  shardings = {
    'a': sharding('data', 'model'),
    'b': sharding('model'),
    'c': sharding(),
  }
  placed = stored.place(shelf.parts(), shardings)
  assert sorted(name for name, _ in shelf.boxes) == ['a', 'b', 'c']
  for name, array in shelf.arrays.items():
    np.testing.assert_array_equal(placed[name], array)
    assert placed[name].sharding == shardings[name]


def test_parts_of_one_array_share_its_reading():
  shelf = Shelf(layers=(3, 2))
  array = shelf.stored('layers')
  parts = {
    str(i): stored.Part(array, (3,), lambda x, i=i: x[:, i]) for i in range(2)
  }
  read = {}
  stored.read_each(parts, lambda name, x: read.update({name: x}))
  assert len(shelf.boxes) == 1
  np.testing.assert_array_equal(read['1'], [1, 3, 5])


def test_no_more_arrays_than_threads_are_in_memory():
  shelf = Shelf(**{f'x{i}': (2,) for i in range(12)})
  everywhere = {name: sharding() for name in shelf.arrays}
  stored.place(shelf.parts(), everywhere, num_threads=3)
  assert 1 < shelf.most_at_once <= 3
  shelf = Shelf(**{f'x{i}': (2,) for i in range(12)})
  stored.read_each(shelf.parts(), lambda name, x: None, num_threads=1)
  assert shelf.most_at_once == 1


def test_a_process_reads_only_what_it_holds(monkeypatch):
  shelf = Shelf(a=(4, 6))
  split = sharding('data')
  # As if the second half of the rows lay on another process.
  first = (slice(0, 2, None), slice(None))
  monkeypatch.setattr(stored, '_own_boxes', lambda shape, own: [first])
  placed = stored.place(shelf.parts(), {'a': split})['a']
  # Here both halves are placed, each of them read by itself and once.
  assert sorted(str(box[0]) for _, box in shelf.boxes) == [
    str(slice(0, 2)),
    str(slice(2, 4)),
  ]
  np.testing.assert_array_equal(placed, shelf.arrays['a'])


def test_an_error_stops_the_reading_and_is_raised():
  shelf = Shelf(**{f'x{i}': (2,) for i in range(40)})

  def use(name, array):
    raise InputError(f'{name} cannot be kept')

  with pytest.raises(InputError, match='cannot be kept'):
    stored.read_each(shelf.parts(), use, num_threads=2)
  assert len(shelf.boxes) < 40
