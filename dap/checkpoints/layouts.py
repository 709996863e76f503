"""Layer 3. Checkpoints of every layout that dap reads, opened one way."""

import concurrent.futures
import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import PyTree

from dap import files
from dap.checkpoints import (
  finite,
  hf_reader,
  metadata,
  stored,
  t5x_native,
  t5x_orbax,
  tensors,
  trees,
)
from dap.checkpoints.stored import Parts, Stored, check_dtypes, whole
from dap.errors import InputError
from dap.models import t5_sizes
from dap.models.t5_stacks import T5Config

# T5X's and ours, and Orbax's: the number, or after a word of the caller's.
_STEP = re.compile(r'^(?:(?:checkpoint|ckpt|step)_)?(\d{1,18})/?$')
_LOCAL = re.compile(r'^(?!\w+:/)')  # C: is no scheme of ours
_SCHEMES = ('gs://', 's3://')
_HEAD = 1 << 16  # bytes at both ends of each file that tell checkpoints apart
_READS = 16  # of files at a time, for buckets
FACTS = 'dap.json'  # beside a checkpoint of another layout that dap wrote
_STATES = 'state.param_states.'  # folders of T5X's optimizer states


class Contents(NamedTuple):
  """What a checkpoint holds; nothing of its arrays has been read.

  Attributes:
    path: of the checkpoint itself.
    layout: its name in `LAYOUTS`, with what is particular in brackets.
    parts: the parameters under T5X's names.
    step: updates that made them, 0 where it is not told.
    config: as the checkpoint says, None where it does not.
    facts: what the training that wrote it said of it, see `state.save`.
  """

  path: epath.Path
  layout: str
  parts: Parts
  step: int
  config: T5Config | None = None
  facts: Mapping[str, metadata.Json] = {}

  def t5_config(self) -> T5Config:
    """The configuration, told by the shapes where nothing else tells it.

    Raises:
      InputError: the parameters are not those of a T5.
    """
    if self.config is not None:
      return self.config
    found = t5_sizes.config_of({n: p.shape for n, p in self.parts.items()})
    known = self.facts.get('mlp_activations', found.mlp_activations)
    return dataclasses.replace(found, mlp_activations=tuple(known))

  @property
  def prompts_end(self) -> bool | None:
    """Whether its training had the end id at the end of prompts.

    None where nobody says so: of our own of older versions. T5's pretraining
    and its descendants, in every other layout, have it.
    """
    return _prompts_end(self.layout, self.facts)


def _open_dap(path: epath.Path) -> Contents:
  written = metadata.read(path)
  metadata.check_files(path, 'params')
  arrays = t5x_orbax.open_tree(path / 'params')
  return Contents(
    path,
    'dap',
    _as_parts(arrays),
    written['step'],
    facts=written['facts'],
  )


def _open_t5x(path: epath.Path) -> Contents:
  arrays, step = t5x_native.open_native(path)
  return Contents(path, f't5x{_kind(arrays)}', _as_parts(arrays), step)


def _open_orbax(path: epath.Path) -> Contents:
  arrays, step = t5x_orbax.open_orbax(path)
  return Contents(path, f't5x_orbax{_kind(arrays)}', _as_parts(arrays), step)


def _open_hugging_face(path: epath.Path) -> Contents:
  parts, config = hf_reader.open_folder(path)
  return Contents(path, 'hf', parts, 0, config)


def _kind(arrays: dict[str, Stored]) -> str:
  return ' (scanned layers)' if trees.is_scanned(set(arrays)) else ''


def _as_parts(arrays: dict[str, Stored]) -> Parts:
  if trees.is_scanned(set(arrays)):
    return trees.unscanned(arrays)
  return {name: whole(array) for name, array in sorted(arrays.items())}


class Layout(NamedTuple):
  """How a layout is recognised and opened, and what it looks like."""

  is_at: Callable[[epath.Path], bool]
  open: Callable[[epath.Path], Contents]
  sign: str


LAYOUTS: dict[str, Layout] = {
  'dap': Layout(
    lambda path: tensors.is_file(path / 'metadata.json'),
    _open_dap,
    'metadata.json and params/',
  ),
  't5x': Layout(
    t5x_native.is_native, _open_t5x, 'checkpoint (a file) and target.*/'
  ),
  't5x_orbax': Layout(
    t5x_orbax.is_orbax, _open_orbax, 'state/_METADATA or _METADATA'
  ),
  'hf': Layout(
    hf_reader.is_hugging_face,
    _open_hugging_face,
    'config.json and *.safetensors',
  ),
}


def open_checkpoint(path: str | Path | epath.Path) -> Contents:
  """Opens the checkpoint at `path`, whatever its layout.

  Args:
    path: a checkpoint; the folder of a run, whose newest checkpoint is taken;
      or a model of Hugging Face's hub, `hf://OWNER/NAME[@REVISION]`. Local, or
      of a bucket (gs://, s3://).

  Raises:
    InputError: there is none, it has several layouts, or it is damaged; where
      an array is read that has a number which is not finite.
  """
  folder, layout = find(path)
  contents = LAYOUTS[layout].open(folder)
  if layout != 'dap':
    contents = contents._replace(facts=_facts(folder, layout))
  check_dtypes(contents.parts, folder)
  return contents._replace(parts=finite.checked(contents.parts, folder))


