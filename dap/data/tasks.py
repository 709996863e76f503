"""Layer 3. Our sources and prepared arrays as seqio Tasks.

Everything here needs the extra `[seqio]`; nothing is imported before it is
called, and nothing is downloaded. A Task gives the very token ids that
`arrays.prepare` writes: `inputs`, cut on the left and without an end, `targets`
(chosen) and `rejected`, each with an end unless it is cut.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dap.data.arrays import Prepared
from dap.data.hub import import_tensorflow, optional
from dap.data.schema import Row
from dap.data.sources import Source
from dap.data.vocabulary import (
  EOS_ID,
  UNKNOWN_ID,
  Bytes,
  SentencePiece,
  Vocabulary,
)
from dap.errors import InputError

COLUMNS = {'inputs': 'prompt', 'targets': 'chosen', 'rejected': 'rejected'}


def add_task(
  name: str,
  source: Source,
  vocabulary: Vocabulary,
  splits: Sequence[str] = ('train', 'test'),
) -> Any:
  """Registers the pairs of a source as the seqio Task `name`, and returns it.

  Sequence lengths are those that the Task is asked with; a response is trimmed
  after its end was appended, as `arrays.trim` does. Nothing is read before the
  Task is asked for its data.
  """
  return add_lazy_task(name, source.load, seqio_vocabulary(vocabulary), splits)


def add_lazy_task(
  name: str,
  load: Callable[[str], list[Row]],
  vocabulary: Any,
  splits: Sequence[str] = ('train', 'test'),
) -> Any:
  """As `add_task`, of what loads a split and of seqio's own vocabulary."""
  seqio, tf = optional('seqio'), import_tensorflow()

  def dataset(split: str, shuffle_files: bool = False, seed: Any = None):
    del shuffle_files, seed
    rows = load(split)
    return tf.data.Dataset.from_tensor_slices(
      {
        column: tf.constant([row[column] for row in rows], tf.string)
        for column in COLUMNS.values()
      }
    )

  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(dataset, splits=tuple(splits)),
    preprocessors=[
      name_features,
      seqio.preprocessors.tokenize,
      cut_inputs_on_the_left,
      seqio.preprocessors.append_eos,
    ],
    output_features={
      key: seqio.Feature(vocabulary, add_eos=key != 'inputs') for key in COLUMNS
    },
  )


def add_prepared_task(
  name: str, prepared: Mapping[str, Prepared], vocabulary: Vocabulary
) -> Any:
  """Registers prepared arrays as the seqio Task `name`, and returns it.

  The token ids are those of the arrays, without the padding, beside the texts
  that they are of (`inputs_pretokenized`, ...); asked with shorter lengths the
  Task cuts them as `arrays.prepare` would.

  Args:
    name: in seqio's registry.
    prepared: of `arrays.prepare`, by split; pairs, not targets.
    vocabulary: that the arrays were prepared with.

  Raises:
    InputError: the arrays hold targets.
  """
  seqio, tf = optional('seqio'), import_tensorflow()
  for split, arrays in prepared.items():
    if 'chosen' not in arrays.responses:
      raise InputError(
        f'A Task needs pairs, chosen and rejected; the split {split} has'
        f' {", ".join(arrays.responses)}. Prepare a source of pairs.'
      )
  spec = {key: tf.TensorSpec([None], tf.int32) for key in COLUMNS}
  spec |= {
    f'{key}_pretokenized': tf.TensorSpec([], tf.string) for key in COLUMNS
  }

  def dataset(split: str, shuffle_files: bool = False, seed: Any = None):
    del shuffle_files, seed
    return tf.data.Dataset.from_generator(
      lambda: _unpadded(prepared[split]), output_signature=spec
    )

  feature = seqio.Feature(seqio_vocabulary(vocabulary), add_eos=False)
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(
      dataset,
      splits=tuple(prepared),
      num_input_examples={s: len(arrays) for s, arrays in prepared.items()},
    ),
    preprocessors=[cut_inputs_on_the_left],
    output_features=dict.fromkeys(COLUMNS, feature),
  )


def _unpadded(arrays: Prepared) -> Iterator[dict[str, Any]]:
  columns = {
    'inputs': arrays.prompts,
    'targets': arrays.responses['chosen'],
    'rejected': arrays.responses['rejected'],
  }
  for index, texts in enumerate(arrays.rows()):
    rows = {key: column[index] for key, column in columns.items()}
    yield {
      **{key: row[row > 0] for key, row in rows.items()},
      **{f'{key}_pretokenized': texts[own] for key, own in COLUMNS.items()},
    }


def name_features(dataset: Any) -> Any:
  """Pairs' keys as seqio has them: prompt is inputs, chosen is targets."""
  return dataset.map(
    lambda row: {key: row[column] for key, column in COLUMNS.items()}
  )


def cut_inputs_on_the_left(
  dataset: Any, sequence_length: Mapping[str, int] | None = None
) -> Any:
  """Keeps the ends of inputs that are too long: seqio would keep the starts."""
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
  seqio, tf = optional('seqio'), import_tensorflow()

  def encode(text: Any) -> Any:
    text = tf.compat.as_str(np.asarray(text, object).item())
    return np.array(vocabulary.encode(text), np.int32)

  class Wrapped(seqio.Vocabulary):
    """One of our vocabularies, called through Python."""

    eos_id = EOS_ID
    unk_id = UNKNOWN_ID
    _base_vocab_size = vocabulary.size
    ours = vocabulary

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
