"""Layer 3. A data set as a run names it: source, vocabulary and lengths."""

import dataclasses
from pathlib import Path
from typing import Any

from dap.data import arrays, corpus
from dap.data.arrays import LongResponses, Prepared
from dap.data.sources import Source
from dap.data.vocabulary import UnreadVocabulary, Vocabulary, Words
from dap.errors import InputError
from dap.losses import ranges
from dap.losses.ranges import Size


@dataclasses.dataclass(frozen=True)
class PairData:
  """Preference pairs, how they become ids, and how long they may be.

  Attributes:
    source: of `dap/data/sources.py`, or the embedded corpus.
    vocabulary: a vocabulary, or a `TrainedSentencePiece` that is trained on
      the split `train`.
    prompt_length: most tokens of a prompt; it loses its beginning beyond.
    response_length: most tokens of a response, its end included.
    long_responses: what happens to responses beyond it.
  """

  source: Source
  vocabulary: Any  # either: callers ask whether it has `train`
  prompt_length: Size
  response_length: Size
  long_responses: LongResponses = arrays.trim

  def __post_init__(self):
    ranges.check(self)
    asked = getattr(type(self.vocabulary), 'decode', None)
    if asked is None and not hasattr(self.vocabulary, 'train'):
      raise InputError(
        f'PairData needs a vocabulary, got {self.vocabulary!r}. Include'
        ' gin/data/sentencepiece.gin or gin/data/bytes.gin, or bind VOCABULARY'
        ' = @vocabulary.Bytes().'
      )

  def trained_vocabulary(self, folder: Path) -> UnreadVocabulary:
    """The vocabulary, trained and kept under `folder` if it must be."""
    train = getattr(self.vocabulary, 'train', None)
    if train is None:
      return self.vocabulary
    texts = (
      row[key]
      for row in self.source.load('train')
      for key in ('prompt', 'chosen', 'rejected', 'response')
      if key in row
    )
    return train(texts, str(folder / 'vocabulary.model'))

  def prepare(
    self, split: str, vocabulary: Vocabulary, cache_dir: Path
  ) -> Prepared:
    """The tokenised split; see `arrays.prepare`."""
    return arrays.prepare(
      self.source,
      split,
      vocabulary,
      prompt_length=self.prompt_length,
      response_length=self.response_length,
      cache_dir=str(cache_dir),
      long_responses=self.long_responses,
    )

  def with_seed(self, seed: int) -> 'PairData':
    """The same data drawn with another seed, where the source is drawn."""
    if not hasattr(self.source, 'seed'):
      return self
    source = dataclasses.replace(self.source, seed=seed)  # type: ignore[type-var]
    return dataclasses.replace(self, source=source)


def embedded_vocabulary() -> Words:
  """The words of the embedded corpus, the same for every seed."""
  return corpus.EmbeddedCorpus().vocabulary()
