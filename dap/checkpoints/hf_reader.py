"""Layer 3. Hugging Face folders of T5: config.json and safetensors, no torch.

Weights are read from `model.safetensors`, or from the files that
`model.safetensors.index.json` names. Pickled weights (`.bin`) are refused:
unpickling a file runs whatever its author put into it.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from etils import epath

from dap import files
from dap.checkpoints import hf_names, tensors
from dap.checkpoints import hf_remote as remote
from dap.checkpoints.stored import Box, Part, Parts, Stored, whole
from dap.errors import InputError
from dap.models.t5_stacks import T5Config

CONFIG = 'config.json'
SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
_PICKLED = ('pytorch_model.bin', 'pytorch_model.bin.index.json')
SCHEME = 'hf://'


def is_hugging_face(path: epath.Path) -> bool:
  """Whether a folder has weights under one of transformers' names."""
  names = (SINGLE, INDEX, *_PICKLED)
  return any(tensors.is_file(path / name) for name in names)


def download(name: str) -> epath.Path:
  """The folder of a model of the hub, `hf://OWNER/NAME[@REVISION]`.

  Files that were downloaded before are not downloaded again.

  Raises:
    InputError: the hub refuses, or cannot be reached.
  """
  try:
    import huggingface_hub
  except ModuleNotFoundError as error:
    raise InputError(
      'huggingface_hub is needed for hf:// and is not installed: pip install'
      " 'dap[huggingface]'."
    ) from error
  repository, _, revision = name.removeprefix(SCHEME).partition('@')
  wanted = [
    '*.safetensors',
    '*.json',
    '*.model',
    'pytorch_model.bin.index.json',
  ]
  try:
    folder = huggingface_hub.snapshot_download(
      repository, revision=revision or None, allow_patterns=wanted
    )
  except Exception as error:  # the hub's, httpx's and the disk's
    raise InputError(
      f'{name} could not be downloaded: {tensors.first_line(error)}. Give an'
      ' existing OWNER/NAME[@REVISION] with a network; for gated models accept'
      ' their terms on their page and log in first: hf auth login.'
    ) from error
  found = epath.Path(folder)
  if not is_hugging_face(found):
    raise _pickled(repository, 'no safetensors, but perhaps pytorch_model.bin')
  return found


def open_folder(path: epath.Path) -> tuple[Parts, T5Config]:
  """The parameters under T5X's names, not read yet, and the configuration.

  Raises:
    InputError: a file is missing, damaged, pickled or of another model.
  """
  values = _read_json(path / CONFIG)
  config = hf_names.t5_config(values, path / CONFIG)
  arrays: dict[str, Stored] = {}
  for file, names in _weight_files(path).items():
    found = _open_file(path, file)
    absent = [name for name in names if name not in found]
    if absent:
      raise InputError(
        f'{path / INDEX} says that {file} has {absent[0]}, and it has not.'
        ' Copy index and files again, from one place.'
      )
    _check_twice(arrays, found, path)
    arrays |= found
  parts = _parts(arrays, path)
  shared = hf_names.may_share_embedding(values)
  _find_embeddings(parts, arrays, config, shared, path)
  _check_layers(parts, config, path)
  return parts, config


def _check_twice(
  arrays: Mapping[str, Stored], found: Mapping[str, Stored], path: epath.Path
) -> None:
  """Refuses two weights of one name in two files."""
  for name in arrays.keys() & found.keys():
    if not _equal(arrays[name], found[name]):
      raise InputError(
        f'{path} has two different weights {name} in two of its files. Copy'
        ' index and files again, from one place.'
      )


def _check_layers(parts: Parts, config: T5Config, path: epath.Path) -> None:
  """Before anybody builds a model of as many layers as a file may claim."""
  for stack in ('encoder', 'decoder'):
    named = {x.split('/')[1] for x in parts if x.startswith(f'{stack}/layers_')}
    wanted = getattr(config, f'num_{stack}_layers')
    if len(named) != wanted:
      raise InputError(
        f'{path / CONFIG} says that the {stack} has {wanted} layers, the'
        f' weights are of {len(named)}. Copy both again, from one place.'
      )


def _weight_files(path: epath.Path) -> dict[str, list[str]]:
  """The files of weights, and the names that an index promises in each."""
  if tensors.is_file(path / INDEX):
    table = _read_json(path / INDEX).get('weight_map')
    if not isinstance(table, dict) or not table:
      raise InputError(f'{path / INDEX} needs a weight_map. Copy it again.')
    found: dict[str, list[str]] = {}
    for name, file in table.items():
      if not isinstance(file, str) or file != Path(file).name or '\\' in file:
        raise InputError(
          f'{path / INDEX} may name files of its own folder only; for {name}'
          f' it names {file!r}. Do not trust this checkpoint.'
        )
      if not file.endswith('.safetensors'):
        raise _pickled(path, file)
      found.setdefault(file, []).append(name)
    for file in found:
      if not tensors.is_file(path / file):
        raise InputError(
          f'{path / INDEX} names {file}, which is not there. Copy all'
          f' {len(found)} files of the model.'
        )
    return found
  if tensors.is_file(path / SINGLE):
    return {SINGLE: []}
  raise _pickled(path, _PICKLED[0])


