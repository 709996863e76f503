"""Layer 8. `dap check`: reads all that a folder keeps and names damage."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dap import errors, progress, seals
from dap.checkpoints import metadata, points
from dap.commands import readable
from dap.data import prepared
from dap.stages import finished
from dap.study.report import report
from dap.training import stream
from dap.training.metrics import MetricsLog

_DEEPEST = 12  # folders below the one that was given


class Kept(NamedTuple):
  """Something with a hash of itself: where it is, and what reads it whole."""

  kind: str
  place: Path
  read: Callable[[], object]


def check(folder: str, dry_run: bool = False) -> None:
  """Reads every file below `folder` that has a hash, and holds it against it.

  Args:
    folder: of a study, a training, a data cache, or of several.
    dry_run: say what would be read.

  Raises:
    errors.InputError: something is damaged; the message has a line for each.
  """
  root = Path(folder)
  if not os.path.isdir(root):  # also of what is too long for a path
    raise errors.InputError(f'{root} is no folder: give one that dap wrote in.')
  found = list(kept(root))
  if not found:
    raise errors.InputError(
      f'{root} holds nothing that dap keeps with a hash: give MODEL_DIR,'
      ' STUDY_DIR, or a cache of `dap data`.'
    )
  if dry_run:
    for each in found:
      print(f'{each.kind}: {each.place}')
    return
  damage: list[str] = []
  with progress.track('check', len(found)) as tick:
    for number, each in enumerate(found, start=1):
      try:
        each.read()
      except errors.InputError as error:
        damage.append(f'{each.kind} {each.place}: {error}')
      tick(number)
  kinds = [each.kind for each in found]
  counts = ', '.join(f'{kinds.count(k)} {k}' for k in dict.fromkeys(kinds))
  progress.say(f'{root}: read {counts}; {len(damage)} damaged')
  if damage:
    raise errors.InputError('\n'.join(damage))


def kept(root: Path, depth: int = 0) -> Iterator[Kept]:
  """All below a folder that has a hash of itself, in order of their names."""
  inside = sorted(root.iterdir()) if depth <= _DEEPEST else []
  names = {path.name for path in inside}
  yield from _here(root, names)
  if 'metadata.json' in names:  # nothing else lies in a checkpoint
    return
  for path in inside:
    if path.is_dir() and not path.is_symlink() and path.name not in _SKIPPED:
      yield from kept(path, depth + 1)


# Written anew, or not ours.
_SKIPPED = frozenset({'compilation_cache', 'tensorboard', '.locks', '.git'})


def _here(folder: Path, names: set[str]) -> Iterator[Kept]:
  if 'metadata.json' in names and {'params', 'rest'} & names:
    yield Kept('checkpoints', folder, lambda: _checkpoint(folder))
  if 'checkpoints' in names:
    yield Kept('runs', folder, lambda: _beside(folder))
  if 'stream.json' in names:
    yield Kept('streams', folder, lambda: stream.read_rows(folder))
  if 'stage.json' in names:
    yield Kept('stages', folder, lambda: finished.check(folder))
  if 'facts.json' in names and 'prompts.npy' in names:
    yield Kept('prepared splits', folder, lambda: prepared.opened(folder))
  if report.SEALED in names:
    yield Kept('results', folder, lambda: report.check(folder))
  if readable.SEALED in names:
    yield Kept('words of trainings', folder, lambda: readable.check(folder))
  if '.report' in names:
    yield Kept('reports', folder, lambda: report.check_pages(folder))
  if 'costs.jsonl' in names:
    yield Kept('costs', folder, lambda: _costs(folder / 'costs.jsonl'))


def _checkpoint(folder: Path) -> None:
  for part in ('params', 'rest'):
    if (folder / part).exists():
      metadata.check_files(folder, part)


def _beside(folder: Path) -> None:
  """What the newest checkpoint says of metrics: they may have grown since."""
  root = folder / 'checkpoints'
  places = points.restartable(root) or [
    root / f'checkpoint_{step}' for step in points.steps(root)[::-1]
  ]
  for place in places[:1]:
    for name, seal in metadata.read(place).get('beside', {}).items():
      if not name.endswith('metrics.jsonl'):
        continue  # a stream has its own chain
      MetricsLog((folder / name).parent).check(seal)


def _costs(path: Path) -> None:
  _, changed = seals.whole_lines(path)
  if changed:
    raise seals.Broken(
      f'{path} has {changed} damaged lines. Reports leave them out; they tell'
      ' only what stages cost.'
    )
