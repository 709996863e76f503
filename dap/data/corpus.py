"""Layer 3. The embedded corpus: posts, summaries, and whoever prefers which.

A synthetic stand-in for a TL;DR preference data set, made on the spot from a
seed: a post tells six facts, two writers of random quality summarise it, and a
simulated person prefers one of the two by a hidden utility, with noise. What a
preference model learns from the labels can thus be held against the truth.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dap.data import corpus_text as text
from dap.data import corpus_writers as writers
from dap.data.schema import Row
from dap.data.vocabulary import Words
from dap.errors import InputError
from dap.losses import ranges
from dap.losses.ranges import Count, Seed, Size

LABEL_TEMPERATURE = 0.5

# The hidden utility. Weights of the facts are in the order of `FACTS`.
FACT_WEIGHTS = (1.0, 1.0, 0.35, 0.35, 0.7, 1.0)
WRONG_FACT, WRONG_FACT_PER_WEIGHT = 0.6, 0.6
REPEAT = 0.25
POLITE_ONCE, POLITE_AGAIN = 0.5, 0.4
RUDE = 1.0
FILLER = 0.15
WORD_BEYOND_LIMIT, WORD_LIMIT = 0.12, 12
UNLICENSED_BIGRAM = 0.4
UNFINISHED = 1.0


def utilities(
  posts: Sequence[str], responses: Sequence[str], finished: Sequence[bool]
) -> Float[np.ndarray, ' batch']:
  """The hidden utility of each response to its post.

  Facts told count their weight once; a wrong fact, a repeated word (the word
  before it, or a word other than glue said before), politeness beyond once,
  rude words, fillers, words beyond twelve, neighbours that no careful writer
  puts together, and a missing end cost. Any text can be scored; words that are
  not of the corpus are only unlicensed neighbours.

  Args:
    posts: prompts as the corpus wrote them.
    responses: texts without end marks.
    finished: False where a response was cut before its end.

  Raises:
    InputError: a prompt is no post of the corpus.
  """
  facts = [text.parse_facts(post) for post in posts]
  return _score(facts, responses, np.asarray(finished, bool))


def utility(post: str, response: str, finished: bool) -> float:
  """The hidden utility of one response, as `utilities` has it."""
  return float(utilities([post], [response], [finished])[0])


# Ids inside the utility: words follow three marks and the unknown word.
_PAD, _START, _END, _UNKNOWN, _FIRST_WORD = range(5)
_IDS = {word: _FIRST_WORD + i for i, word in enumerate(text.WORDS)} | {
  text.START: _START,
  text.END: _END,
}
_NUM_FACTS = len(text.FACTS)
_GLUE, _POLITE, _RUDE, _FILLER, _NO_WORD, _STRANGE = range(
  _NUM_FACTS, _NUM_FACTS + 6
)


def _word_kinds() -> Int[np.ndarray, ' ids']:
  kinds = np.full(_FIRST_WORD + len(text.WORDS), _GLUE)
  kinds[[_PAD, _START, _END]] = _NO_WORD
  kinds[_UNKNOWN] = _STRANGE
  groups = (*text.FACTS.values(), (), text.POLITE, text.RUDE, text.FILLERS)
  for kind, words in enumerate(groups):
    kinds[[_IDS[word] for word in words]] = kind
  return kinds


@cache
def _tables() -> tuple[Int[np.ndarray, ' ids'], Bool[np.ndarray, 'ids ids']]:
  """Kind of each id, and which id may follow which."""
  licensed = np.zeros((len(_IDS) + 2, len(_IDS) + 2), bool)
  first, second = zip(*text.licensed_bigrams())
  licensed[[_IDS[w] for w in first], [_IDS[w] for w in second]] = True
  licensed[:, _PAD] = True
  return _word_kinds(), licensed


def _score(
  facts: Sequence[tuple[str, ...]],
  responses: Sequence[str],
  finished: Bool[np.ndarray, ' batch'],
) -> Float[np.ndarray, ' batch']:
  kinds_of, licensed = _tables()
  weights = np.array(FACT_WEIGHTS)
  truth = np.array([[_IDS[word] for word in row] for row in facts])
  rows = _rows(responses, finished)
  kinds = kinds_of[rows]
  is_word = kinds != _NO_WORD

  said_before = np.tril(rows[:, :, None] == rows[:, None, :], -1).any(-1)
  stutter = np.zeros_like(is_word)
  stutter[:, 1:] = rows[:, 1:] == rows[:, :-1]
  repeated = is_word & (stutter | (said_before & (kinds != _GLUE)))
  fact_kinds = np.minimum(kinds, _NUM_FACTS - 1)
  is_wrong = np.take_along_axis(truth, fact_kinds, axis=1) != rows
  is_wrong &= (kinds < _NUM_FACTS) & ~said_before
  told = (rows[:, :, None] == truth[:, None, :]).any(axis=1)
  polite = (kinds == _POLITE).sum(axis=1)
  words_beyond = np.maximum(is_word.sum(axis=1) - WORD_LIMIT, 0)
  unlicensed = ~licensed[rows[:, :-1], rows[:, 1:]]

  wrong_cost = WRONG_FACT + WRONG_FACT_PER_WEIGHT * weights[fact_kinds]
  score = (
    told @ weights
    - (wrong_cost * is_wrong).sum(axis=1)
    - REPEAT * repeated.sum(axis=1)
    + POLITE_ONCE * (polite > 0)
    - POLITE_AGAIN * np.maximum(polite - 1, 0)
    - RUDE * (kinds == _RUDE).sum(axis=1)
    - FILLER * (kinds == _FILLER).sum(axis=1)
    - WORD_BEYOND_LIMIT * words_beyond
    - UNLICENSED_BIGRAM * unlicensed.sum(axis=1)
    - UNFINISHED * ~finished
  )
  return np.round(score, 6)  # all weights are hundredths: sums are too


def _rows(
  responses: Sequence[str], finished: Bool[np.ndarray, ' batch']
) -> Int[np.ndarray, 'batch length']:
  split = [response.split() for response in responses]
  rows = np.full((len(split), 2 + max(map(len, split), default=0)), _PAD)
  rows[:, 0] = _START
  for row, words, ends in zip(rows, split, finished):
    row[1 : 1 + len(words)] = [_IDS.get(word, _UNKNOWN) for word in words]
    if ends:
      row[1 + len(words)] = _END
  return rows


SPLITS = ('train', 'stress', 'test')


@dataclass(frozen=True)
class EmbeddedCorpus:
  """The corpus of one seed, as a source of preference pairs.

  Splits: `train` and `test` are pairs of curated summaries, `test` of posts
  whose facts no other split has; `stress` has spoilt responses. A split of
  fewer pairs is the beginning of one with more.
  """

  seed: Seed = 0
  num_train: Size = 8000
  num_stress: Count = 4000
  num_test: Size = 1024

  def __post_init__(self):
    ranges.check(self)

  def load(self, split: str) -> list[Row]:
    """The pairs of a split, each with the `utility` of both responses."""
    if split not in SPLITS:
      raise InputError(
        f'The embedded corpus has the splits {", ".join(SPLITS)}; got'
        f' {split!r}.'
      )
    size = getattr(self, f'num_{split}')
    draw = _uniforms(self.seed, SPLITS.index(split)).__next__
    return _label([_write_pair(split, draw) for _ in range(size)])

  def vocabulary(self) -> Words:
    return Words(text.WORDS)

  def keeps_same(self, where: str) -> bool:
    """Two equal summaries stay a pair, whose label is a coin's, as of any tie.

    The simulated person is asked about what two writers wrote, whatever they
    wrote, and the hidden utility says what such labels are worth.
    """
    del where
    return True

  def utility(self, post: str, response: str, finished: bool) -> float:
    return utility(post, response, finished)

  def utilities(
    self,
    posts: Sequence[str],
    responses: Sequence[str],
    finished: Sequence[bool],
  ) -> Float[np.ndarray, ' batch']:
    """The module's `utilities`: the hidden truth of sampled responses."""
    return utilities(posts, responses, finished)

  def fingerprint(self) -> str:
    sizes = f'{self.num_train}-{self.num_stress}-{self.num_test}'
    return f'embedded-{self.seed}-{sizes}'