def _pickled(path: object, file: str) -> InputError:
  return InputError(
    f'{path} has its weights in {file}: a pickle can run any code when it is'
    ' read, so it is not read here. Convert it once, where you trust it:'
    ' python -c "import transformers as t;'
    f" t.T5ForConditionalGeneration.from_pretrained('{path}')"
    ".save_pretrained('CONVERTED')\" and give CONVERTED."
  )


def _open_file(path: epath.Path, file: str) -> dict[str, Stored]:
  source = path / file
  is_remote = '://' in os.fspath(source)
  try:
    found = remote.arrays(source) if is_remote else _mapped(os.fspath(source))
  except InputError:
    raise
  except Exception as error:
    raise tensors.unreadable(path, file, error) from error
  for name, (_, dtype, _) in found.items():
    if dtype not in remote.DTYPES:
      raise InputError(
        f'Weights are {", ".join(remote.DTYPES)}; {name} of {source} is'
        f' {dtype}. Give a model that is not quantised.'
      )
  return {
    name: Stored(
      name, shape, remote.DTYPES[dtype], _explained(read, name, path)
    )
    for name, (shape, dtype, read) in found.items()
  }


def _mapped(path: str) -> remote.Arrays:
  """Shape, dtype and reader of each array of a local file."""
  import safetensors

  def reader(name: str) -> Callable[[Box], np.ndarray]:
    def read(box: Box) -> np.ndarray:
      # Opened anew: what a mapping has touched counts as memory until then.
      with safetensors.safe_open(path, framework='np') as opened:
        if all(part == slice(None) for part in box):
          return opened.get_tensor(name)
        return opened.get_slice(name)[box]

    return read

  with safetensors.safe_open(path, framework='np') as opened:
    parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
    return {
      name: (tuple(part.get_shape()), part.get_dtype(), reader(name))
      for name, part in parts.items()
    }


def _explained(
  read: Callable[[Box], np.ndarray], name: str, path: epath.Path
) -> Callable[[Box], np.ndarray]:
  def explained(box: Box) -> np.ndarray:
    try:
      return read(box)
    except Exception as error:
      raise tensors.unreadable(path, name, error) from error

  return explained


def _parts(arrays: Mapping[str, Stored], path: epath.Path) -> Parts:
  parts: Parts = {}
  for theirs, array in arrays.items():
    ours = hf_names.t5x_name(theirs)
    if ours is not None:
      parts[ours] = _part(ours, array)
    elif theirs not in hf_names.UNUSED:
      raise InputError(
        f'{path} has a weight that T5 has not: {theirs}. Give a'
        ' T5ForConditionalGeneration.'
      )
  return parts


def _part(name: str, array: Stored) -> Part:
  if not hf_names.is_transposed(name):
    return whole(array)
  return Part(array, array.shape[::-1], np.transpose)


def _find_embeddings(
  parts: Parts,
  arrays: Mapping[str, Stored],
  config: T5Config,
  shared: bool,
  path: epath.Path,
) -> None:
  """Takes embedding and logits from wherever transformers keeps them.

  safetensors stores equal weights once, under any of their names; `shared`
  says whether logits may be such a copy of the embedding.
  """
  embedding, logits = 'token_embedder/embedding', 'decoder/logits_dense/kernel'
  copies = [arrays[n] for n in hf_names.COPIES if n in arrays]
  if embedding not in parts:
    kept = next(iter(copies), arrays.get('lm_head.weight'))
    if kept is not None:
      parts[embedding] = whole(kept)
  if embedding not in parts:
    return
  known = parts[embedding].stored
  for copy in copies:
    if not _equal(copy, known):
      raise InputError(
        f'{path} keeps one embedding under two names, {copy.name} and'
        f' {known.name}, and the two differ. It was edited or merged by halves:'
        ' save the model anew from one place.'
      )
  if not config.logits_via_embedding and logits not in parts:
    if shared:
      parts[logits] = _part(logits, parts[embedding].stored)
  elif config.logits_via_embedding and logits in parts:
    tied = parts.pop(logits).stored
    if not _equal(tied, parts[embedding].stored):
      raise InputError(
        f'{path / CONFIG} ties the logits to the embedding, and lm_head.weight'
        ' is another array than shared.weight. Set tie_word_embeddings, and'
        ' scale_decoder_outputs where it has that, to false if the model was'
        ' trained so.'
      )


def _equal(one: Stored, other: Stored) -> bool:
  if one is other:
    return True
  if one.shape != other.shape:
    return False
  if len(one.shape) != 2:
    everything = (slice(None),) * len(one.shape)
    return np.array_equal(one.read(everything), other.read(everything))
  rows = range(0, one.shape[0], 4096)  # little memory for large embeddings
  boxes = [(slice(i, min(i + 4096, one.shape[0])), slice(None)) for i in rows]
  return all(np.array_equal(one.read(x), other.read(x)) for x in boxes)


def _read_json(path: epath.Path) -> dict[str, object]:
  value = files.read_json(path)
  if not isinstance(value, dict):
    raise InputError(f'{path} must be a JSON object. Copy it again.')
  return value
