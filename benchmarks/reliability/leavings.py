"""What commands left in a folder, beside what an unbroken run leaves there."""

import json
import os
import pathlib
import re
from collections.abc import Iterator

# Orbax draws the names of its files at random.
_PART = re.compile(r'(^|/)(checkpoint|restart)_\d+/(params|rest)/')
_METADATA = re.compile(r'(^|/)(checkpoint|restart)_\d+/metadata\.json$')
# Tell when and how long; reports print costs, and their stamp is of costs.
_TIMED = frozenset({'costs.jsonl', 'report.html', 'report.md', '.report'})
_SKIPPED = frozenset({'compilation_cache', 'tensorboard'})
_WHO = ('made', 'sha256', 'crc32')


def compare(whole: pathlib.Path, work: pathlib.Path) -> dict[str, list[str]]:
  """What is lost, litter or different in `work`, by the names of files.

  Lost is what `whole` has and `work` has not; litter the other way round.
  Checkpoints are compared by their arrays, records without who made them when.
  """
  mine, theirs = set(names(work)), set(names(whole))
  both = sorted(mine & theirs)
  return {
    'lost': sorted(theirs - mine),
    'litter': sorted(mine - theirs),
    'different': [n for n in both if _differ(whole / n, work / n, n)],
  }


def names(folder: pathlib.Path) -> Iterator[str]:
  """Paths of all that lies in a folder, but of what Orbax names at random."""
  for place, folders, files in os.walk(folder):
    folders[:] = [name for name in folders if name not in _SKIPPED]
    for name in [*folders, *files]:
      path = pathlib.Path(place, name).relative_to(folder).as_posix()
      if not _PART.search(path):
        yield path


def _differ(whole: pathlib.Path, work: pathlib.Path, name: str) -> bool:
  if whole.is_dir() or work.is_dir():
    return whole.is_dir() != work.is_dir()
  if whole.name in _TIMED:
    return False
  if _METADATA.search(name):
    one, other = whole.parent, work.parent
    if _files(one) == _files(other):
      return False
    if _arrays_differ(one, other):
      return True
  return content(whole, name) != content(work, name)


def content(path: pathlib.Path, name: str) -> object:
  """What of a file does not depend on when and how often it was made."""
  data = path.read_bytes()
  if path.suffix != '.json' or not data.startswith(b'{'):
    return data
  try:
    value = json.loads(data)
  except ValueError:  # damaged
    return data
  if not set(_WHO) & set(value):
    return data
  value = {key: each for key, each in value.items() if key not in _WHO}
  if _METADATA.search(name):
    value.pop('files', None)
  if path.name == 'stage.json' and 'files' in value:
    value['checkpoints'] = None
    value['files'] = {
      each: seal
      for each, seal in value['files'].items()
      if not _METADATA.search(each)
    }
  return value


def _files(folder: pathlib.Path) -> dict[str, bytes]:
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def _arrays_differ(whole: pathlib.Path, work: pathlib.Path) -> bool:
  from dap import errors
  from dap.checkpoints import state

  for part in ('params', 'rest'):
    try:
      one, other = (state.arrays(folder, part) for folder in (whole, work))
    except errors.InputError:  # damaged
      return True
    if one.keys() != other.keys():
      return True
    if any(one[n].tobytes() != other[n].tobytes() for n in one):
      return True
  return False