def prompts_end(path: str | Path | epath.Path) -> bool | None:
  """See `Contents.prompts_end`; no array is looked at."""
  folder, layout = find(path)
  return _prompts_end(layout, _facts(folder, layout))


def facts(path: str | Path | epath.Path) -> Mapping[str, metadata.Json]:
  """See `Contents.facts`; no array is looked at."""
  return _facts(*find(path))


def _facts(folder: epath.Path, layout: str) -> Mapping[str, metadata.Json]:
  if layout == 'dap':
    return metadata.read(folder)['facts']
  if not tensors.is_file(folder / FACTS):
    return {}
  found = files.read_json(folder / FACTS)
  if not isinstance(found, dict):
    raise InputError(
      f'{folder / FACTS} must be a JSON object, as `dap convert` writes it.'
      ' Copy the checkpoint again.'
    )
  return found


def _prompts_end(
  layout: str, facts: Mapping[str, metadata.Json]
) -> bool | None:
  family = None if layout == 'dap' else True
  return facts.get('prompts_end', facts.get('family_prompts_end', family))


def read_params(path: str | Path | epath.Path) -> PyTree[np.ndarray]:
  """All parameters of a checkpoint, as nested dicts of float32 numpy arrays."""
  arrays: dict[str, np.ndarray] = {}

  def keep(name: str, array: np.ndarray) -> None:
    arrays[name] = np.asarray(array, np.float32)

  parts = open_checkpoint(path).parts
  stored.read_each(parts, keep, label='read')
  return stored.nested({name: arrays[name] for name in parts})


def find(path: str | Path | epath.Path) -> tuple[epath.Path, str]:
  """The folder of the checkpoint at `path`, and the name of its layout."""
  folder = place(path)
  found = _layouts_at(folder)
  candidates = [] if found else _newest_first(folder)
  for candidate in candidates:
    found = _layouts_at(candidate)
    if found:
      folder = candidate
      break
  if len(found) > 1:
    signs = ' and '.join(f'{n} ({LAYOUTS[n].sign})' for n in found)
    raise InputError(
      f'{folder} mixes layouts: it looks like {signs}. Put each checkpoint'
      ' into a folder of its own.'
    )
  if found:
    return folder, found[0]
  signs = '; '.join(f'{n}: {layout.sign}' for n, layout in LAYOUTS.items())
  there = 'has none of them' if folder.exists() else 'does not exist'
  raise InputError(
    f'{path} is no checkpoint: it {there}. A checkpoint is a folder with files'
    f' of one of these layouts: {signs}. Give the folder checkpoint_<step> of a'
    ' run, its parent to take the newest, or the folder of a Hugging Face'
    ' model.'
  )


def place(path: str | Path | epath.Path) -> epath.Path:
  """The folder that a caller means; a model of the hub is downloaded.

  Raises:
    InputError: nothing is named, or a place that cannot be read.
  """
  text = str(path)
  if text.startswith(hf_reader.SCHEME):
    return hf_reader.download(text)
  if text.startswith(_SCHEMES):
    return epath.Path(text)
  if not text.strip() or not _LOCAL.match(text):
    raise InputError(
      'A place is a local folder, gs://BUCKET/FOLDER, s3://BUCKET/FOLDER, or'
      f' to read hf://OWNER/NAME; got {text!r}.'
    )
  return epath.Path(Path(text).expanduser())


def _layouts_at(folder: epath.Path) -> list[str]:
  try:
    return [name for name, layout in LAYOUTS.items() if layout.is_at(folder)]
  except Exception as error:  # clients of buckets have errors of their own
    raise tensors.unreadable(folder, 'the list of files', error) from error


def _newest_first(folder: epath.Path) -> list[epath.Path]:
  """The checkpoints under a run's folder, or nothing."""
  try:
    for root in (folder, folder / 'checkpoints'):
      names = [x.name for x in root.iterdir()] if root.is_dir() else []
      steps = [(int(m.group(1)), n) for n in names if (m := _STEP.match(n))]
      if steps:
        return [root / name for _, name in sorted(steps, reverse=True)]
  except Exception as error:
    raise tensors.unreadable(folder, 'the list of files', error) from error
  return []


def fingerprint(path: str | Path | epath.Path) -> str:
  """SHA-256 that names the content of the checkpoint at `path`.

  Ours says itself what is in it; of others it is name, size, beginning and end
  of each file, because the largest of them have 45 GB. T5X's optimizer states
  do not count.
  """
  folder, layout = find(path)
  if layout == 'dap':
    written = (folder / 'metadata.json').read_bytes()
    return hashlib.sha256(written).hexdigest()
  found = tensors.files_under(folder)
  counted = [x for x in found if not x.parent.name.startswith(_STATES)]
  with concurrent.futures.ThreadPoolExecutor(_READS) as pool:
    digests = pool.map(lambda file: _digest(folder, file), counted)
    return hashlib.sha256(b''.join(digests)).hexdigest()


def _digest(folder: epath.Path, path: epath.Path) -> bytes:
  digest = hashlib.sha256(path.relative_to(folder).as_posix().encode())
  with path.open('rb') as file:
    head = file.read(_HEAD)
    size = file.seek(0, 2)
    file.seek(max(size - _HEAD, 0))
    digest.update(f' {size} '.encode() + head + file.read(_HEAD))
  return digest.digest()
