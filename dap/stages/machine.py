"""Layer 0. What of this machine a worker process has: cores and accelerators.

Nothing here imports jax: a process that only starts workers must not open the
accelerators that they need for themselves.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dap.stages.artefacts import Runtime

_DEVICES = Path('/dev')
_FRACTION = 'XLA_PYTHON_CLIENT_MEM_FRACTION'  # of a GPU's memory, one process


def gpus() -> tuple[str, ...]:
  """Numbers (or names) of the GPUs that this process may use."""
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is not None:
    return tuple(filter(None, (name.strip() for name in visible.split(','))))
  found = [path.name for path in _DEVICES.glob('nvidia*')]
  numbers = [name[6:] for name in found if re.fullmatch(r'nvidia\d+', name)]
  return tuple(sorted(numbers, key=int))


def default_workers(backend: str, devices_each: int = 1) -> int:
  """Processes that fill the machine, each on so many devices.

  A process a core on a CPU and a process for each group of GPUs; 0, which is
  this process alone, on a TPU, whose chips one process owns.
  """
  match backend:
    case 'cpu':
      return max(1, len(os.sched_getaffinity(0)) // devices_each)
    case 'gpu':
      return max(1, len(gpus()) // devices_each)
    case _:
      return 0


def cores(index: int, threads: int) -> set[int]:
  """The cores of a worker; shared where there are not enough."""
  available = sorted(os.sched_getaffinity(0))
  first = index * threads
  return {available[(first + i) % len(available)] for i in range(threads)}


def devices(
  index: int, available: Sequence[str], devices_each: int
) -> tuple[str, ...]:
  """The accelerators of a worker; shared where there are not enough."""
  first = index * devices_each
  numbers = {(first + i) % len(available) for i in range(devices_each)}
  return tuple(available[number] for number in sorted(numbers))


def environment(
  root: Path,
  where: Runtime,
  index: int = 0,
  num_workers: int = 1,
  devices_each: int = 1,
) -> dict[str, str]:
  """Variables that must stand before a worker's first import.

  jax counts its threads from NPROC; glibc's tunable backs big arrays by huge
  pages. Programs are kept in the study's folder: those read back have the same
  bits and take half the time of compiling. Of several GPUs each worker sees
  its own, and workers that share one share its memory.
  """
  own = os.environ
  threads = str(where.threads)
  tunables = [own.get('GLIBC_TUNABLES', ''), 'glibc.malloc.hugetlb=1']
  variables = {
    'NPROC': threads,
    'OMP_NUM_THREADS': threads,
    'OPENBLAS_NUM_THREADS': threads,
    'GLIBC_TUNABLES': ':'.join(filter(None, tunables)),
  }
  available = gpus() if where.backend == 'gpu' else ()
  if available:
    seen = devices(index, available, devices_each)
    variables['CUDA_VISIBLE_DEVICES'] = ','.join(seen)
  sharing = -(-num_workers * devices_each // max(1, len(available)))
  fraction = float(own.get(_FRACTION, '0.9'))
  ours = {
    'JAX_COMPILATION_CACHE_DIR': str(root / 'compilation_cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5',
  }
  return {
    **{name: own.get(name, ours[name]) for name in ours},
    **variables,
    _FRACTION: f'{fraction / sharing:.3f}',
  }
