"""Layer 3. A data set as a run names it: source, vocabulary and lengths."""

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

from dap.data import arrays, checks, corpus, facts
from dap.data.arrays import LongResponses, PromptForm
from dap.data.checks import Repeats
from dap.data.prepared import Prepared
from dap.data.sources import Source
from dap.data.vocabulary import UnreadVocabulary, Vocabulary, Words
from dap.errors import InputError
from dap.losses import ranges
from dap.losses.ranges import Length

_log = logging.getLogger(__name__)
_OVERLAP = (
  'What is measured on them is no measure of prompts that are new; give other'
  ' test rows, or leave them out: --gin_file=gin/data/new_prompts.gin.'
)


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
    prompt_form: whether prompts end with the end id: `arrays.with_end`,
      `arrays.without_end` or `arrays.as_given`. None does what the checkpoint
      does that a run starts from: T5's pretraining has ends, trainings of dap
      keep what they began with, and what starts from nothing has none.
    repeats: what happens to test rows whose prompt stands in `train`:
      `checks.keep_repeated`, with a warning, or `leave_out_repeated`.
  """

  source: Source
  vocabulary: Any  # either: callers ask whether it has `train`
  prompt_length: Length
  response_length: Length
  long_responses: LongResponses = arrays.trim
  prompt_form: PromptForm | None = None
  repeats: Repeats = checks.keep_repeated

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
    """The tokenised split; see `arrays.prepare`.

    `test` is compared to `train`, which is prepared before where there is one;
    prompts that stand in both are warned of each time.
    """
    prepare = functools.partial(
      arrays.prepare,
      self.source,
      vocabulary=vocabulary,
      prompt_length=self.prompt_length,
      response_length=self.response_length,
      cache_dir=str(cache_dir),
      long_responses=self.long_responses,
      prompt_form=self.prompt_form or arrays.as_given,
    )
    if split != 'test' or not self._has_train:
      return prepare(split)
    found = prepare(split, train=lambda: prepare('train'), repeats=self.repeats)
    for said in facts.in_train(found.counts):
      _log.warning('%s %s', said, _OVERLAP)
    return found

  @property
  def _has_train(self) -> bool:
    reader = getattr(self.source, 'reader', self.source)
    return getattr(reader, 'train', '') is not None

  def following(self, prompts_end: bool | None) -> 'PairData':
    """The same data with a `prompt_form`, where it has none.

    Args:
      prompts_end: whether the checkpoint that a run starts from has read
        prompts with an end; None where none says so.
    """
    has_own = isinstance(self.source, arrays.EncodedSource)
    if self.prompt_form is not None or prompts_end is None:
      return self
    if not prompts_end and not has_own:  # texts have none anyway
      return self
    form = arrays.with_end if prompts_end else arrays.without_end
    return dataclasses.replace(self, prompt_form=form)

  def with_seed(self, seed: int) -> 'PairData':
    """The same data drawn with another seed, where the source is drawn."""
    if not hasattr(self.source, 'seed'):
      return self
    source = dataclasses.replace(self.source, seed=seed)  # type: ignore[type-var]
    return dataclasses.replace(self, source=source)


def embedded_vocabulary() -> Words:
  """The words of the embedded corpus, the same for every seed."""
  return corpus.EmbeddedCorpus().vocabulary()
