"""Layer 0. What differs, and why a stage that seems to be there is made anew.

A changed binding names a new folder and leaves the old one where it is; a
person who shares one folder between studies should be told what changed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from dap import files
from dap.stages import finished, provenance
from dap.stages.artefacts import Job

_SAME = ('config', 'runtime')
# Keys of a description that say what kind of thing it is.
_KINDS = ('$type', '$function', '$class', '$object')
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
    for record in _others(job, own):
      if record.get('content') == job.content:
        continue  # see `of_code`
      described = {name: record.get(name) for name in _SAME}
      now = {name: job.description.get(name) for name in _SAME}
      found = list(changes(described, now))
      if found and not any('.seed:' in change for change in found):
        lines.append(
          f'{job.stage.name} is there with other bindings ({found[0]}'
          f'{" and more" if len(found) > 1 else ""}); it is made anew as'
          f' {job.folder.name} and the other one stays.'
        )
        break
  more = len(lines) - _MOST
  return lines[:_MOST] + ([f'So are {more} more stages.'] if more > 0 else [])


def _others(job: Job, known: Collection[str]) -> Iterator[files.Record]:
  """Records of other finished stages of the same name, the newest first."""
  for folder, record in finished.records(job.folder):
    if folder.name not in known:
      yield record


def of_code(missing: Sequence[Job]) -> list[str]:
  """What other code or other libraries have finished, and what differs.

  Args:
    missing: what will be run.

  Returns:
    A line that says how many stages are made anew, why, and how to use them as
    they are; none where there are none.
  """
  changed: dict[str, None] = {}
  count = 0
  for job in missing:
    for _, record in finished.records(job.folder):
      if record.get('content') == job.content:
        changed |= dict.fromkeys(code_changes(record, job.description))
        count += 1
        break
  if not count:
    return []
  named = list(changed) or ['the stages that they read']
  listed = ', '.join(named[:_MOST]) + (' and more' if named[_MOST:] else '')
  return [
    f'{count} finished stages were made by other code ({listed}): they are made'
    ' anew, and the old ones stay. To use these as they are, give'
    ' --accept_code: the report then says so.'
  ]


def accepted(jobs: Sequence[Job]) -> dict[str, list[str]]:
  """What differs in code, by the names of finished stages where any does."""
  found = {}
  for job in jobs:
    if job.folder.exists():
      record = finished.record_of(job.folder)
      if differing := code_changes(record, job.description):
        found[job.stage.name] = differing
  return found


def code_changes(
  there: Mapping[str, Any], here: Mapping[str, Any]
) -> list[str]:
  """Modules and libraries in which two records of a stage differ."""
  before, now = there.get('modules', {}), here.get('modules', {})
  changed = [
    name
    for name in sorted(before.keys() | now.keys())
    if before.get(name) != now.get(name)
  ]
  libraries = there.get('libraries', {}), here.get('libraries', {})
  return changed + provenance.versions(*libraries)


def changes(there: object, here: object, where: str = '') -> Iterator[str]:
  """'schedule.num_steps: 4 there, 8 here' for each part that differs.

  Args:
    there: JSON, as `values.describe` gives it.
    here: the same.
    where: the path to both, '' at the root.
  """
  if there == here:
    return
  there, here = _by_name(there), _by_name(here)
  if isinstance(there, dict) and isinstance(here, dict):
    kinds = [(there.get(key), here.get(key)) for key in _KINDS]
    if any(one != other for one, other in kinds):
      yield f'{where}: {_told(there)} there, {_told(here)} here'
      return
    for key in {**there, **here}:
      if there.get(key) == here.get(key):
        continue
      if key == 'fingerprint':
        yield f'{where}: other content (files, or how they are read)'
      elif key == ('source' if '$function' in here else '$code'):
        yield f'{where}: the code of {_told(here)} has changed'
      else:
        place = f'{where}.{key}' if where else key
        yield from changes(there.get(key), here.get(key), place)
  elif isinstance(there, list) and isinstance(here, list):
    if len(there) != len(here):
      yield f'{where}: {_told(there)} there, {_told(here)} here'
    for index, pair in enumerate(zip(there, here)):
      yield from changes(*pair, f'{where}[{index}]')
  else:
    yield f'{where}: {_told(there)} there, {_told(here)} here'


def _by_name(value: object) -> object:
  """Pairs of a name and a value as a dictionary; others as they are."""
  if not isinstance(value, list) or not value:
    return value
  pairs = all(
    isinstance(each, list) and len(each) == 2 and isinstance(each[0], str)
    for each in value
  )
  return dict(value) if pairs else value


def _told(value: object) -> str:
  if isinstance(value, dict):
    for key in _KINDS:
      if key in value:
        return str(value[key])
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'
