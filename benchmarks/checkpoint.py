"""What it takes to load a checkpoint: memory, and speed against tensorstore's.

  python benchmarks/checkpoint.py [--layout=t5x] [--folder=DIRECTORY]

Writes random parameters of T5 1.1 Large (783 M) in the native layout of T5X,
or in another, and reads them in processes of their own: with `load_params`
onto the devices, and with nothing but tensorstore, all arrays at once. Each is
done several times in turn, from the page cache; the best times are compared.
Exits 1 when a target is missed.
"""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from etils import epath

from dap import partitioning
from dap.checkpoints import convert, layouts, load, state, stored, tensors
from dap.models import t5
from dap.models.policy import Policy

LARGE = t5.T5Config(
  vocab_size=32128,
  emb_dim=1024,
  num_heads=16,
  head_dim=64,
  mlp_dim=2816,
  num_encoder_layers=24,
  num_decoder_layers=24,
)
ROUNDS = 3
MOST_MEMORY = 1.3  # times the arrays
LEAST_SPEED = 0.8  # of tensorstore's


def random_parts() -> stored.Parts:
  """Parameters drawn when they are read: none is kept."""
  shapes = state.names(
    jax.eval_shape(Policy(t5.T5(LARGE)).init, jax.random.key(0))
  )
  parts = {}
  for number, (name, leaf) in enumerate(shapes.items()):

    def draw(box, number=number, shape=leaf.shape):
      del box
      generator = np.random.default_rng(number)
      return generator.standard_normal(shape, np.float32) * np.float32(0.05)

    array = stored.Stored(name, leaf.shape, np.dtype('float32'), draw)
    parts[name] = stored.whole(array)
  return parts


def peak_bytes() -> int:
  """Of this process so far: the most that was resident."""
  text = pathlib.Path('/proc/self/status').read_text()
  line = next(x for x in text.splitlines() if x.startswith('VmHWM'))
  return int(line.split()[1]) * 1024


def read_ours(folder: str) -> None:
  """`load_params` onto one device."""
  mesh = partitioning.mesh((1, 1))
  jax.block_until_ready(load.load_params(Policy(t5.T5(LARGE)), folder, mesh))


def read_tensorstore(folder: str) -> list[np.ndarray]:
  """All arrays at once, as tensorstore schedules them, into host arrays."""
  import tensorstore

  path = epath.Path(folder)
  base = tensors.folder(path)
  names = [entry.name for entry in path.iterdir() if entry.is_dir()]
  opened = [
    tensorstore.open(
      {
        'driver': 'zarr',
        'kvstore': {**base, 'path': f'{base["path"]}{name}/'},
      }
    )
    for name in names
  ]
  reads = [future.result().read() for future in opened]
  return [read.result() for read in reads]


READERS = {'ours': read_ours, 'tensorstore': read_tensorstore}


def measure(reader: str, folder: str) -> dict[str, float]:
  """Seconds and peak bytes of a reader in a process of its own."""
  command = [sys.executable, __file__, '--reader', reader, '--folder', folder]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  """Prints what was measured, a line each."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--folder', help='keeps the checkpoint there')
  parser.add_argument('--layout', default='t5x', choices=convert.WRITERS)
  parser.add_argument('--reader', choices=READERS, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.reader:
    jax.devices()
    np.zeros(1)
    start = time.perf_counter()
    kept = READERS[options.reader](options.folder)
    seconds = time.perf_counter() - start
    print(json.dumps({'seconds': seconds, 'peak': peak_bytes()}))
    del kept
    return
  folder = pathlib.Path(options.folder or tempfile.mkdtemp()) / 'checkpoint_0'
  try:
    compare(folder, options.layout)
  finally:
    if not options.folder:
      shutil.rmtree(folder.parent)


def compare(folder: pathlib.Path, layout: str) -> None:
  """Makes the checkpoint if it is missing, measures and prints."""
  parts = random_parts()
  size = sum(part.num_bytes for part in parts.values())
  if not folder.exists():
    contents = layouts.Contents(epath.Path(folder), 'random', parts, 0, LARGE)
    folder.mkdir(parents=True)
    convert.WRITERS[layout](epath.Path(folder), contents, convert.DEFAULT)
  best: dict[str, float] = {}
  worst: dict[str, float] = {}
  readers = READERS if layout == 't5x' else ['ours']
  for _ in range(ROUNDS):
    for reader in readers:
      found = measure(reader, str(folder))
      print(f'{reader:12} {found["seconds"]:6.2f} s', flush=True)
      best[reader] = min(best.get(reader, math.inf), found['seconds'])
      worst[reader] = max(worst.get(reader, 0), found['peak'])
  peaks = {reader: peak / size for reader, peak in worst.items()}
  print(f'{layout}: {size / 1e9:.2f} GB of arrays')
  for reader in readers:
    rate = size / best[reader] / 1e6
    print(
      f'{reader:12} {rate:4.0f} MB/s, peak {peaks[reader]:.2f} x the arrays'
    )
  missed = peaks['ours'] > MOST_MEMORY
  if 'tensorstore' in best:
    share = best['tensorstore'] / best['ours']
    print(f"ours is {share:.0%} of tensorstore's own concurrent read")
    missed |= share < LEAST_SPEED
  sys.exit(int(missed))


if __name__ == '__main__':
  main()
