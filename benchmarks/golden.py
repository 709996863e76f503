"""Compares what two commits compute, to the byte, on this machine.

  python benchmarks/golden.py --before REV [--after REV] [PART ...]

Runs tests/golden.py of each commit in a checkout of its own (`--after` is the
working tree where it is not given) and prints every array that differs. PARTS
are trainings, study, text; all by default. Ends with 1 where anything differs.
"""

import argparse
import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def checkout(
  revision: str | None, folder: pathlib.Path
) -> Iterator[pathlib.Path]:
  """The tree of a commit; the working tree for None."""
  if revision is None:
    yield ROOT
    return
  script = subprocess.run(
    ['git', '-C', str(ROOT), 'cat-file', '-e', f'{revision}:tests/golden.py'],
    stderr=subprocess.DEVNULL,
  )
  if script.returncode:
    print(
      f'{revision} is no commit with tests/golden.py, which 0.4.0 added before'
      ' it changed anything: git log --reverse -- tests/golden.py names the'
      ' first.',
      file=sys.stderr,
    )
    sys.exit(2)
  git = ['git', '-C', str(ROOT), 'worktree']
  subprocess.run([*git, 'add', '--detach', str(folder), revision], check=True)
  try:
    yield folder
  finally:
    subprocess.run([*git, 'remove', '--force', str(folder)], check=True)


def observed(
  tree: pathlib.Path, output: pathlib.Path, parts: list[str]
) -> dict[str, np.ndarray]:
  """What tests/golden.py of that tree finds."""
  environment = {
    **os.environ,
    'PYTHONPATH': os.pathsep.join([str(tree), str(tree / 'tests')]),
    'JAX_NUMPY_RANK_PROMOTION': 'raise',
  }
  environment.setdefault('JAX_PLATFORMS', 'cpu')
  command = [sys.executable, str(tree / 'tests' / 'golden.py'), str(output)]
  subprocess.run([*command, *parts], cwd=tree, env=environment, check=True)
  with np.load(output) as stored:
    return {name: stored[name] for name in stored.files}


def main() -> None:
  """See the top of this file."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--before', required=True, metavar='REV')
  parser.add_argument('--after', metavar='REV')
  parser.add_argument('parts', nargs='*', metavar='PART')
  given = parser.parse_args()
  found = []
  with tempfile.TemporaryDirectory() as scratch:
    for name in ('before', 'after'):
      place = pathlib.Path(scratch, name)
      with checkout(getattr(given, name), place) as tree:
        found.append(observed(tree, place.with_suffix('.npz'), given.parts))
  path = ROOT / 'tests' / 'golden.py'
  specification = importlib.util.spec_from_file_location('golden', path)
  assert specification is not None and specification.loader is not None
  golden = importlib.util.module_from_spec(specification)
  sys.path.insert(0, str(path.parent))
  specification.loader.exec_module(golden)
  told = golden.differences(*found, exact=True)
  print('\n'.join(told) or f'{len(found[0])} arrays, all bytes equal')
  sys.exit(bool(told))


if __name__ == '__main__':
  main()
