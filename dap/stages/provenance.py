"""Layer 0. Who made a result: version and commit, libraries, machine, command.

What changes bits names a stage (`artefacts`); this is for people, who cite a
page or ask a year later what it was made by.
"""

import functools
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dap
from dap import secrets

# Whose versions change numbers.
LIBRARIES = (
  'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'ml-dtypes',
  'sentencepiece',
)  # fmt: skip


@functools.cache
def libraries() -> dict[str, str]:
  """Installed versions of all libraries that make numbers, by their names."""
  return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return 'absent'


def of_process() -> dict[str, object]:
  """What this process is, as JSON, with the time of the call in UTC."""
  now = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
  return {**_of_process(), 'date': now}


@functools.cache
def _of_process() -> dict[str, object]:
  return {
    'dap': dap.__version__,
    **commit(),
    'libraries': libraries(),
    'python': platform.python_version(),
    'machine': machine(),
    'host': socket.gethostname(),
    'command': secrets.hidden(shlex.join(sys.argv)),
  }


@functools.cache
def commit() -> dict[str, object]:
  """The commit that this code is of, and whether it was changed since.

  Both None where the code is in no git repository of its own, or git is not
  installed.
  """
  folder = Path(dap.__file__).parent
  head = _git(folder, 'rev-parse', 'HEAD')
  tracked = _git(folder, 'ls-files', '--', '__init__.py')
  if not head or not tracked:  # installed within somebody else's repository
    return {'commit': None, 'dirty': None}
  changes = _git(folder, 'status', '--porcelain', '--', '.')
  return {'commit': head, 'dirty': changes is None or bool(changes)}


def _git(folder: Path, *words: str) -> str | None:
  try:
    done = subprocess.run(
      ['git', '-C', str(folder), *words],
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip()


@functools.cache
def machine() -> str:
  """'Linux x86_64, 2 cores, AMD EPYC': the kind of machine, not its name."""
  cores = (
    len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else os.cpu_count()
  )
  words = [f'{platform.system()} {platform.machine()}', f'{cores} cores']
  try:
    text = Path('/proc/cpuinfo').read_text()
    line = next(x for x in text.splitlines() if x.startswith('model name'))
    words.append(line.partition(':')[2].strip())
  except (OSError, StopIteration):
    pass
  return ', '.join(words)


def changed(made: Mapping[str, Any]) -> list[str]:
  """In what another process was unlike this one that may change bits.

  Args:
    made: what `of_process` gave there; what it lacks is not compared.
  """
  here = _of_process()
  found = [
    f'{name} {made[name]} there, {here[name]} here'
    for name in ('dap', 'commit', 'python', 'machine')
    if name in made and made[name] != here[name]
  ]
  return found + versions(made.get('libraries') or {}, libraries())


def versions(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
  """'optax 0.2.5 there, 0.2.6 here' for each library that differs."""
  names = sorted(there.keys() | here.keys()) if there else []
  return [
    f'{name} {there.get(name, "absent")} there, {here.get(name, "absent")} here'
    for name in names
    if there.get(name) != here.get(name)
  ]


def words(made: Mapping[str, Any]) -> str:
  """'dap 0.4.0 (commit 1a2b3c4, with changes), jax 0.10.2'."""
  found = made.get('commit')
  of = f'commit {str(found)[:12]}' if found else 'no commit known'
  changed = ', with changes that are in no commit' if made.get('dirty') else ''
  versions = made.get('libraries') or {}
  return f'dap {made.get("dap")} ({of}{changed}), jax {versions.get("jax")}'
