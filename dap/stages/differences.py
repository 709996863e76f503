"""Layer 0. Why a stage that seems to be there is made anew.

A changed binding names a new folder and leaves the old one where it is; a
person who shares one folder between studies should be told what changed.
"""

import re
from collections.abc import Collection, Iterator, Sequence

from dap import files
from dap.stages.artefacts import Job

_MOST = 8  # lines; what else differs follows from the same bindings


def notices(missing: Sequence[Job], planned: Sequence[Job]) -> list[str]:
  """A line for each missing stage that stands there with other bindings.

  Stages of other seeds are left out, and those that differ only in what they
  read: the stage that they read is named.

  Args:
    missing: what will be run.
    planned: all jobs of the study, whose folders are no surprise.
  """
  lines = []
  own = {job.folder.name for job in planned}
  for job in missing:
    for description in _others(job, own):
      changes = [
        change
        for change in _changes(description, job.description, '')
        if not change.startswith(('inputs', 'files'))
      ]
      if changes and not any('.seed:' in change for change in changes):
        lines.append(
          f'{job.stage.name} is there with other bindings ({changes[0]}'
          f'{" and more" if len(changes) > 1 else ""}); it is made anew as'
          f' {job.folder.name} and the other one stays.'
        )
        break
  more = len(lines) - _MOST
  return lines[:_MOST] + ([f'So are {more} more stages.'] if more > 0 else [])


def _others(job: Job, known: Collection[str]) -> Iterator[dict[str, object]]:
  """Records of other finished stages of the same name, the newest first."""
  own = re.compile(re.escape(job.stage.name) + '-[0-9a-f]{16}')
  found = [
    folder / 'stage.json'
    for folder in job.folder.parent.glob(f'{job.stage.name}-*')
    if own.fullmatch(folder.name)
    and folder.name not in known
    and (folder / 'stage.json').exists()
  ]
  for path in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True):
    yield files.read_json(path)


def _changes(there: object, here: object, where: str) -> Iterator[str]:
  """'config.run.num_steps: 1200 there, 800 here' for each leaf."""
  if isinstance(there, dict) and isinstance(here, dict):
    for key in sorted(there.keys() | here.keys(), key=str):
      place = f'{where}.{key}' if where else str(key)
      yield from _changes(there.get(key), here.get(key), place)
  elif (
    isinstance(there, list)
    and isinstance(here, list)
    and len(there) == len(here)
  ):
    for index, pair in enumerate(zip(there, here)):
      yield from _changes(*pair, f'{where}[{index}]')
  elif there != here:
    yield f'{where}: {_short(there)} there, {_short(here)} here'


def _short(value: object) -> str:
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + '...'
