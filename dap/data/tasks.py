"""Layer 3. Our sources for seqio and TFDS, and TFDS data sets as our source.

Everything here needs the extra `[seqio]`; nothing is imported before it is
called, and nothing is downloaded. A seqio Task gives the very token ids that
`arrays.prepare` writes: `inputs`, cut on the left and without an end, `targets`
(chosen) and `rejected`, each with an end unless it is cut.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dap.data import corpus
from dap.data.sources import Row, Source, require_texts
from dap.data.vocabulary import (
  EOS_ID,
  UNKNOWN_ID,
  Bytes,
  SentencePiece,
  Vocabulary,
)
from dap.errors import InputError

_COLUMNS = {'inputs': 'prompt', 'targets': 'chosen', 'rejected': 'rejected'}
_PAIR_KEYS = ('prompt', 'chosen', 'rejected')


def add_task(
  name: str,
  source: Source,
  vocabulary: Vocabulary,
  splits: Sequence[str] = ('train', 'test'),
) -> Any:
  """Registers the pairs of a source as the seqio Task `name`, and returns it.

  Sequence lengths are those that the Task is asked with; a response is trimmed
  after its end was appended, as `arrays.trim` does.
  """
  seqio, tf = _import('seqio'), _import_tensorflow()
  features = {
    key: seqio.Feature(seqio_vocabulary(vocabulary), add_eos=key != 'inputs')
    for key in _COLUMNS
  }

  def dataset(split: str, shuffle_files: bool = False, seed: Any = None):
    del shuffle_files, seed
    rows = source.load(split)
    return tf.data.Dataset.from_tensor_slices(
      {
        key: tf.constant([row[column] for row in rows], tf.string)
        for key, column in _COLUMNS.items()
      }
    )

  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(dataset, splits=tuple(splits)),
    preprocessors=[
      seqio.preprocessors.tokenize,
      _cut_inputs_on_the_left,
      seqio.preprocessors.append_eos,
    ],
    output_features=features,
  )


def _cut_inputs_on_the_left(
  dataset: Any, sequence_length: Mapping[str, int] | None = None
) -> Any:
  limit = (sequence_length or {}).get('inputs')
  if limit is None:
    return dataset
  return dataset.map(lambda row: row | {'inputs': row['inputs'][-limit:]})


def seqio_vocabulary(vocabulary: Vocabulary) -> Any:
  """The same vocabulary for seqio: its own kind where it has one.

  Between two equally likely ways to cut a text ('****' in T5's vocabulary)
  TensorFlow's SentencePiece and ours may choose differently.
  """
  seqio = _import('seqio')
  if isinstance(vocabulary, SentencePiece):
    return seqio.SentencePieceVocabulary(vocabulary.path, extra_ids=0)
  if isinstance(vocabulary, Bytes):
    return seqio.ByteVocabulary(extra_ids=0)
  return _wrap(vocabulary)


def _wrap(vocabulary: Vocabulary) -> Any:
  seqio, tf = _import('seqio'), _import_tensorflow()

  def encode(text: Any) -> Any:
    return np.array(vocabulary.encode(tf.compat.as_str(text)), np.int32)

  class Wrapped(seqio.Vocabulary):
    """One of our vocabularies, called through Python."""

    eos_id = EOS_ID
    unk_id = UNKNOWN_ID
    _base_vocab_size = vocabulary.size

    def _encode(self, s):
      return vocabulary.encode(s)

    def _decode(self, ids):
      return vocabulary.decode(ids)

    def _encode_tf(self, s):
      encoded = tf.numpy_function(encode, [s], tf.int32)
      encoded.set_shape([None])
      return encoded

    def _decode_tf(self, ids):
      return tf.numpy_function(
        lambda i: vocabulary.decode(i).encode(), [ids], tf.string
      )

    def __eq__(self, other):
      fingerprint = getattr(other, 'fingerprint', lambda: None)
      return self.fingerprint() == fingerprint()

    def __hash__(self):
      return hash(self.fingerprint())

    def fingerprint(self):
      return vocabulary.fingerprint()

  return Wrapped()


def tfds_builder(
  source: corpus.EmbeddedCorpus, data_dir: str | None = None
) -> Any:
  """A TFDS builder of the embedded corpus.

  `download_and_prepare()` writes it under `data_dir` (TFDS's own default when
  None) without a download; `tfds.load` can then read it from there.
  """
  builder, config = _tfds_classes()
  name = source.fingerprint()
  return builder(
    config=config(name=name, description=repr(source), source=source),
    data_dir=data_dir,
  )


@cache
def _tfds_classes() -> tuple[Any, Any]:
  """Made once: TFDS registers a builder by its name."""
  tfds, tf = _import('tensorflow_datasets'), _import_tensorflow()

  @dataclass(kw_only=True)
  class Config(tfds.core.BuilderConfig):
    """Which corpus."""

    source: Any

  class EmbeddedCorpus(tfds.core.GeneratorBasedBuilder):
    """Posts and pairs of summaries with preferences, see dap/data/corpus.py."""

    VERSION = tfds.core.Version(f'{corpus.VERSION}.0.0')

    def _info(self):
      features = {key: tfds.features.Text() for key in (*_PAIR_KEYS, 'kind')}
      for key in ('chosen_utility', 'rejected_utility'):
        features[key] = tfds.features.Scalar(tf.float64)
      return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,  # rows stay in the order of the source
      )

    def _split_generators(self, dl_manager):
      del dl_manager
      return {s: self._generate_examples(s) for s in corpus.SPLITS}

    def _generate_examples(self, split):
      return enumerate(self.builder_config.source.load(split))

  return EmbeddedCorpus, Config


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
    tfds = _import('tensorflow_datasets')
    _import_tensorflow()
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


def _import(name: str) -> Any:
  import importlib

  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    raise InputError(
      f'{name} is needed for seqio Tasks and TFDS, and is not installed:'
      " pip install 'dap[seqio]'."
    ) from error


def _import_tensorflow() -> Any:
  """TensorFlow, kept off the accelerators, which are JAX's."""
  tf = _import('tensorflow')
  tf.config.set_visible_devices([], 'GPU')
  return tf
