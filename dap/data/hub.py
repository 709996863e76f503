"""Layer 3. Raw rows that Hugging Face's `datasets` or TFDS keep.

Readers as in `dap/data/readers.py`. Both libraries are imported when something
is read. Only a data set named by its name on the hub is downloaded, and that
once.
"""

import hashlib
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dap.data import paths
from dap.data.schema import Placed
from dap.errors import InputError


def optional(name: str, extra: str = 'seqio') -> Any:
  """Imports a module that only an extra installs.

  Raises:
    InputError: it is not installed.
  """
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    raise InputError(
      f"{name} is needed and is not installed: pip install 'dap[{extra}]'."
    ) from error


def import_tensorflow() -> Any:
  """TensorFlow, kept off the accelerators, which are JAX's."""
  tf = optional('tensorflow')
  tf.config.set_visible_devices([], 'GPU')
  return tf


@dataclass(frozen=True)
class HuggingFaceRows:
  """Rows of a data set of the Hugging Face hub, or of a folder of its files.

  Attributes:
    name: on the hub (`Anthropic/hh-rlhf`), or a folder of JSON lines or
      Parquet files.
    revision: commit on the hub, best one that never moves; `datasets` no longer
      runs a data set's own script, whose `refs/convert/parquet` it can read.
    config: subset, None for the only one.
    folder: of the data set that holds the subset, where it is none of the
      configs (`helpful-base`).
    train: what of it is our split `train`: one of its splits, or a part of one
      ('train[5%:]').
    test: the same for `test`, None where there is none.
  """

  name: str
  revision: str | None = None
  config: str | None = None
  folder: str | None = None
  train: str = 'train'
  test: str | None = 'test'

  def read(self, split: str) -> Iterator[Placed]:
    """The rows of a split, in their order."""
    own = _own_split(self, split)
    rows = self._load(own)
    return (
      (f'{self.name}, {own} row {number}', row)
      for number, row in enumerate(rows, start=1)
    )

  def _load(self, own_split: str) -> Any:
    datasets = optional('datasets', 'huggingface')
    try:
      return datasets.load_dataset(
        self.name,
        self.config,
        revision=self.revision,
        data_dir=self.folder,
        split=own_split,
      )
    except Exception as error:  # the hub, files and formats each have theirs
      if _is_gated(error):
        raise InputError(_gated(self.name)) from error
      raise InputError(
        f'The data set {self.name} cannot be loaded, split {own_split}:'
        f' {_first_cause(error)}. Give a name and a split that the hub has'
        ' (with a network, or after it was loaded once), or a folder of JSON'
        ' lines or Parquet files.'
      ) from error

  def fingerprint(self) -> str:
    """Names the rows themselves: a revision may move, a folder may change."""
    return f'huggingface-{_rows_hash(self)}'


def _first_cause(error: BaseException) -> BaseException:
  while error.__cause__ is not None:
    error = error.__cause__
  return error


def _gated(name: str) -> str:
  return (
    f'The data set {name} is gated: its terms must be accepted before it can be'
    f' loaded. Accept them at https://huggingface.co/datasets/{name} with your'
    ' account and log in (hf auth login, or HF_TOKEN with a token of yours), or'
    ' give files of it: --gin_file=gin/data/readers/jsonl.gin.'
  )


def _is_gated(error: BaseException | None) -> bool:
  """Whether the hub's refusal of a gated data set is among the causes."""
  while error is not None:
    if type(error).__name__ == 'GatedRepoError' or 'is a gated' in str(error):
      return True
    error = error.__cause__ or error.__context__
  return False


@dataclass(frozen=True)
class TfdsRows:
  """Examples of a TFDS data set that was prepared before, texts decoded.

  Attributes:
    name: the folder of one version, where its dataset_info.json lies; or a
      name that `tfds.builder` knows, such as `huggingface:anthropic__hh_rlhf`.
    data_dir: for a name, the folder of all data sets; TFDS's own when None.
    train: what of it is our split `train`: a split of it, or a part of one
      ('train[5%:]').
    test: the same for `test`, None where there is none.
  """

  name: str
  data_dir: str | None = None
  train: str = 'train'
  test: str | None = 'test'

  def read(self, split: str) -> Iterator[Placed]:
    """The examples of a split, in the order of its files."""
    own, builder = _own_split(self, split), self._builder()
    tfds = optional('tensorflow_datasets')
    config = tfds.ReadConfig(interleave_cycle_length=1)
    try:
      dataset = builder.as_dataset(split=own, read_config=config)
    except Exception as error:  # TFDS has no error of its own for these
      raise InputError(
        f'{self.name}: the split {own} cannot be read: {error} It has'
        f' {", ".join(builder.info.splits) or "none"}. Name one of these, or'
        ' prepare the data set first: download_and_prepare().'
      ) from error
    return (
      (f'{self.name}, {own} row {n}', _plain(example, builder.info.features))
      for n, example in enumerate(tfds.as_numpy(dataset), start=1)
    )

  def _builder(self) -> Any:
    tfds = optional('tensorflow_datasets')
    import_tensorflow()
    try:
      if paths.exists(self.name):
        return tfds.builder_from_directory(self.name)
      return tfds.builder(self.name, data_dir=self.data_dir)
    except Exception as error:  # nor for this
      if _is_gated(error):
        raise InputError(_gated(self.name)) from error
      raise InputError(
        f'{self.name} is no prepared TFDS data set: {error}. Give the folder'
        ' of a version, where dataset_info.json lies, or a name that'
        ' tfds.builder knows.'
      ) from error

  def fingerprint(self) -> str:
    """Names the examples themselves."""
    return f'tfds-{_rows_hash(self)}'


def _own_split(reader: HuggingFaceRows | TfdsRows, split: str) -> str:
  own = {'train': reader.train, 'test': reader.test}[split]
  if own is None:
    kind = type(reader).__name__
    raise InputError(
      f'The {split} split is needed, but {reader.name} has none: give'
      f" {kind}({split}=SPLIT), a part of another one such as 'train[:5%]'."
    )
  return own


def _rows_hash(reader: HuggingFaceRows | TfdsRows) -> str:
  digest = hashlib.sha256()
  for split in ('train', 'test'):
    if split == 'test' and reader.test is None:
      continue
    digest.update(split.encode())
    for _, row in reader.read(split):
      digest.update(json.dumps(row, sort_keys=True, default=str).encode())
  return digest.hexdigest()


def _plain(value: Any, feature: Any) -> Any:
  """An example as JSON has it: texts decoded, lists of objects as such."""
  of_items = getattr(feature, 'feature', None)
  if of_items is not None or isinstance(value, list) or np.ndim(value):
    return [_plain(item, of_items) for item in _items(value)]
  if isinstance(value, dict):
    return {key: _plain(value[key], feature[key]) for key in value}
  if isinstance(value, bytes):
    return value.decode('utf-8')
  return value.item() if isinstance(value, np.generic) else value


def _items(values: Any) -> list[Any]:
  """The items of a list as TFDS keeps it.

  A list of objects is an object of lists, at any depth: item i has the i-th of
  each. Lists of different lengths are a RaggedTensor.
  """
  if isinstance(values, dict):
    columns = {key: _items(column) for key, column in values.items()}
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]
  return values.to_list() if hasattr(values, 'to_list') else list(values)
