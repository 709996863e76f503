"""Layer 3. Checkpoints that Orbax wrote: T5X's newer ones, and bare trees.

T5X's `checkpoint_N` holds the state in `state/`; a folder that Orbax wrote by
itself is such a `state/`. Arrays lie in one OCDBT database or, older, in one
zarr folder each; their names are dotted paths of the tree.
"""

import json
import re

import numpy as np
from etils import epath

from dap.checkpoints import finite, stored, tensors, trees
from dap.checkpoints.stored import Parts, Stored
from dap.errors import InputError

STATE = 'state'
_DATABASE = 'manifest.ocdbt'
_TREE = '_METADATA'
# Where Orbax's CheckpointManager keeps a tree, or one of several, of a step.
_ITEMS = ('default', 'params', 'model', 'target', 'policy', 'train_state')
_OWN = 'metadata.json'  # beside params/ in a checkpoint of dap
_STEP = re.compile(r'^(?:[a-z]+_)?(\d{1,18})$')


def is_orbax(path: epath.Path) -> bool:
  """Whether Orbax wrote what is at `path`, or `path/state`."""
  return _state(path) is not None


def _state(path: epath.Path) -> epath.Path | None:
  items = () if tensors.is_file(path / _OWN) else _ITEMS
  for folder in (path / STATE, *(path / item for item in items), path):
    if any(tensors.is_file(folder / name) for name in (_DATABASE, _TREE)):
      return folder
  # Before it had either, Orbax kept an index of its own in `state`.
  older = path / STATE / 'checkpoint'
  return path / STATE if tensors.is_file(older) else None


def open_orbax(path: epath.Path) -> tuple[dict[str, Stored], int]:
  """The parameters under their own names, not read yet, and the step.

  Of a step of Orbax's CheckpointManager the folder's name is the step.

  Raises:
    InputError: there is none, or part of it is missing.
  """
  state = _state(path)
  if state is None:
    raise InputError(
      f'A checkpoint of Orbax has {STATE}/{_TREE} or {STATE}/{_DATABASE};'
      f' {path} has none. Give the folder checkpoint_N.'
    )
  arrays = open_tree(state, skip='state/param_states/')
  step = arrays.pop('state/step', arrays.pop('step', None))
  return trees.parameters(arrays, path), _step(path, step)


def _step(path: epath.Path, own: Stored | None) -> int:
  """What the folder of a manager says, else the tree, else the folder."""
  named = _STEP.match(path.name)
  if named is None and path.name in _ITEMS:
    named = _STEP.match(path.parent.name)
  is_managed = named is not None and named.group(0).isdecimal()
  if own is not None and not is_managed:
    return _scalar(own)
  return int(named.group(1)) if named else 0


def _scalar(array: Stored) -> int:
  if array.shape:
    raise InputError(
      f'The step of a checkpoint must be one number; {array.name} has shape'
      f' {array.shape}. Give a checkpoint that T5X wrote.'
    )
  return int(array.read(()))


def open_tree(folder: epath.Path, skip: str = '//') -> dict[str, Stored]:
  """The arrays of a tree that Orbax wrote, by slash-separated names.

  Args:
    folder: of the tree.
    skip: arrays whose names begin so are left out.

  Raises:
    InputError: an array is absent or damaged.
  """
  is_database = (folder / _DATABASE).is_file()
  store = tensors.ocdbt(folder) if is_database else tensors.folder(folder)
  keys = tensors.listing(store, folder)
  folders = {
    place.replace('.', '/'): place for place in tensors.array_folders(keys)
  }
  for name in _promised(folder):
    folders.setdefault(name, name.replace('/', '.'))
  wanted = {n: p for n, p in folders.items() if not n.startswith(skip)}
  return tensors.open_arrays(store, wanted, keys, folder)


def _promised(folder: epath.Path) -> list[str]:
  """The arrays that the tree's own list names; none without a list."""
  try:
    text = (folder / _TREE).read_text()
    tree = json.loads(text)['tree_metadata']
    return [
      '/'.join(str(key['key']) for key in entry['key_metadata'])
      for entry in tree.values()
      if 'Array' in entry['value_metadata']['value_type']
    ]
  except FileNotFoundError:
    return []
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise tensors.unreadable(folder, _TREE, error) from error


def write(
  folder: epath.Path, parts: Parts, step: int, dtype: str = 'float32'
) -> None:
  """Writes `folder/state` as T5X's Orbax checkpoints have it.

  Args:
    folder: of the checkpoint, T5X's `checkpoint_<step>`.
    parts: the parameters; all of them are held while they are written.
    step: updates that made them.
    dtype: to store them in, float32 or bfloat16.
  """
  import orbax.checkpoint as ocp

  arrays: dict[str, np.ndarray] = {}
  stored.read_each(
    parts,
    lambda name, x: arrays.update({name: finite.cast(name, x, dtype)}),
    label='read',
  )
  tree = {
    'target': stored.nested({name: arrays[name] for name in parts}),
    STATE: {'step': np.asarray(step, np.int32)},
  }
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True)
  with ocp.Checkpointer(handler) as checkpointer:
    checkpointer.save(folder / STATE, tree)


def layout(parts: Parts) -> list[str]:
  """The names of the arrays that `write` keeps in its database."""
  names = [f'target.{name.replace("/", ".")}' for name in parts]
  return [f'{STATE}/{name}' for name in [*names, 'state.step']]
