"""Layer 3. Hugging Face folders of T5, written without torch."""

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from etils import epath

from dap.checkpoints import finite, hf_names, hf_reader, stored
from dap.checkpoints.stored import Parts
from dap.models.t5_stacks import T5Config

_SHARD = 5 * 10**9  # bytes of a file at most, as transformers has it


def write(
  folder: epath.Path,
  parts: Parts,
  config: T5Config,
  dtype: str = 'float32',
  tokenizer: Mapping[str, bytes] | None = None,
  most_bytes: int = _SHARD,
) -> None:
  """Writes a folder that transformers loads.

  Args:
    folder: of the model.
    parts: the parameters.
    config: of the model.
    dtype: to store them in, float32 or bfloat16.
    tokenizer: files to put beside them, see `hf_tokenizer.files`.
    most_bytes: of one file; a larger model has several and an index.
  """
  import safetensors.numpy

  shards = _shards(parts, dtype, most_bytes)
  for file, names in shards.items():
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, array: np.ndarray, arrays=arrays) -> None:
      turned = array.T if hf_names.is_transposed(name) else array
      cast = finite.cast(name, turned, dtype)
      arrays[hf_names.hf_name(name)] = np.ascontiguousarray(cast)

    stored.read_each({name: parts[name] for name in names}, keep, label=file)
    with tempfile.TemporaryDirectory(prefix='dap-') as aside:
      place = Path(aside if '://' in os.fspath(folder) else folder, file)
      safetensors.numpy.save_file(arrays, place, metadata={'format': 'pt'})
      if '://' in os.fspath(folder):
        epath.Path(place).copy(folder / file)
  if len(shards) > 1:
    _write_json(folder / hf_reader.INDEX, _index(parts, shards, dtype))
  for name, content in (tokenizer or {}).items():
    (folder / name).write_bytes(content)
  _write_json(folder / hf_reader.CONFIG, hf_names.hf_config(config, dtype))


def _shards(parts: Parts, dtype: str, most_bytes: int) -> dict[str, list[str]]:
  """Names of parameters by file."""
  groups: list[list[str]] = [[]]
  size = 0
  for name in sorted(parts):
    own = _bytes(parts, [name], dtype)
    if groups[-1] and size + own > most_bytes:
      groups.append([])
      size = 0
    groups[-1].append(name)
    size += own
  if len(groups) == 1:
    return {hf_reader.SINGLE: groups[0]}
  return {
    f'model-{number:05}-of-{len(groups):05}.safetensors': group
    for number, group in enumerate(groups, start=1)
  }


def _bytes(parts: Parts, names: list[str], dtype: str) -> int:
  itemsize = jnp.dtype(dtype).itemsize
  return sum(int(np.prod(parts[name].shape)) * itemsize for name in names)


def _index(
  parts: Parts, shards: dict[str, list[str]], dtype: str
) -> dict[str, object]:
  return {
    'metadata': {'total_size': _bytes(parts, list(parts), dtype)},
    'weight_map': {
      hf_names.hf_name(name): file
      for file, names in shards.items()
      for name in names
    },
  }


def layout(
  parts: Parts, dtype: str, tokenizer: Collection[str] = ()
) -> list[str]:
  """The names of the files that `write` makes."""
  shards = _shards(parts, dtype, _SHARD)
  index = [hf_reader.INDEX] if len(shards) > 1 else []
  return [*shards, *index, *tokenizer, hf_reader.CONFIG]


def _write_json(path: epath.Path, value: dict[str, object]) -> None:
  path.write_text(json.dumps(value, indent=2) + '\n')
