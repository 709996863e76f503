"""Layer 3. The embedded corpus: posts, summaries, and whoever prefers which.

A synthetic stand-in for a TL;DR preference data set, made on the spot from a
seed: a post tells six facts, two writers of random quality summarise it, and a
simulated person prefers one of the two by a hidden utility, with noise. What a
preference model learns from the labels can thus be held against the truth.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float

from dap.data import corpus_text as text
from dap.data import corpus_utility as truth
from dap.data import corpus_writers as writers
from dap.data.schema import Row
from dap.data.vocabulary import Words
from dap.errors import InputError
from dap.losses import ranges
from dap.losses.ranges import Count, Range, Seed, Size

LargestGap = Annotated[float, Range(0)] | None
LABEL_TEMPERATURE = 0.5
_VOTES = 7  # of the stream of random numbers that votes are drawn from

SPLITS = ('train', 'stress', 'test')


@dataclass(frozen=True)
class EmbeddedCorpus:
  """The corpus of one seed, as a source of preference pairs.

  Splits: `train` and `test` are pairs of curated summaries, `test` of posts
  whose facts no other split has; `stress` has spoilt responses. A split of
  fewer pairs is the beginning of one with more.

  Attributes:
    seed: of texts and labels.
    num_train: pairs of the split.
    num_stress: likewise.
    num_test: likewise.
    raters: people who are asked about each pair of `train` and `stress`. Of
      several the majority's choice is `chosen`, and the share of their votes
      stands beside it, `chosen_share`; texts are the same for any number.
    largest_gap: of the utilities of two curated summaries; pairs of more are
      passed over, in `test` too. People disagree about close pairs.
  """

  seed: Seed = 0
  num_train: Size = 8000
  num_stress: Count = 4000
  num_test: Size = 1024
  raters: Size = 1
  largest_gap: LargestGap = None

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
    largest = None if split == 'stress' else self.largest_gap
    drawn = _pairs(split, size, largest, draw)
    if self.raters == 1 or split == 'test':
      return _label(drawn)
    votes = _uniforms(self.seed, SPLITS.index(split), _VOTES)
    return _label(drawn, self.raters, votes.__next__)

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
    return truth.utility(post, response, finished)

  def utilities(
    self,
    posts: Sequence[str],
    responses: Sequence[str],
    finished: Sequence[bool],
  ) -> Float[np.ndarray, ' batch']:
    """The hidden truth of sampled responses, see `corpus_utility`."""
    return truth.utilities(posts, responses, finished)

  def votes(
    self,
    posts: Sequence[str],
    responses: tuple[Sequence[str], Sequence[str]],
    finished: tuple[Sequence[bool], Sequence[bool]],
  ) -> Float[np.ndarray, ' batch']:
    """The share of the raters who prefer the first of two responses."""
    first, second = (
      truth.utilities(posts, each, whole)
      for each, whole in zip(responses, finished, strict=True)
    )
    draw = _uniforms(self.seed, len(SPLITS), _VOTES).__next__
    return _shares(_chances(first - second), self.raters, draw)

  def fingerprint(self) -> str:
    sizes = f'{self.num_train}-{self.num_stress}-{self.num_test}'
    panel = '' if self.raters == 1 else f'-{self.raters}_raters'
    gap = '' if self.largest_gap is None else f'-gap_{self.largest_gap:g}'
    return f'embedded-{self.seed}-{sizes}{panel}{gap}'


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


def _pairs(
  split: str, size: int, largest_gap: float | None, draw: text.Draw
) -> list[_Drawn]:
  """The first so many pairs whose utilities lie so near each other."""
  found: list[_Drawn] = []
  while len(found) < size:
    drawn = [_write_pair(split, draw) for _ in range(size)]
    if largest_gap is not None:
      first, second = _utilities(drawn).T
      near = np.abs(first - second) <= largest_gap
      drawn = [pair for pair, is_near in zip(drawn, near) if is_near]
    found += drawn
  return found[:size]


def _utilities(drawn: list[_Drawn]) -> Float[np.ndarray, 'pairs 2']:
  responses = [response for pair in drawn for response in pair.responses]
  finished = [len(r.split()) <= writers.MAX_WORDS for r in responses]
  facts = [pair.facts for pair in drawn for _ in pair.responses]
  return truth.of_texts(facts, responses, np.array(finished)).reshape(-1, 2)


def _label(
  drawn: list[_Drawn], raters: int = 1, draw: text.Draw | None = None
) -> list[Row]:
  """Bradley-Terry: the first is preferred with sigmoid(difference / 0.5).

  Args:
    drawn: pairs.
    raters: who say so of each pair, independently.
    draw: of the votes of several; one rater's is the pair's own coin.
  """
  if not drawn:
    return []
  scores = _utilities(drawn)
  first_is_preferred = _chances(scores[:, 0] - scores[:, 1])
  coins = np.array([pair.coin for pair in drawn])
  shares = (coins < first_is_preferred).astype(np.float64)
  if draw is not None:
    shares = _shares(first_is_preferred, raters, draw)
  # A panel in two halves is decided by the coin.
  first_wins = np.where(shares == 0.5, coins < 0.5, shares > 0.5)
  labelled = []
  for pair, score, share, first in zip(
    drawn, scores.tolist(), shares.tolist(), first_wins
  ):
    chosen, rejected = (0, 1) if first else (1, 0)
    row = {
      'prompt': pair.post,
      'chosen': pair.responses[chosen],
      'rejected': pair.responses[rejected],
      'kind': pair.kind,
      'chosen_utility': score[chosen],
      'rejected_utility': score[rejected],
    }
    if draw is not None:
      row['chosen_share'] = share if first else 1 - share
    labelled.append(row)
  return labelled


def _chances(difference: np.ndarray) -> np.ndarray:
  """How often a person prefers the first, by how much better it is."""
  return 1.0 / (1.0 + np.exp(-difference / LABEL_TEMPERATURE))


def _shares(chances: np.ndarray, raters: int, draw: text.Draw) -> np.ndarray:
  """Of the votes of so many people, each on their own."""
  votes = np.array([[draw() for _ in range(raters)] for _ in chances])
  return np.mean(votes < chances[:, None], axis=1)
