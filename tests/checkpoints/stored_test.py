import os
import socket
import subprocess
import sys
import threading

import ml_dtypes
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


PROCESS = """
import sys
import jax, numpy as np
jax.config.update('jax_num_cpu_devices', 2)
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[1]))
from jax.sharding import NamedSharding, PartitionSpec
from dap import partitioning
from dap.checkpoints import stored

array = np.arange(32, dtype=np.float32).reshape(8, 4)
read = {'whole': [], 'turned': []}
def part(name, *arguments):
  def reader(box):
    read[name].append([s.indices(n)[:2] for s, n in zip(box, array.shape)])
    return array[box]
  held = stored.Stored(name, array.shape, array.dtype, reader)
  return stored.Part(held, *arguments)

rows = NamedSharding(partitioning.mesh((4, 1)), PartitionSpec('data'))
parts = {
  'whole': part('whole', (8, 4)),
  'turned': part('turned', (4, 8), np.transpose),
}
placed = stored.place(parts, {'whole': rows, 'turned': rows})
for name, value in {'whole': array, 'turned': array.T}.items():
  for shard in placed[name].addressable_shards:
    np.testing.assert_array_equal(shard.data, value[shard.index])
print(read['whole'], read['turned'])
"""


def test_a_process_reads_only_what_it_holds():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  running = [
    subprocess.Popen(
      [sys.executable, '-c', PROCESS, str(number), address],
      stdout=subprocess.PIPE,
      text=True,
      env=environment,
    )
    for number in range(2)
  ]
  printed = [process.communicate(timeout=120)[0] for process in running]
  # Four rows each, read once; what is turned on its way is read whole.
  whole = '[[(0, 8), (0, 4)]]'
  assert printed == [
    f'[[(0, 4), (0, 4)]] {whole}\n',
    f'[[(4, 8), (0, 4)]] {whole}\n',
  ]


def test_an_error_stops_the_reading_and_is_raised():
  shelf = Shelf(**{f'x{i}': (2,) for i in range(40)})

  def use(name, array):
    raise InputError(f'{name} cannot be kept')

  with pytest.raises(InputError, match='cannot be kept'):
    stored.read_each(shelf.parts(), use, num_threads=2)
  assert len(shelf.boxes) < 40


@pytest.mark.parametrize('dtype', [ml_dtypes.bfloat16, np.float16, np.float64])
def test_other_floats_become_float32(dtype):
  exact = np.arange(24).reshape(4, 6).astype(dtype)
  array = stored.Stored('a', (4, 6), exact.dtype, lambda box: exact[box])
  parts = {
    'a': stored.whole(array),
    'turned': stored.Part(array, (6, 4), np.transpose),
  }
  placed = stored.place(
    parts, {'a': sharding('data', 'model'), 'turned': sharding('model')}
  )
  for name, value in {'a': exact, 'turned': exact.T}.items():
    assert placed[name].dtype == np.float32
    np.testing.assert_array_equal(placed[name], value.astype(np.float32))
