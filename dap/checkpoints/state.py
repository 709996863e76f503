"""Layer 3. Checkpoints through Orbax, whole or absent.

A checkpoint is a folder `checkpoint_<step>` that appears by one rename, with

- `params/`: the parameters alone; what evaluation and later stages read;
- `rest/`: all else that a restart needs (optimizer, behaviour policy), kept
  for the two newest of each kind only;
- `metadata.json`: the step, the digest of the configuration that wrote it, who
  wrote it when, facts that others need (whether prompts end, say), name, shape
  and dtype of every array, CRC-32 of every file and of itself, and how far the
  files beside it had come.

None holds a number that is not finite. A restart point is the same under the
name `restart_<step>`: it lies there while a training is open, for a restart
alone.
"""

import errno
import json
import os
import pathlib
import re
import shutil
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict

import jax
import numpy as np
from etils import epath
from jaxtyping import PyTree

from dap import disks, errors, files, seals
from dap.checkpoints import finite, stored
from dap.stages import provenance

VERSION = 2
POINT, RESTART = 'checkpoint', 'restart'  # what a folder's name begins with
Place = pathlib.Path | epath.Path
Json = Any  # what a JSON file can hold
_NAME = re.compile(rf'^({POINT}|{RESTART})_(\d+)$')
_KEPT = 2  # that a restart can go on from


class Damaged(seals.Broken):
  """A checkpoint is not what was saved."""


class Entry(TypedDict):
  """What metadata.json says of an array."""

  shape: list[int]
  dtype: str


class Metadata(TypedDict):
  """metadata.json without its own CRC-32; arrays and files by their names.

  `beside` has, for a file of the training, its size and a hash of it as they
  were when this was saved. Version 1 had neither that nor `made`.
  """

  version: int
  step: int
  digest: str
  facts: dict[str, Json]
  params: dict[str, Entry]
  rest: dict[str, Entry]
  files: dict[str, int]
  beside: NotRequired[dict[str, seals.Seal]]
  made: NotRequired[dict[str, Any]]  # see `provenance.of_process`


def _checkpointer():
  import logging

  import orbax.checkpoint as ocp

  # They log with a traceback what is raised as well, for each array once.
  for name in ('absl', 'asyncio'):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  return ocp.StandardCheckpointer()


