"""Layer 3. A seqio Task or Mixture of pairs, whoever wrote it, as a source.

Its token ids are kept as seqio gives them: no end is added, nothing is cut
again. So are the texts `source` and `id` of an example that has them, as those
of our own Tasks do. Needs the extra `[seqio]`; nothing is imported before
something is read.
"""

import functools
import hashlib
import importlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import SupportsInt

import numpy as np

from dap.data import foreign, schema, tasks
from dap.data.array_writer import Encoded
from dap.data.foreign import Dataset, SeqioVocabulary
from dap.data.hub import import_tensorflow, optional
from dap.data.schema import SPLITS, Row
from dap.data.sources import Mistakes, refuse
from dap.data.vocabulary import (
  Bytes,
  SentencePiece,
  UnreadVocabulary,
  Vocabulary,
  until_end,
)
from dap.errors import InputError
from dap.records import END, PADDING


@dataclass(frozen=True)
class SeqioTask:
  """The pairs of a Task or a Mixture, with the ids that seqio gives them.

  Attributes:
    name: in seqio's registry.
    modules: imported first, so that they register it; ours are in
      `dap.data.mixtures`.
    prompt: the feature that holds the prompt.
    chosen: likewise.
    rejected: likewise.
    train: which of its splits is our split `train`.
    test: the same for `test`, None where there is none.
    mixing_seed: of the order in which a Mixture's Tasks follow each other, and
      of preprocessors that draw.
    mistakes: `sources.refuse` or `leave_out`, for examples whose ids training
      cannot use (`dap/data/checks.py`).
    num_examples: of a split, drawn from a Mixture at its rates, Tasks repeated
      as they run out; None for all of a Task, and of a Mixture what seqio calls
      an epoch: as many as come before one of its Tasks runs out.
  """

  name: str
  modules: tuple[str, ...] = ('dap.data.mixtures',)
  prompt: str = 'inputs'
  chosen: str = 'targets'
  rejected: str = 'rejected'
  train: str = 'train'
  test: str | None = 'test'
  mixing_seed: int = 0
  num_examples: int | None = None
  mistakes: Mistakes = refuse

  def load(self, split: str) -> list[Row]:
    """Texts of the pairs: what seqio tokenised, or what the ids say."""
    if split == 'stress':
      return []
    vocabulary = self.vocabulary()
    return [each.row for each in self._read(split, vocabulary, None)]

  def encoded(
    self, split: str, vocabulary: Vocabulary, lengths: tuple[int, int]
  ) -> Iterator[Encoded]:
    """The pairs with seqio's own ids at these lengths.

    Raises:
      InputError: `vocabulary` is not the Task's, or the ids cannot be kept.
    """
    if split == 'stress':
      return iter(())
    own = self.vocabulary()
    if own.fingerprint() != vocabulary.fingerprint():
      raise InputError(
        f'{self.name} has ids of its own vocabulary, {_briefly(own)}; the data'
        f' set names {_briefly(vocabulary)}. Give its own: VOCABULARY ='
        ' @seqio_source.TaskVocabulary(), after gin/data/readers/seqio.gin.'
      )
    return self._read(split, own, lengths)

  def _read(
    self, split: str, vocabulary: Vocabulary, lengths: tuple[int, int] | None
  ) -> Iterator[Encoded]:
    names = (self.prompt, self.chosen, self.rejected)
    asked = None
    if lengths is not None:
      asked = dict(zip(names, (lengths[0], lengths[1], lengths[1])))
    dataset = self._dataset(split, asked)
    seen: Counter[str] = Counter()  # a Mixture may repeat examples
    for number, example in enumerate(dataset.as_numpy_iterator(), start=1):
      where = f'{self.name}, {split} example {number}'
      ids = [_ids(example, n, where) for n in names]
      prompt, chosen, rejected = (
        _text(example, name, values, vocabulary)
        for name, values in zip(names, ids)
      )
      source = _carried(example, 'source') or f'seqio/{self.name}'
      own_id = _carried(example, 'id')
      row = schema.named(prompt, chosen, rejected, source, own_id)
      row['id'] = schema.unique_id(row['id'], seen)
      responses = {'chosen': ids[1], 'rejected': ids[2]}
      yield Encoded(row, ids[0], responses, where)

  def _dataset(self, split: str, lengths: dict[str, int] | None) -> Dataset:
    if split not in SPLITS:
      raise InputError(f'A split is one of {", ".join(SPLITS)}; got {split!r}.')
    if self.num_examples is not None and self.num_examples < 1:
      raise InputError(
        f'num_examples must be at least 1, got {self.num_examples}; None takes'
        ' an epoch.'
      )
    own = {'train': self.train, 'test': self.test}[split]
    task = self._registered()
    if own is None or own not in task.splits:
      raise InputError(
        f'The {split} split is needed; {self.name} has'
        f' {", ".join(sorted(task.splits))}. Give SeqioTask({split}=SPLIT).'
      )
    more = {}
    if isinstance(task, optional('seqio').Mixture):
      more = {'copy_pretokenized': True, 'passthrough_features': _shared(task)}
    dataset = task.get_dataset(
      lengths,
      own,
      shuffle=False,
      seed=self.mixing_seed,
      num_epochs=1 if self.num_examples is None else None,
      **more,
    )
    return dataset.take(-1 if self.num_examples is None else self.num_examples)

  def _registered(self) -> foreign.SeqioTask:
    seqio = optional('seqio')
    import_tensorflow()
    for module in self.modules:
      _import(module)
    try:
      task = seqio.get_mixture_or_task(self.name)
    except ValueError as error:
      known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
      raise InputError(
        f'seqio knows no Task or Mixture {self.name!r}. Name one of'
        f' {", ".join(sorted(known)) or "none"}, or name in `modules` the'
        ' module that registers it.'
      ) from error
    missing = {self.prompt, self.chosen, self.rejected} - {
      *task.output_features
    }
    if missing:
      raise InputError(
        f'{self.name} needs the output features {self.prompt}, {self.chosen}'
        f' and {self.rejected}; it has {", ".join(task.output_features)}. Name'
        ' them: SeqioTask(prompt=..., chosen=..., rejected=...).'
      )
    return task

  def vocabulary(self) -> Vocabulary:
    """The vocabulary of the Task's features, as one of ours.

    Raises:
      InputError: they differ, or their padding and end are not 0 and 1.
    """
    features = self._registered().output_features
    names = (self.prompt, self.chosen, self.rejected)
    own = features[self.prompt].vocabulary
    ours, *others = (_ours(features[name].vocabulary) for name in names)
    if any(other.fingerprint() != ours.fingerprint() for other in others):
      raise InputError(
        f'{self.name} must have one vocabulary for {", ".join(names)}, it has'
        ' several. Register it with one.'
      )
    # Ours is read first: it explains what is wrong with its file.
    if ours.size and (own.pad_id, own.eos_id) != (PADDING, END):
      raise InputError(
        f'A vocabulary needs padding {PADDING} and end {END}; that of'
        f' {self.name} has {own.pad_id} and {own.eos_id}.'
      )
    return ours

  def fingerprint(self) -> str:
    """Names the ids of all pairs, before they are cut, and the pairs' names.

    Read once in a process, until the Task is registered anew.
    """
    return f'seqio-{_ids_hash(self, self._registered())}'


