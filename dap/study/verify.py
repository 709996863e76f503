"""Layer 7. Makes finished stages again, elsewhere, and compares their bits.

A stage is named by all that its bits depend on, and this asks whether that is
so here: on this machine, with these versions, does the same work give the same
bytes?
"""

import math
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dap import errors, progress
from dap.checkpoints import state
from dap.stages import artefacts, finished, pool
from dap.stages.artefacts import Job, Stage

_SHARE, _LEAST = 0.05, 3  # of the finished stages
_SKIPPED = ('stage.json', 'metadata.json')  # say when, and by which command


def verify(
  targets: Sequence[Stage],
  root: Path,
  num_workers: int,
  devices_each: int,
  seed: int | None = None,
) -> None:
  """Makes a twentieth of the finished stages again, three at least.

  What was made again lies in `root/verified` meanwhile, and stays there where
  it differs.

  Args:
    targets: of the study.
    root: of the study.
    num_workers: processes, see `pool.finish`.
    devices_each: accelerators of each.
    seed: of the sample; another one at each call when None.

  Raises:
    errors.InputError: nothing is finished, or stages differ: it names them.
  """
  done = _done(targets, root, num_workers)
  if not done:
    raise errors.InputError(
      f'{root} has no finished stage of this study, code and machine to compare'
      ' with. Give the same command without --verify first.'
    )
  count = min(len(done), max(_LEAST, math.ceil(_SHARE * len(done))))
  chosen = random.Random(seed).sample(done, count)
  aside = root / 'verified'
  shutil.rmtree(aside, ignore_errors=True)
  again = [
    job._replace(folder=aside / 'stages' / job.folder.name) for job in chosen
  ]
  pool.run_jobs(again, aside, num_workers, devices_each=devices_each)
  differing = []
  for job, other in zip(chosen, again):
    found = list(differences(job.folder, other.folder))
    progress.say(f'{job.folder.name}: {_told(found)}')
    differing += [f'{job.folder.name}: {_told(found)}'] if found else []
  if differing:
    listed = '\n'.join(differing)
    raise errors.InputError(
      f'{len(differing)} of {count} stages differ from what was made again,'
      f' which lies in {aside}:\n{listed}\nThe machine may have changed, or'
      ' a library that no stage is named by.'
    )
  shutil.rmtree(aside)
  progress.say(f'{count} of {len(done)} finished stages made again: equal')


def _done(targets: Sequence[Stage], root: Path, num_workers: int) -> list[Job]:
  """Those that can be made again: what they read is there."""
  where = artefacts.runtime(threads=1 if num_workers else None)
  jobs = artefacts.plan(targets, root, where)
  return [
    job
    for job in jobs
    if finished.is_done(job.folder)
    and all(place.exists() for place in job.inputs.values())
  ]


def _told(found: Sequence[str]) -> str:
  more = f' and {len(found) - 5} more' if len(found) > 5 else ''
  return f'{", ".join(found[:5])}{more} differ' if found else 'equal'


def differences(first: Path, second: Path) -> Iterator[str]:
  """Names of files and arrays that are not the same in two stage folders."""
  checkpoints = sorted(
    path.parent.relative_to(first) for path in first.rglob('metadata.json')
  )
  for place in checkpoints:
    yield from _of_checkpoint(first / place, second / place, place)
  inside = {first / place for place in checkpoints}
  names = {
    path.relative_to(folder).as_posix()
    for folder in (first, second)
    for path in folder.rglob('*')
    if path.is_file() and path.name not in _SKIPPED
  }
  for name in sorted(names):
    if inside & set((first / name).parents):
      continue  # Orbax draws names of files at random
    there, here = first / name, second / name
    if not (there.exists() and here.exists()):
      yield f'{name} (missing in one)'
    elif there.read_bytes() != here.read_bytes():
      yield name


def _of_checkpoint(first: Path, second: Path, place: Path) -> Iterator[str]:
  if not second.exists():
    yield f'{place} (missing in one)'
    return
  for part in ('params', 'rest'):
    one, other = (state.arrays(folder, part) for folder in (first, second))
    for name in sorted(one.keys() | other.keys()):
      same = name in one and name in other
      if not (same and np.array_equal(one[name], other[name], equal_nan=True)):
        yield f'{place}/{part}/{name}'
