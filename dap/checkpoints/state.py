"""Layer 3. Checkpoints through Orbax, whole or absent.

A checkpoint is a folder `checkpoint_<step>` that appears by one rename, with

- `params/`: the parameters alone; what evaluation and later stages read;
- `rest/`: all else that a restart needs (optimizer, behaviour policy), kept
  for the newest checkpoint only;
- `metadata.json`: the step, names, shapes, dtypes and CRC-32 of every array,
  and the digest of the configuration that wrote it.
"""

import json
import pathlib
import re
import shutil
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from dap import errors, files

VERSION = 1
_NAME = re.compile(r'^checkpoint_(\d+)$')


def _checkpointer():
  import logging

  import orbax.checkpoint as ocp

  logging.getLogger('absl').setLevel(logging.ERROR)
  return ocp.StandardCheckpointer()


def names(tree: PyTree) -> dict[str, Any]:
  """Leaves by their slash-separated names, as T5X writes them."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    '/'.join(str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k))))
             for k in path): leaf
    for path, leaf in leaves
  }  # fmt: skip


def _crc(leaf: Any) -> int | None:
  if not getattr(leaf, 'is_fully_addressable', True):
    return None  # each process holds a part; Orbax's own checks remain
  data = np.ascontiguousarray(jax.device_get(leaf))
  return zlib.crc32(data.reshape(-1).view(np.uint8).data)


def _summary(tree: PyTree) -> dict[str, Any]:
  return {
    name: {
      'shape': list(leaf.shape),
      'dtype': str(leaf.dtype),
      'crc32': _crc(leaf),
    }
    for name, leaf in names(tree).items()
  }


def save(
  root: pathlib.Path,
  step: int,
  params: PyTree,
  rest: Mapping[str, Any],
  digest: str,
) -> pathlib.Path:
  """Writes `root/checkpoint_<step>`; older ones keep their parameters only.

  Args:
    root: folder of the run's checkpoints, created when absent.
    step: finished updates.
    params: nested dictionary of arrays.
    rest: what a restart needs beside them.
    digest: names the configuration; a restart under another is refused.

  Raises:
    errors.InputError: the disk is full or the folder cannot be written.
  """
  final = root / f'checkpoint_{step}'
  partial = root / f'checkpoint_{step}.partial'
  with files.explained(root):
    root.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with _checkpointer() as checkpointer:
      checkpointer.save(partial.resolve() / 'params', params)
      if rest:
        checkpointer.save(partial.resolve() / 'rest', dict(rest))
    summary = {
      'version': VERSION,
      'step': step,
      'digest': digest,
      'params': _summary(params),
      'rest': _summary(dict(rest)),
    }
    files.write_json(partial / 'metadata.json', summary)
    if final.exists():
      shutil.rmtree(final)
    files.publish_folder(partial, final)
    for older in steps(root):
      if older != step:
        _drop(root / f'checkpoint_{older}' / 'rest')
  return final


def _drop(folder: pathlib.Path) -> None:
  if folder.exists():
    doomed = folder.with_name('rest.partial')
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


def metadata(folder: pathlib.Path) -> dict[str, Any]:
  """What a checkpoint says of itself.

  Raises:
    errors.InputError: there is no whole checkpoint at `folder`.
  """
  path = folder / 'metadata.json'
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise errors.InputError(
      f'A checkpoint is a folder with metadata.json, params and rest; {folder}'
      ' is none. Give the folder checkpoint_<step> of a finished or running'
      ' training, or its parent to take the newest.'
    ) from None
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise _damaged(folder, f'metadata.json cannot be read ({error})') from None


def find(path: str | pathlib.Path) -> pathlib.Path:
  """The checkpoint at `path`: itself, or the newest of a run's folder."""
  folder = pathlib.Path(path)
  for root in (folder, folder / 'checkpoints'):
    if steps(root):
      return root / f'checkpoint_{steps(root)[-1]}'
  metadata(folder)
  return folder


def restore_params(folder: pathlib.Path, template: PyTree) -> PyTree:
  """Parameters of a checkpoint, placed as `template` says.

  Args:
    folder: a checkpoint.
    template: `jax.ShapeDtypeStruct` leaves, with shardings where wanted.

  Raises:
    errors.InputError: another configuration wrote it, or it is damaged.
  """
  return _restore(folder, 'params', template)


def restore_rest(folder: pathlib.Path, template: PyTree) -> PyTree:
  """What `save` was given as `rest`; otherwise as `restore_params`."""
  return _restore(folder, 'rest', template)


def _restore(folder: pathlib.Path, part: str, template: PyTree) -> PyTree:
  summary = metadata(folder)[part]
  match(
    folder,
    {name: tuple(entry['shape']) for name, entry in summary.items()},
    {name: tuple(leaf.shape) for name, leaf in names(template).items()},
  )
  try:
    with _checkpointer() as checkpointer:
      tree = checkpointer.restore(folder.resolve() / part, template)
  except Exception as error:  # Orbax raises many kinds for damaged files
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise _damaged(folder, reason[0][:200]) from error
  for name, leaf in names(tree).items():
    if summary[name]['crc32'] not in (None, _crc(leaf)):
      raise _damaged(folder, f'{part}/{name} fails its CRC-32')
  return tree


def match(
  folder: pathlib.Path, found: dict[str, tuple], wanted: dict[str, tuple]
) -> None:
  """Refuses arrays whose names or shapes are not those wanted.

  Raises:
    errors.InputError: names what is missing, unexpected and of other shape.
  """
  if wanted == found:
    return
  missing = sorted(set(wanted) - set(found))
  extra = sorted(set(found) - set(wanted))
  shaped = [
    f'{name} is {found[name]}, needed {wanted[name]}'
    for name in sorted(set(wanted) & set(found))
    if wanted[name] != found[name]
  ]
  parts = [('missing', missing), ('unexpected', extra), ('other shape', shaped)]
  text = '; '.join(f'{k}: {", ".join(v[:4])}' for k, v in parts if v)
  raise errors.InputError(
    f'{folder} is the checkpoint of another configuration ({text}). Bind the'
    ' model that wrote it, or give another checkpoint.'
  )


def _damaged(folder: pathlib.Path, reason: str) -> errors.InputError:
  return errors.InputError(
    f'The checkpoint {folder} is damaged: {reason}. Remove that folder to'
    ' continue from an older one, or copy it again from where it came.'
  )
