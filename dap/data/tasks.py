"""Layer 3. Our sources for seqio and TFDS.

Everything here needs the extra `[seqio]`; nothing is imported before it is
called, and nothing is downloaded. A seqio Task gives the very token ids that
`arrays.prepare` writes: `inputs`, cut on the left and without an end, `targets`
(chosen) and `rejected`, each with an end unless it is cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from dap.data import corpus
from dap.data.hub import optional
from dap.data.sources import Source
from dap.data.vocabulary import (
  EOS_ID,
  UNKNOWN_ID,
  Bytes,
  SentencePiece,
  Vocabulary,
)

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
  seqio, tf = optional('seqio'), _import_tensorflow()
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
  seqio = optional('seqio')
  if isinstance(vocabulary, SentencePiece):
    return seqio.SentencePieceVocabulary(vocabulary.path, extra_ids=0)
  if isinstance(vocabulary, Bytes):
    return seqio.ByteVocabulary(extra_ids=0)
  return _wrap(vocabulary)


def _wrap(vocabulary: Vocabulary) -> Any:
  seqio, tf = optional('seqio'), _import_tensorflow()

  def encode(text: Any) -> Any:
    text = tf.compat.as_str(np.asarray(text, object).item())
    return np.array(vocabulary.encode(text), np.int32)

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
      text = tf.convert_to_tensor(s, tf.string)
      encoded = tf.numpy_function(encode, [text], tf.int32)
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
  tfds, tf = optional('tensorflow_datasets'), _import_tensorflow()

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


def _import_tensorflow() -> Any:
  """TensorFlow, kept off the accelerators, which are JAX's."""
  tf = optional('tensorflow')
  tf.config.set_visible_devices([], 'GPU')
  return tf
