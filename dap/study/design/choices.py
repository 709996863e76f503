"""Layer 7. Which of many scored responses a round is trained on."""

import dataclasses
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from dap import errors

DATA = -1  # in place of a sample: the response that D_golden has

Tokens = Int[np.ndarray, 'prompts samples length']
Scores = Float[np.ndarray, 'prompts samples']
Given = Int[np.ndarray, 'prompts length']


class Chosen(NamedTuple):
  """Pairs, by where they lie; all [pairs].

  Attributes:
    prompts: row of D_golden's prompts.
    chosen: column of its samples, or `DATA`.
    rejected: column of its samples.
  """

  prompts: Int[np.ndarray, ' pairs']
  chosen: Int[np.ndarray, ' pairs']
  rejected: Int[np.ndarray, ' pairs']


@runtime_checkable
class Choice(Protocol):
  """A frozen dataclass that chooses pairs; what it drops is counted.

  Attributes:
    least: samples to a prompt that it needs.
  """

  least: ClassVar[int]

  def __call__(self, tokens: Tokens, scores: Scores, given: Given) -> Chosen:
    """Chooses.

    Args:
      tokens: of all samples.
      scores: of them, by the arm's judge.
      given: the chosen responses of D_golden.

    Raises:
      errors.InputError: there is nothing to choose.
    """
    ...


@dataclasses.dataclass(frozen=True)
class BestAndWorst:
  """The best against the worst; a prompt whose scores are equal has no pair.

  Of equal scores the first counts.
  """

  least: ClassVar[int] = 2

  def __call__(self, tokens: Tokens, scores: Scores, given: Given) -> Chosen:
    """See `Choice`."""
    best, worst = np.argmax(scores, axis=1), np.argmin(scores, axis=1)
    rows = np.flatnonzero(np.max(scores, axis=1) > np.min(scores, axis=1))
    if not len(rows):
      raise errors.InputError(
        f'Of {len(scores)} prompts none has responses of different scores, so'
        ' there is no best and no worst. Look at the judge: does it score all'
        ' alike?'
      )
    return Chosen(rows, best[rows], worst[rows])


@dataclasses.dataclass(frozen=True)
class DataOverSamples:
  """The data's response against each sample, as SPIN has it.

  Scores are not read. A sample that is the data's response has no gradient and
  is dropped.

  Source: Chen et al. 2024, algorithm 1, https://arxiv.org/abs/2401.01335.
  """

  least: ClassVar[int] = 1

  def __call__(self, tokens: Tokens, scores: Scores, given: Given) -> Chosen:
    """See `Choice`."""
    rows, columns = np.nonzero(np.any(tokens != given[:, None], axis=2))
    if not len(rows):
      raise errors.InputError(
        'All samples are the responses of D_golden: there is nothing left to'
        ' learn of them. End the rounds here.'
      )
    return Chosen(rows, np.full(len(rows), DATA), columns)


@dataclasses.dataclass(frozen=True)
class Above:
  """Every sample that scores above a share of the range of all scores.

  ReST's improve step: scores are normalised to [0, 1] by the least and the
  greatest of the whole grown set; a greater share keeps a subset of what a
  smaller one does. Its loss reads the chosen responses alone; what stands as
  rejected is the prompt's worst.

  Source: Gulcehre et al. 2023, https://arxiv.org/abs/2308.08998; the
  normalisation and .7 are those of Liu et al. 2023, app. A,
  https://arxiv.org/abs/2309.06657.

  Attributes:
    share: of the range, from 0 to 1.
  """

  share: float
  least: ClassVar[int] = 1

  def __post_init__(self):
    if not 0 <= self.share < 1:
      raise errors.InputError(
        f'Above needs a share of the range of scores in [0, 1), got'
        f' {self.share}.'
      )

  def __call__(self, tokens: Tokens, scores: Scores, given: Given) -> Chosen:
    """See `Choice`."""
    low, high = float(np.min(scores)), float(np.max(scores))
    if not low < high:
      raise errors.InputError(
        f'All {scores.size} samples have the score {low:g}, so no share of'
        ' their range tells them apart. Look at the judge: does it score all'
        ' alike?'
      )
    normal = (scores.astype(np.float64) - low) / (high - low)
    rows, columns = np.nonzero(normal > self.share)
    return Chosen(rows, columns, np.argmin(scores, axis=1)[rows])
