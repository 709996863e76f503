"""Layer 3. Raw rows that Hugging Face's `datasets` or TFDS keep.

Readers as in `dap/data/readers.py`. Both libraries are imported when something
is read. Only a data set named by its name on the hub is downloaded, and that
once.
"""

import functools
import hashlib
import importlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from dap.data import paths
from dap.data.foreign import TfdsBuilder
from dap.data.schema import Placed, Row, Value
from dap.errors import InputError

_OFFLINE = {
  'ConnectError',
  'ConnectTimeout',
  'ConnectionError',
  'LocalEntryNotFoundError',
  'OfflineModeIsEnabled',
  'gaierror',
}
_HUB_NAME = 'huggingface:'


def optional(name: str, extra: str = 'seqio') -> ModuleType:
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


def import_tensorflow() -> ModuleType:
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

  def _load(self, own_split: str) -> Iterable[Row]:
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
      if _is_offline(error):
        raise InputError(_offline(self.name)) from error
      raise InputError(
        f'The data set {self.name} cannot be loaded, split {own_split}:'
        f' {_first_cause(error)}. Give a name and a split that the hub has'
        ' (with a network, or after it was loaded once), or a folder of JSON'
        ' lines or Parquet files.'
      ) from error

  def fingerprint(self) -> str:
    """Names the rows themselves: a revision may move, a folder may change.

    Read once in a process.
    """
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


def _is_gated(error: BaseException) -> bool:
  """Whether the hub's refusal of a gated data set is among the causes."""
  return any(
    type(e).__name__ == 'GatedRepoError' or 'is a gated' in str(e)
    for e in _causes(error)
  )


def _offline(name: str) -> str:
  return (
    f'The data set {name} is not on this machine, and the Hugging Face hub'
    ' cannot be reached: the network is missing. Load it once where there is'
    ' one, or give files of it: --gin_file=gin/data/readers/jsonl.gin.'
  )


def _is_offline(error: BaseException) -> bool:
  """Whether there was no network; each version has another name for it."""
  return not _OFFLINE.isdisjoint(type(e).__name__ for e in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


@dataclass(frozen=True)
class TfdsRows:
  """Examples of a TFDS data set that was prepared before, texts decoded.

  Attributes:
    name: the folder of one version, where its dataset_info.json lies; or a
      name that `tfds.builder` knows, such as
      `huggingface:huggingfaceh4__ultrafeedback_binarized`, whose
      `download_and_prepare()` was called before.
    data_dir: for a name, the folder of all data sets; TFDS's own when None.
    train: what of it is our split `train`: a split of it, or a part of one
      ('train[5%:]').
    test: the same for `test`, None where there is none.
    hub_folder: of the hub's copy, where a part of it is wanted; TFDS cannot ask
      for one, so that a `huggingface:` name is refused.
    hub_revision: likewise.
  """

  name: str
  data_dir: str | None = None
  train: str = 'train'
  test: str | None = 'test'
  hub_folder: str | None = None
  hub_revision: str | None = None

  def read(self, split: str) -> Iterator[Placed]:
    """The examples of a split, in the order of its files."""
    own, builder = _own_split(self, split), self._builder()
    try:
      examples = _examples(builder, own)
    except ImportError as error:
      raise InputError(
        f'{self.name} is kept in {_file_format(builder)} files, which need'
        f' {error.name}: pip install {error.name}. Or prepare the set with'
        " file_format='tfrecord'."
      ) from error
    except Exception as error:  # TFDS has no error of its own for these
      raise InputError(
        f'{self.name}: the split {own} cannot be read: {error} It has'
        f' {", ".join(builder.info.splits) or "none"}. Name one of these, or'
        ' prepare the data set first:'
        f' tfds.builder({self.name!r}).download_and_prepare().'
      ) from error
    return (
      (f'{self.name}, {own} row {n}', _plain(example, builder.info.features))
      for n, example in enumerate(examples, start=1)
    )

  def _builder(self) -> TfdsBuilder:
    asked = self.hub_folder or self.hub_revision
    if asked and self.name.startswith(_HUB_NAME):
      raise InputError(
        f'{self.name} is all of a set at its newest revision: TFDS cannot ask'
        f' the hub for {asked}, which HUB_FOLDER or HUB_REVISION of the data'
        ' part names. Read it by gin/data/readers/huggingface.gin, or set both'
        ' to None where the whole is meant.'
      )
    tfds = optional('tensorflow_datasets')
    import_tensorflow()
    try:
      if paths.exists(self.name):
        return tfds.builder_from_directory(self.name)
      return tfds.builder(self.name, data_dir=self.data_dir)
    except Exception as error:  # nor for this
      if _is_gated(error):
        raise InputError(_gated(self.name)) from error
      if _is_offline(error):
        raise InputError(_offline(self.name)) from error
      raise InputError(
        f'{self.name} is no prepared TFDS data set: {error}. Give the folder'
        ' of a version, where dataset_info.json lies, or a name that'
        ' tfds.builder knows.'
      ) from error

  def fingerprint(self) -> str:
    """Names the examples themselves; read once in a process."""
    return f'tfds-{_rows_hash(self)}'


def _examples(builder: TfdsBuilder, split: str) -> Iterable[Value]:
  """The examples of a split, whichever way its files can be read."""
  tfds = optional('tensorflow_datasets')
  if _file_format(builder) == 'array_record':  # TFDS makes no tf.data of it
    source = builder.as_data_source(split=split)
    return (source[index] for index in range(len(source)))
  config = tfds.ReadConfig(interleave_cycle_length=1)
  dataset = builder.as_dataset(split=split, read_config=config)
  return tfds.as_numpy(dataset)


def _file_format(builder: TfdsBuilder) -> str:
  """'tfrecord', 'array_record', ...; '' where TFDS does not say."""
  return str(getattr(builder.info.file_format, 'value', ''))


def _own_split(reader: HuggingFaceRows | TfdsRows, split: str) -> str:
  own = {'train': reader.train, 'test': reader.test}[split]
  if own is None:
    kind = type(reader).__name__
    raise InputError(
      f'The {split} split is needed, but {reader.name} has none: give'
      f" {kind}({split}=SPLIT), a part of another one such as 'train[:5%]'."
    )
  return own


@functools.lru_cache(8)
def _rows_hash(reader: HuggingFaceRows | TfdsRows) -> str:
  digest = hashlib.sha256()
  for split in ('train', 'test'):
    if split == 'test' and reader.test is None:
      continue
    digest.update(split.encode())
    for _, row in reader.read(split):
      digest.update(json.dumps(row, sort_keys=True, default=str).encode())
  return digest.hexdigest()


def _plain(value: Value, feature: Value) -> Value:
  """An example as JSON has it: texts decoded, lists of objects as such."""
  of_items = getattr(feature, 'feature', None)
  if of_items is not None or isinstance(value, list) or np.ndim(value):
    return [_plain(item, of_items) for item in _items(value)]
  if isinstance(value, dict):
    return {key: _plain(value[key], feature[key]) for key in value}
  if isinstance(value, bytes):
    return value.decode('utf-8')
  return value.item() if isinstance(value, np.generic) else value


def _items(values: Value) -> list[Value]:
  """The items of a list as TFDS keeps it.

  A list of objects is an object of lists, at any depth: item i has the i-th of
  each. Lists of different lengths are a RaggedTensor.
  """
  if isinstance(values, dict):
    columns = {key: _items(column) for key, column in values.items()}
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]
  return values.to_list() if hasattr(values, 'to_list') else list(values)