def names(tree: PyTree) -> dict[str, Any]:  # arrays, shapes or shardings
  """Leaves by their slash-separated names, as T5X writes them."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    '/'.join(str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k))))
             for k in path): leaf
    for path, leaf in leaves
  }  # fmt: skip


def _summary(tree: PyTree) -> dict[str, Entry]:
  return {
    name: {'shape': list(leaf.shape), 'dtype': str(leaf.dtype)}
    for name, leaf in names(tree).items()
  }


def _crc_of_files(folder: pathlib.Path) -> dict[str, int]:
  """CRC-32 of all files in a folder, by their names in it."""
  return {
    path.relative_to(folder).as_posix(): _crc_of_file(path)
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def _crc_of_file(path: Place) -> int:
  crc = 0
  with path.open('rb') as file:
    while part := file.read(1 << 20):
      crc = zlib.crc32(part, crc)
  return crc


def _crc_of_json(value: object) -> int:
  return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def save(
  root: pathlib.Path,
  step: int,
  params: PyTree,
  rest: Mapping[str, PyTree],
  digest: str,
  *,
  kind: str = POINT,
  beside: Mapping[str, seals.Seal] = MappingProxyType({}),
  facts: Mapping[str, Json] | None = None,
) -> pathlib.Path:
  """Writes `root/<kind>_<step>`; only the newest ones can be continued.

  Those are two checkpoints and, behind the last of these, two restart points.
  Other checkpoints keep their parameters, other restart points go.

  Args:
    root: folder of the run's checkpoints, created when absent.
    step: finished updates.
    params: nested dictionary of arrays.
    rest: what a restart needs beside them.
    digest: names the configuration; a restart under another is refused.
    kind: `POINT` or `RESTART`.
    beside: how far other files of the training are, by their names.
    facts: what readers of the parameters must know of their training, JSON.

  Raises:
    errors.InputError: a number is not finite (nothing is written then), the
      disk is full, or the folder cannot be written.
  """
  _check_finite(root, step, {'params': params, 'rest': dict(rest)})
  final = root / f'{kind}_{step}'
  partial = root / f'{final.name}.partial'
  with disks.explained(root):
    root.mkdir(parents=True, exist_ok=True)
    files.remove_folder(partial)
    partial.mkdir()
    _check_room(root, (params, dict(rest)))
    with disks.as_os_error(partial), _checkpointer() as checkpointer:
      checkpointer.save(partial.resolve() / 'params', params)
      if rest:
        checkpointer.save(partial.resolve() / 'rest', dict(rest))
    written: Metadata = {
      'version': VERSION,
      'step': step,
      'digest': digest,
      'facts': dict(facts or {}),
      'params': _summary(params),
      'rest': _summary(dict(rest)),
      'files': _crc_of_files(partial),
      'beside': dict(beside),
      'made': provenance.of_process(),
    }
    told = {**written, 'crc32': _crc_of_json(written)}
    files.write_json(partial / 'metadata.json', told)
    _check_saved(partial)
    _drop(final)
    files.publish_folder(partial, final)
    _let_go(root)
  return final


def _let_go(root: pathlib.Path) -> None:
  """Keeps what is needed to go on from the two newest, of each kind.

  Which checkpoints a finished training can go on from is then the same whenever
  it was cut off. A restart point behind a checkpoint has no use any more.
  """
  found = restartable(root)  # the newest first
  points = [place for place in found if place.name.startswith(POINT)]
  for older in points[_KEPT:]:
    _drop(older / 'rest')
  behind = found.index(points[0]) if points else len(found)
  for number, place in enumerate(found):
    if place not in points and number >= min(behind, _KEPT):
      _drop(place)


def _check_saved(folder: pathlib.Path) -> None:
  """Opens what was saved: every name and shape is there.

  Raises:
    errors.InputError: it could not be read again.
  """
  written = metadata(folder)
  for part in ('params', 'rest'):
    if not written[part]:
      continue
    with _checkpointer() as checkpointer:
      tree = checkpointer.metadata(folder.resolve() / part).item_metadata
    saved = names(getattr(tree, 'tree', tree))
    found = {name: list(entry.shape) for name, entry in saved.items()}
    if found != {name: entry['shape'] for name, entry in written[part].items()}:
      raise errors.InputError(
        f'What was just saved as {folder / part} cannot be read again, so that'
        ' it would be lost. Give a MODEL_DIR on another file system, or with'
        ' another name.'
      )


def _check_finite(
  root: pathlib.Path, step: int, tree: Mapping[str, PyTree]
) -> None:
  named = names(dict(tree))
  found = finite.wrong(named)
  if found:
    raise errors.InputError(
      f'A checkpoint holds finite numbers; at step {step} there are others in'
      f' {finite.told(found, len(named))}. Nothing was saved.'
      f' {go_on_from(root)}'
    )


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


def _check_room(root: pathlib.Path, tree: PyTree) -> None:
  """Finds a full disk before Orbax does, which fails less quietly."""
  needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
  if shutil.disk_usage(root).free < needed:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))


def _drop(folder: pathlib.Path) -> None:
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
      _drop(folder)


def steps(root: pathlib.Path) -> list[int]:
  """Steps of the whole checkpoints under `root`, ascending."""
  return sorted(step for kind, step in _found(root) if kind == POINT)


def newest(root: pathlib.Path) -> int | None:
  """The newest step that a restart can continue from, None when none."""
  found = restartable(root)
  return int(found[0].name.rpartition('_')[2]) if found else None


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


def metadata(folder: Place) -> Metadata:
  """What a checkpoint says of itself.

  Raises:
    errors.InputError: there is no checkpoint at `folder`, or it is damaged.
  """
  path = folder / 'metadata.json'
  try:
    found = json.loads(path.read_text())
    crc = found.pop('crc32')
  except (FileNotFoundError, NotADirectoryError):
    raise errors.InputError(
      f'A checkpoint is a folder with metadata.json, params and rest; {folder}'
      ' is none. Give the folder checkpoint_<step> of a finished or running'
      ' training, or its parent to take the newest.'
    ) from None
  except (
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    RecursionError,
  ) as error:
    raise _damaged(folder, f'metadata.json cannot be read ({error})') from None
  if crc != _crc_of_json(found):
    raise _damaged(folder, 'metadata.json fails its CRC-32')
  found.setdefault('facts', {})  # older versions had none
  return found


def check_files(folder: Place, part: str) -> None:
  """Holds every file of a part against its CRC-32.

  Before any reader sees it: they report damage by many kinds of exceptions.

  Raises:
    errors.InputError: a file is missing or damaged.
  """
  for name, crc in metadata(folder)['files'].items():
    if not name.startswith(f'{part}/'):
      continue
    if not (folder / name).is_file():
      raise _damaged(folder, f'{name} is missing')
    if _crc_of_file(folder / name) != crc:
      raise _damaged(folder, f'{name} fails its CRC-32')


def restore_params(folder: pathlib.Path, template: PyTree) -> PyTree:
  """Parameters of a checkpoint, placed as `template` says.

  Args:
    folder: a checkpoint.
    template: `jax.ShapeDtypeStruct` leaves, with shardings where wanted.

  Raises:
    errors.InputError: another model wrote it, it is damaged, or a number is
      not finite.
  """
  return _restore(folder, 'params', template)


def restore_rest(folder: pathlib.Path, template: PyTree) -> PyTree:
  """What `save` was given as `rest`; otherwise as `restore_params`."""
  return _restore(folder, 'rest', template)


def arrays(folder: pathlib.Path, part: str) -> dict[str, np.ndarray]:
  """All arrays of a part of a checkpoint on the host; none where it has none.

  Args:
    folder: a checkpoint.
    part: 'params' or 'rest'.

  Raises:
    errors.InputError: it is damaged.
  """
  if not (folder / part).exists():
    return {}
  check_files(folder, part)
  with _checkpointer() as checkpointer:
    tree = checkpointer.restore(folder.resolve() / part)
  return {name: np.asarray(leaf) for name, leaf in names(tree).items()}


def _restore(folder: pathlib.Path, part: str, template: PyTree) -> PyTree:
  written = metadata(folder)
  stored.check_shapes(
    {name: tuple(e['shape']) for name, e in written[part].items()},
    {name: tuple(leaf.shape) for name, leaf in names(template).items()},
    folder,
  )
  check_files(folder, part)
  with _checkpointer() as checkpointer:
    found = checkpointer.restore(folder.resolve() / part, template)
  wrong = finite.wrong(names(found))
  if wrong:
    raise errors.InputError(
      f'{folder} holds numbers that are not finite, in'
      f' {finite.told(wrong, len(names(found)))} of its {part}. An older'
      ' version of dap saved what had gone wrong: give an older checkpoint, or'
      ' train again with a lower LEARNING_RATE.'
    )
  return found


def _damaged(folder: Place, reason: str) -> Damaged:
  return Damaged(
    f'The checkpoint {folder} is damaged: {reason}. Copy it again from where it'
    ' came, or remove that folder and give the command that trained it again.'
  )