def _import(module: str) -> None:
  try:
    importlib.import_module(module)
  except ModuleNotFoundError as error:
    absent = str(error.name)
    if not f'{module}.'.startswith(f'{absent}.'):  # something that it imports
      raise InputError(
        f'The module {module} of Tasks needs {absent}, which is not installed.'
        ' Install it.'
      ) from error
    raise InputError(
      f'There is no module {module} to register Tasks ({absent} is not found).'
      ' Correct TASK_MODULES (SeqioTask(modules=...)), or put its folder on'
      ' PYTHONPATH.'
    ) from error


@functools.lru_cache(8)
def _ids_hash(source: SeqioTask, task: Hashable) -> str:
  del task  # a key beside the source: the name may come to mean another one
  vocabulary = source.vocabulary()
  digest = hashlib.sha256(vocabulary.fingerprint().encode())
  for split in ('train', 'test')[: 1 if source.test is None else 2]:
    digest.update(split.encode())
    for each in source._read(split, vocabulary, None):
      ids = [each.prompt, *each.responses.values()]
      names = each.row['source'], each.row['id']
      digest.update(repr((ids, names)).encode())
  return digest.hexdigest()


@dataclass(frozen=True)
class TaskVocabulary:
  """The vocabulary of a Task, found when it is first used."""

  task: SeqioTask

  @functools.cached_property
  def _own(self) -> Vocabulary:
    return self.task.vocabulary()

  @property
  def size(self) -> int:
    return self._own.size

  def encode(self, text: str) -> list[int]:
    return self._own.encode(text)

  def decode(self, ids: Iterable[SupportsInt]) -> str:
    return self._own.decode(ids)

  def fingerprint(self) -> str:
    return self._own.fingerprint()


