"""Layer 3. Pairs that TFDS or Hugging Face's `datasets` keep, as sources.

Both libraries are imported when a source is loaded. Only a data set named by
its name on the Hugging Face hub is downloaded, and that once.
"""

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dap.data.sources import Row, require_texts
from dap.errors import InputError

_PAIR_KEYS = ('prompt', 'chosen', 'rejected')


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


@dataclass(frozen=True)
class TfdsPairs:
  """Pairs from a TFDS data set that was prepared before.

  Attributes:
    folder: of one version, where its dataset_info.json lies.
    prompt: feature of the prompts, a text.
    chosen: likewise.
    rejected: likewise.
  """

  folder: str
  prompt: str = 'prompt'
  chosen: str = 'chosen'
  rejected: str = 'rejected'

  def load(self, split: str) -> list[Row]:
    """The rows of a split, in the order of its files."""
    tfds = optional('tensorflow_datasets')
    optional('tensorflow').config.set_visible_devices([], 'GPU')
    try:
      builder = tfds.builder_from_directory(self.folder)
    except Exception as error:  # TFDS has no error of its own for this
      raise InputError(
        f'{self.folder} is no prepared TFDS data set: {error}. Give the folder'
        ' of a version, where dataset_info.json lies.'
      ) from error
    if split not in builder.info.splits:
      if split == 'stress':
        return []
      raise InputError(
        f'{self.folder} has the splits {", ".join(builder.info.splits)}; the'
        f' {split} split is needed.'
      )
    config = tfds.ReadConfig(interleave_cycle_length=1)
    dataset = builder.as_dataset(split=split, read_config=config)
    examples = enumerate(tfds.as_numpy(dataset), start=1)
    return [
      self._row(example, f'{self.folder}, {split} example {number}')
      for number, example in examples
    ]

  def _row(self, example: dict[str, Any], where: str) -> Row:
    names = zip(_PAIR_KEYS, (self.prompt, self.chosen, self.rejected))
    row = {
      key: example[name].decode('utf-8')
      for key, name in names
      if isinstance(example.get(name), bytes)
    }
    require_texts(row, _PAIR_KEYS, where)
    return row

  def fingerprint(self) -> str:
    """Names the records of all splits, and the features read from them."""
    digest = hashlib.sha256()
    for path in sorted(Path(self.folder).glob('*-*-of-*')):
      digest.update(path.name.encode() + b'\n')
      digest.update(hashlib.sha256(path.read_bytes()).digest())
    names = '/'.join((self.prompt, self.chosen, self.rejected))
    return f'tfds-{digest.hexdigest()}-{names}'


@dataclass(frozen=True)
class HuggingFacePairs:
  """Pairs from a data set of the Hugging Face hub, or from a folder.

  Attributes:
    name: on the hub (`openai/summarize_from_feedback`), or a folder of files.
    revision: commit on the hub, best one that never moves; `datasets` no longer
      runs a data set's own script, whose `refs/convert/parquet` it can read.
    config: subset, None for the only one.
    prompt: column of the prompts, a text.
    chosen: likewise.
    rejected: likewise.
  """

  name: str
  revision: str | None = None
  config: str | None = None
  prompt: str = 'prompt'
  chosen: str = 'chosen'
  rejected: str = 'rejected'

  def load(self, split: str) -> list[Row]:
    """The rows of a split, in their order."""
    columns = dict(zip(_PAIR_KEYS, (self.prompt, self.chosen, self.rejected)))
    splits = self._splits()
    if split not in splits:
      if split == 'stress':
        return []
      raise InputError(
        f'{self.name} has the splits {", ".join(splits)}; the {split} split is'
        ' needed.'
      )
    rows = []
    for number, example in enumerate(splits[split], start=1):
      row = {k: example[name] for k, name in columns.items() if name in example}
      require_texts(row, _PAIR_KEYS, f'{self.name}, {split} example {number}')
      rows.append(row)
    return rows

  def _splits(self) -> Any:
    datasets = optional('datasets', 'huggingface')
    try:
      return datasets.load_dataset(
        self.name, self.config, revision=self.revision
      )
    except Exception as error:  # the hub, files and formats each have theirs
      raise InputError(
        f'The data set {self.name} cannot be loaded: {error}. Give a name that'
        ' the hub has (with a network, or after it was loaded once), or a'
        ' folder of JSON lines or Parquet files.'
      ) from error

  def fingerprint(self) -> str:
    """Names the rows themselves: a revision may move, a folder may change."""
    digest = hashlib.sha256()
    for split in ('train', 'test'):
      if split in self._splits():
        digest.update(json.dumps([split, self.load(split)]).encode())
    return f'huggingface-{digest.hexdigest()}'