class _Drawn(NamedTuple):
  """A pair before it is labelled."""

  post: str
  facts: tuple[str, ...]
  responses: tuple[str, str]
  kind: str
  coin: float


def _uniforms(*seeds: int) -> Iterator[float]:
  bits = np.random.Philox(np.random.SeedSequence(seeds))
  generator = np.random.Generator(bits)
  while True:
    yield from generator.random(1 << 14).tolist()


def _is_test_post(facts: dict[str, str]) -> bool:
  """One set of facts in sixteen is kept for `test`, whatever the seed."""
  return zlib.crc32(' '.join(facts.values()).encode()) % 16 == 0


def _write_pair(split: str, draw: text.Draw) -> _Drawn:
  facts = text.draw_facts(draw)
  while _is_test_post(facts) != (split == 'test'):
    facts = text.draw_facts(draw)
  others = text.draw_other_facts(facts, draw)
  post = text.write_post(facts, others, draw)
  first, second = (writers.write_summary(facts, others, draw) for _ in range(2))
  kind = 'curated'
  if split == 'stress':
    second, kind = writers.write_spoilt(facts, others, draw)
    if draw() < 0.5:
      first, _ = writers.write_spoilt(facts, others, draw)
  coin = draw()
  return _Drawn(post, tuple(facts.values()), (first, second), kind, coin)


def _label(drawn: list[_Drawn]) -> list[Row]:
  """Bradley-Terry: the first is preferred with sigmoid(difference / 0.5)."""
  if not drawn:
    return []
  responses = [response for pair in drawn for response in pair.responses]
  finished = [len(r.split()) <= writers.MAX_WORDS for r in responses]
  facts = [pair.facts for pair in drawn for _ in pair.responses]
  scores = _score(facts, responses, np.array(finished)).reshape(-1, 2)
  difference = (scores[:, 0] - scores[:, 1]) / LABEL_TEMPERATURE
  first_wins = [p.coin for p in drawn] < 1.0 / (1.0 + np.exp(-difference))
  labelled = []
  for pair, score, first in zip(drawn, scores.tolist(), first_wins):
    chosen, rejected = (0, 1) if first else (1, 0)
    labelled.append(
      {
        'prompt': pair.post,
        'chosen': pair.responses[chosen],
        'rejected': pair.responses[rejected],
        'kind': pair.kind,
        'chosen_utility': score[chosen],
        'rejected_utility': score[rejected],
      }
    )
  return labelled
