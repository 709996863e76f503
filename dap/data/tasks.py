"""Layer 3. Our sources and prepared arrays as seqio Tasks.

Everything here needs the extra `[seqio]`; nothing is imported before it is
called, and nothing is downloaded. A Task gives the very token ids that
`arrays.prepare` writes: `inputs`, cut on the left and without an end, `targets`
(chosen) and `rejected`, each with an end unless it is cut. They are made in
Python, as those of every other route: between two equally likely ways to cut a
text ('____' in T5's vocabulary) TensorFlow's SentencePiece may choose another.
Rows that `arrays.prepare` refuses or leaves out for their ids are in it: seqio
knows of no such choice.
Its output features have seqio's own vocabulary, which decodes alike. `source`
and `id` of a pair are texts beside them, as `inputs_pretokenized` is.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from dap.data import schema
from dap.data.foreign import Dataset, SeqioTask, SeqioVocabulary
from dap.data.hub import import_tensorflow, optional
from dap.data.prepared import Prepared
from dap.data.schema import Row
from dap.data.sources import Source
from dap.data.vocabulary import (
  UNKNOWN_ID,
  Bytes,
  SentencePiece,
  UnreadVocabulary,
  Vocabulary,
)
from dap.errors import InputError
from dap.records import END, PADDING

COLUMNS = {'inputs': 'prompt', 'targets': 'chosen', 'rejected': 'rejected'}
NAMES = ('source', 'id')  # of a pair, carried as texts


def add_task(
  name: str,
  source: Source,
  vocabulary: Vocabulary,
  splits: Sequence[str] = ('train', 'test'),
) -> SeqioTask:
  """Registers the pairs of a source as the seqio Task `name`, and returns it.

  Sequence lengths are those that the Task is asked with; a response is trimmed
  after its end was appended, as `arrays.trim` does. Nothing is read before the
  Task is asked for its data.
  """
  return add_lazy_task(name, source.load, vocabulary, splits)


def add_lazy_task(
  name: str,
  load: Callable[[str], list[Row]],
  vocabulary: UnreadVocabulary,
  splits: Sequence[str] = ('train', 'test'),
) -> SeqioTask:
  """As `add_task`, of what loads a split."""
  seqio, tf = optional('seqio'), import_tensorflow()
  columns = (*COLUMNS.values(), *NAMES)
  spec = {column: tf.TensorSpec([], tf.string) for column in columns}

  def dataset(split: str, shuffle_files: bool = False, seed: object = None):
    del shuffle_files, seed
    rows = load(split)
    return tf.data.Dataset.from_generator(
      lambda: ({c: row[c] for c in columns} for row in _named(rows, name)),
      output_signature=spec,
    )

  feature = seqio_vocabulary(vocabulary)
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(dataset, splits=tuple(splits)),
    preprocessors=[
      functools.partial(tokenize, vocabulary=vocabulary),
      cut_inputs_on_the_left,
      seqio.preprocessors.append_eos,
    ],
    output_features={
      key: seqio.Feature(feature, add_eos=key != 'inputs') for key in COLUMNS
    },
  )


def add_prepared_task(
  name: str, prepared: Mapping[str, Prepared], vocabulary: Vocabulary
) -> SeqioTask:
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
  texts = (*(f'{key}_pretokenized' for key in COLUMNS), *NAMES)
  spec |= dict.fromkeys(texts, tf.TensorSpec([], tf.string))

  def dataset(split: str, shuffle_files: bool = False, seed: object = None):
    del shuffle_files, seed
    return tf.data.Dataset.from_generator(
      lambda: _unpadded(prepared[split], name), output_signature=spec
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


def _unpadded(
  arrays: Prepared, name: str
) -> Iterator[dict[str, np.ndarray | str]]:
  columns = {
    'inputs': arrays.prompts,
    'targets': arrays.responses['chosen'],
    'rejected': arrays.responses['rejected'],
  }
  for index, texts in enumerate(_named(arrays.rows(), name)):
    rows = {key: column[index] for key, column in columns.items()}
    yield {
      **{key: row[row > PADDING] for key, row in rows.items()},
      **{f'{key}_pretokenized': texts[own] for key, own in COLUMNS.items()},
      **{key: texts[key] for key in NAMES},
    }


def _named(rows: Iterable[Row], name: str) -> Iterator[Row]:
  """Pairs with the names that those of a generated source lack."""
  for row in rows:
    texts = (row[column] for column in COLUMNS.values())
    yield {'source': f'seqio/{name}', 'id': schema.digest(*texts)} | row


def tokenize(dataset: Dataset, vocabulary: Vocabulary) -> Dataset:
  """Pairs with seqio's keys (prompt is inputs, ...) and our token ids."""
  encode = _encoder(vocabulary)

  def features(row: Mapping[str, object]) -> dict[str, object]:
    texts = {key: row[column] for key, column in COLUMNS.items()}
    return {
      **{key: encode(text) for key, text in texts.items()},
      **{f'{key}_pretokenized': text for key, text in texts.items()},
      **{key: row[key] for key in NAMES},
    }

  return dataset.map(features)


def _encoder(vocabulary: Vocabulary) -> Callable[[object], object]:
  """A function of a text tensor that gives its ids, made in Python."""
  tf = import_tensorflow()

  def encode(text: object) -> np.ndarray:
    read = tf.compat.as_str(np.asarray(text, object).item())
    return np.array(vocabulary.encode(read), np.int32)

  def encode_tf(text: object) -> object:
    encoded = tf.numpy_function(encode, [text], tf.int32)
    encoded.set_shape([None])
    return encoded

  return encode_tf


def cut_inputs_on_the_left(
  dataset: Dataset, sequence_length: Mapping[str, int] | None = None
) -> Dataset:
  """Keeps the ends of inputs that are too long: seqio would keep the starts."""
  limit = (sequence_length or {}).get('inputs')
  if limit is None:
    return dataset
  return dataset.map(lambda row: row | {'inputs': row['inputs'][-limit:]})


def seqio_vocabulary(vocabulary: UnreadVocabulary) -> SeqioVocabulary:
  """The same vocabulary for seqio: its own kind where it has one.

  A kind of its own decodes as ours does; for the ids of texts our Tasks call
  ours.
  """
  seqio = optional('seqio')
  if isinstance(vocabulary, SentencePiece):
    return seqio.SentencePieceVocabulary(vocabulary.path, extra_ids=0)
  if isinstance(vocabulary, Bytes):
    return seqio.ByteVocabulary(extra_ids=0)
  return _wrap(vocabulary)


def _wrap(vocabulary: Vocabulary) -> SeqioVocabulary:
  seqio, tf = optional('seqio'), import_tensorflow()
  encode = _encoder(vocabulary)

  class Wrapped(seqio.Vocabulary):
    """One of our vocabularies, called through Python."""

    eos_id = END
    unk_id = UNKNOWN_ID
    _base_vocab_size = vocabulary.size
    ours = vocabulary

    def _encode(self, s):
      return vocabulary.encode(s)

    def _decode(self, ids):
      return vocabulary.decode(ids)

    def _encode_tf(self, s):
      return encode(tf.convert_to_tensor(s, tf.string))

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
