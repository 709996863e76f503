"""Layer 3. The points of a checkpoints folder: which are there, which go.

A folder `checkpoint_<step>` is there whole or not at all; with its `rest` a
training can go on from it. `restart_<step>` is the same for a restart alone.
"""

import pathlib
import re
import shutil

from dap import files

POINT, RESTART = 'checkpoint', 'restart'  # what a folder's name begins with
_NAME = re.compile(rf'^({POINT}|{RESTART})_(\d+)$')
_KEPT = 2  # that a restart can go on from


def steps(root: pathlib.Path) -> list[int]:
  """Steps of the whole checkpoints under `root`, ascending."""
  return sorted(step for kind, step in _found(root) if kind == POINT)


def restartable(root: pathlib.Path) -> list[pathlib.Path]:
  """What a restart can continue from, the newest first."""
  found = sorted(_found(root), key=lambda each: (-each[1], each[0]))
  folders = [root / f'{kind}_{step}' for kind, step in found]
  return [folder for folder in folders if (folder / 'rest').is_dir()]


def _found(root: pathlib.Path) -> list[tuple[str, int]]:
  if not root.is_dir():
    return []
  matches = (_NAME.match(entry.name) for entry in root.iterdir())
  return [(m.group(1), int(m.group(2))) for m in matches if m]


def let_go(root: pathlib.Path) -> None:
  """Keeps what is needed to go on from the two newest, of each kind.

  Which checkpoints a finished training can go on from is then the same whenever
  it was cut off. A restart point behind a checkpoint has no use any more.
  """
  found = restartable(root)  # the newest first
  points = [place for place in found if place.name.startswith(POINT)]
  for older in points[_KEPT:]:
    drop(older / 'rest')
  behind = found.index(points[0]) if points else len(found)
  for number, place in enumerate(found):
    if place not in points and number >= min(behind, _KEPT):
      drop(place)


def drop(folder: pathlib.Path) -> None:
  """Removes a folder; no kill leaves half of it under its name."""
  doomed = folder.with_name(f'{folder.name}.dropped')
  shutil.rmtree(doomed, ignore_errors=True)
  if folder.exists():
    folder.rename(doomed)
    shutil.rmtree(doomed)


def sweep(root: pathlib.Path) -> None:
  """Removes what a kill left half-written or half-removed.

  For the one process that trains in that folder.
  """
  if root.is_dir():
    for place in [*root.glob('*.partial'), *root.rglob('*.dropped')]:
      files.remove_folder(place)


def drop_restarts(root: pathlib.Path) -> None:
  """Removes restart points: their training is at its end."""
  for folder in restartable(root):
    if folder.name.startswith(RESTART):
      drop(folder)


def go_on_from(root: pathlib.Path) -> str:
  """What to do with a training whose numbers are no longer finite.

  Args:
    root: folder of its checkpoints.
  """
  cure = (
    'Lower LEARNING_RATE, raise its warm-up or the pull to the reference (beta)'
  )
  found = steps(root)
  if not found:
    return f'{cure}, and remove {root.parent}: it holds no checkpoint.'
  last = root / f'checkpoint_{found[-1]}'
  return (
    f'The last good checkpoint is {last}. {cure}, and train into another'
    f' MODEL_DIR, from the start or with INITIAL_CHECKPOINT_PATH=\'"{last}"\';'
    ' this folder keeps to its own configuration.'
  )
