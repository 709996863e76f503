"""Layer 3. Checkpoints through Orbax, whole or absent.

A checkpoint is a folder `checkpoint_<step>` that appears by one rename, with

- `params/`: the parameters alone; what evaluation and later stages read;
- `rest/`: all else that a restart needs (optimizer, behaviour policy), kept
  for the newest checkpoint only;
- `metadata.json`: the step, the digest of the configuration that wrote it,
  facts that others need (whether prompts end, say), name, shape and dtype of
  every array, CRC-32 of every file and of itself.

None holds a number that is not finite.
"""

import errno
import json
import os
import pathlib
import re
import shutil
import zlib
from collections.abc import Mapping
from typing import Any, TypedDict

import jax
from etils import epath
from jaxtyping import PyTree

from dap import errors, files
from dap.checkpoints import finite, stored

VERSION = 1
Place = pathlib.Path | epath.Path
Json = Any  # what a JSON file can hold
_NAME = re.compile(r'^checkpoint_(\d+)$')


class Entry(TypedDict):
  """What metadata.json says of an array."""

  shape: list[int]
  dtype: str


class Metadata(TypedDict):
  """metadata.json without its own CRC-32; arrays and files by their names."""

  version: int
  step: int
  digest: str
  facts: dict[str, Json]
  params: dict[str, Entry]
  rest: dict[str, Entry]
  files: dict[str, int]


def _checkpointer():
  import logging

  import orbax.checkpoint as ocp

  # It logs with a traceback what it raises as well.
  logging.getLogger('absl').setLevel(logging.CRITICAL)
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
  facts: Mapping[str, Json] | None = None,
) -> pathlib.Path:
  """Writes `root/checkpoint_<step>`; older ones keep their parameters only.

  Args:
    root: folder of the run's checkpoints, created when absent.
    step: finished updates.
    params: nested dictionary of arrays.
    rest: what a restart needs beside them.
    digest: names the configuration; a restart under another is refused.
    facts: what readers of the parameters must know of their training, JSON.

  Raises:
    errors.InputError: a number is not finite (nothing is written then), the
      disk is full, or the folder cannot be written.
  """
  _check_finite(root, step, {'params': params, 'rest': dict(rest)})
  final = root / f'checkpoint_{step}'
  partial = root / f'checkpoint_{step}.partial'
  with files.explained(root):
    root.mkdir(parents=True, exist_ok=True)
    files.remove_folder(partial)
    partial.mkdir()
    _check_room(root, (params, dict(rest)))
    with files.as_os_error(partial), _checkpointer() as checkpointer:
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
    }
    told = {**written, 'crc32': _crc_of_json(written)}
    files.write_json(partial / 'metadata.json', told)
    _drop(final)
    files.publish_folder(partial, final)
    for older in steps(root):
      if older != step:
        _drop(root / f'checkpoint_{older}' / 'rest')
  return final


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


def steps(root: pathlib.Path) -> list[int]:
  """Steps of the whole checkpoints under `root`, ascending."""
  if not root.is_dir():
    return []
  found = (_NAME.match(entry.name) for entry in root.iterdir())
  return sorted(int(match.group(1)) for match in found if match)


def newest(root: pathlib.Path) -> int | None:
  """The newest step that a restart can continue from, None when none."""
  for step in reversed(steps(root)):
    if (root / f'checkpoint_{step}' / 'rest').is_dir():
      return step
  return None


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


def _damaged(folder: Place, reason: str) -> errors.InputError:
  return errors.InputError(
    f'The checkpoint {folder} is damaged: {reason}. Remove that folder to'
    ' continue from an older one, or copy it again from where it came.'
  )