@dataclass(frozen=True, eq=False)
class OfSeqio:
  """Another vocabulary of seqio's as one of ours."""

  seqio: SeqioVocabulary

  @property
  def size(self) -> int:
    return self.seqio.vocab_size

  def encode(self, text: str) -> list[int]:
    return list(self.seqio.encode(text))

  def decode(self, ids: Iterable[SupportsInt]) -> str:
    return self.seqio.decode(until_end(ids))

  def fingerprint(self) -> str:
    return f'of-seqio-{self._hash}'

  @functools.cached_property
  def _hash(self) -> str:
    """Of what each id says: seqio gives a vocabulary no name by content."""
    digest = hashlib.sha256(type(self.seqio).__qualname__.encode())
    for token in range(self.size):
      digest.update(repr(self.seqio.decode([token])).encode())
    return digest.hexdigest()


def _ours(vocabulary: SeqioVocabulary) -> UnreadVocabulary:
  seqio = optional('seqio')
  if (ours := getattr(vocabulary, 'ours', None)) is not None:
    return ours
  plain = not vocabulary.extra_ids
  if plain and type(vocabulary) is seqio.SentencePieceVocabulary:
    return SentencePiece(str(vocabulary.sentencepiece_model_file))
  if plain and type(vocabulary) is seqio.ByteVocabulary:
    return Bytes()
  return OfSeqio(vocabulary)


def _briefly(vocabulary: Vocabulary) -> str:
  return f'{vocabulary.fingerprint()[:30]} of {vocabulary.size} ids'


def _ids(example: Mapping[str, object], name: str, where: str) -> list[int]:
  ids = np.asarray(example[name])
  if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
    raise InputError(
      f'{where}: {name} must be token ids in one row, got {ids.dtype} of shape'
      f' {ids.shape}. Tokenise it in the Task.'
    )
  return ids.tolist()


def _shared(mixture: foreign.SeqioTask) -> tuple[str, ...]:
  """The names of pairs, where every Task of a Mixture is ours.

  Examples of Tasks that differ in what they have besides cannot be mixed.
  """
  step = tasks.cut_inputs_on_the_left
  ours = all(step in task.preprocessors for task in mixture.tasks)
  return tasks.NAMES if ours else ()


def _carried(example: Mapping[str, object], name: str) -> str | None:
  kept = example.get(name)
  return kept.decode('utf-8') if isinstance(kept, bytes) else None


def _text(
  example: Mapping[str, object],
  name: str,
  ids: list[int],
  vocabulary: Vocabulary,
) -> str:
  kept = example.get(f'{name}_pretokenized')
  if isinstance(kept, bytes):
    return kept.decode('utf-8')
  return vocabulary.decode(ids)
