"""Layer 3. Checkpoints through Orbax, whole or absent.

A checkpoint is a folder `checkpoint_<step>` that appears by one rename, with

- `params/`: the parameters alone; what evaluation and later stages read;
- `rest/`: all else that a restart needs (optimizer, behaviour policy), kept
  for the two newest of each kind only;
- `metadata.json`: what it says of itself, see `metadata.Metadata`.

None holds a number that is not finite. A restart point is the same under the
name `restart_<step>`: it lies there while a training is open, for a restart
alone.
"""

import errno
import os
import pathlib
import shutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import PyTree

from dap import disks, errors, files, seals
from dap.checkpoints import finite, metadata, points, stored, tensors
from dap.stages import provenance


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


def _summary(tree: PyTree) -> dict[str, metadata.Entry]:
  return {
    name: {'shape': list(leaf.shape), 'dtype': str(leaf.dtype)}
    for name, leaf in names(tree).items()
  }


def save(
  root: pathlib.Path,
  step: int,
  params: PyTree,
  rest: Mapping[str, PyTree],
  digest: str,
  *,
  kind: str = points.POINT,
  beside: Mapping[str, seals.Seal] = MappingProxyType({}),
  facts: Mapping[str, metadata.Json] | None = None,
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
    kind: `points.POINT` or `points.RESTART`.
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
    written: metadata.Metadata = {
      'version': metadata.VERSION,
      'step': step,
      'digest': digest,
      'facts': dict(facts or {}),
      'params': _summary(params),
      'rest': _summary(dict(rest)),
      'files': metadata.crc_of_files(partial),
      'beside': dict(beside),
      'made': provenance.of_process(),
    }
    metadata.write(partial, written)
    _check_saved(partial)
    points.drop(final)
    files.publish_folder(partial, final)
    points.let_go(root)
  return final


def _check_saved(folder: pathlib.Path) -> None:
  """Opens what was saved: every array is there.

  Orbax's own `metadata` opens each array for that, which takes a third of the
  time of saving it; a list of them takes a hundredth.

  Raises:
    errors.InputError: it could not be read again.
  """
  written = metadata.read(folder)
  for part in ('params', 'rest'):
    wanted = {name.replace('/', '.') for name in written[part]}
    place = epath.Path(folder.resolve() / part)
    if wanted and _array_names(place) != wanted:
      raise errors.InputError(
        f'What was just saved as {place} cannot be read again, so that'
        ' it would be lost. Give a MODEL_DIR on another file system, or with'
        ' another name.'
      )


def _array_names(place: epath.Path) -> set[str]:
  """Of arrays that Orbax saved; none where it cannot be read."""
  try:
    keys = tensors.listing(tensors.ocdbt(place), place)
  except errors.InputError:
    return set()
  return set(tensors.array_folders(keys))


def _check_finite(
  root: pathlib.Path, step: int, tree: Mapping[str, PyTree]
) -> None:
  named = names(dict(tree))
  found = finite.wrong(named)
  if found:
    raise errors.InputError(
      f'A checkpoint holds finite numbers; at step {step} there are others in'
      f' {finite.told(found, len(named))}. Nothing was saved.'
      f' {points.go_on_from(root)}'
    )


def _check_room(root: pathlib.Path, tree: PyTree) -> None:
  """Finds a full disk before Orbax does, which fails less quietly."""
  needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
  if shutil.disk_usage(root).free < needed:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))


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
  metadata.check_files(folder, part)
  with _checkpointer() as checkpointer:
    tree = checkpointer.restore(folder.resolve() / part)
  return {name: np.asarray(leaf) for name, leaf in names(tree).items()}


def _restore(folder: pathlib.Path, part: str, template: PyTree) -> PyTree:
  written = metadata.read(folder)
  stored.check_shapes(
    {name: tuple(e['shape']) for name, e in written[part].items()},
    {name: tuple(leaf.shape) for name, leaf in names(template).items()},
    folder,
  )
  metadata.check_files(folder, part)
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
