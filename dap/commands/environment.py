"""Layer 8. `dap env`: what a bug report needs to know of this machine."""

import importlib.metadata
import os
import pathlib
import platform
import shutil

import dap
from dap import secrets
from dap.commands import places

_PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'tensorstore',
  'numpy',
  'gin-config',
  'sentencepiece',
  'seqio',
  'tensorflow',
)
_SETTINGS = ('JAX_', 'XLA_', 'OMP_', 'CUDA_VISIBLE', 'TPU_', 'GLIBC_TUNABLES')
_HUGE_PAGES = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')
_MEMORY = pathlib.Path('/proc/meminfo')


def describe(*, directory: str = '.') -> None:
  """Print the environment, one fact a line.

  Args:
    directory: where outputs would go; its free space is printed.
  """
  for name, value in {
    **_software(),
    **_devices(),
    **_machine(directory),
    **_settings(),
  }.items():
    print(f'{name:<20} {value}')


def dry_run(*, directory: str = '.') -> None:
  """Say what `describe` would look at."""
  print(f'Would print versions, devices, settings and space in {directory}.')


def _software() -> dict[str, str]:
  versions = {}
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = 'not installed'
  return {
    'dap': f'{dap.__version__}, gin files under {places.root()}',
    'python': f'{platform.python_version()} on {platform.platform()}',
    **versions,
  }


def _devices() -> dict[str, str]:
  import jax

  from dap import partitioning

  devices = jax.devices()
  kinds = ', '.join(sorted({device.device_kind for device in devices}))
  shape = dict(partitioning.mesh().shape)
  return {
    'devices': f'{len(devices)} {jax.default_backend()} ({kinds})',
    'processes': f'{jax.process_index()} of {jax.process_count()}',
    'default mesh': ' x '.join(f'{n} {axis}' for axis, n in shape.items()),
  }


def _machine(directory: str) -> dict[str, str]:
  cores = (
    len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else os.cpu_count()
  )
  return {
    'cores': f'{cores} usable of {os.cpu_count()}',
    'memory': _memory(),
    'disk': _disk(directory),
  }


def _memory() -> str:
  if not _MEMORY.exists():
    return 'unknown'
  lines = (line.split() for line in _MEMORY.read_text().splitlines())
  kib = {words[0].rstrip(':'): int(words[1]) for words in lines}
  free, total = kib['MemAvailable'] / 2**20, kib['MemTotal'] / 2**20
  return f'{free:.1f} GiB free of {total:.1f}'


def _disk(directory: str) -> str:
  path = pathlib.Path(directory).absolute()
  while not path.exists():
    path = path.parent
  usage = shutil.disk_usage(path)
  writable = '' if os.access(path, os.W_OK) else ', not writable'
  free, total = usage.free / 2**30, usage.total / 2**30
  return f'{free:.1f} GiB free of {total:.1f} in {path}{writable}'


def _settings() -> dict[str, str]:
  """Environment variables that change speed or results."""
  pages = _HUGE_PAGES.read_text().strip() if _HUGE_PAGES.exists() else 'unknown'
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  malloc = 'yes' if 'glibc.malloc.hugetlb=1' in tunables else _NO_HUGE_PAGES
  return {
    'huge pages': f'{malloc}; kernel: {pages}',
    **{
      name: secrets.setting(name, value)
      for name, value in sorted(os.environ.items())
      if name.startswith(_SETTINGS)
    },
  }


_NO_HUGE_PAGES = (
  'no (CPU only: GLIBC_TUNABLES=glibc.malloc.hugetlb=1 is faster)'
)
