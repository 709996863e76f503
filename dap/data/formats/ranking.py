"""Layer 3. Which two of several scored responses make a pair."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from dap.data import schema
from dap.data.formats.ties import TieRule
from dap.data.schema import Placed, Row
from dap.errors import InputError

# Scores to index pairs, each the better (or equal) response first.
Choice = Callable[[Sequence[float]], Iterable[tuple[int, int]]]


def best_and_worst(scores: Sequence[float]) -> Iterable[tuple[int, int]]:
  """One pair: the best against the worst, the earlier of equals."""
  if len(scores) < 2:
    return []
  best = max(range(len(scores)), key=lambda i: (scores[i], -i))
  others = [i for i in range(len(scores)) if i != best]
  return [(best, min(others, key=lambda i: (scores[i], i)))]


def every_two(scores: Sequence[float]) -> Iterable[tuple[int, int]]:
  """Every two responses, in their order."""
  return (
    (i, j) if scores[i] >= scores[j] else (j, i)
    for i, j in combinations(range(len(scores)), 2)
  )


def pairs(
  of: tuple[str, str, str],
  placed: Sequence[Placed],
  scored: Callable[[str, Row], tuple[str, float]],
  choice: Choice,
  ties: TieRule,
) -> list[Row]:
  """The pairs of the responses to a prompt.

  Args:
    of: the prompt, the `source` of its pairs, and its place.
    placed: what holds a response each.
    scored: a place and what is there to its response and score.
    choice: which two make a pair.
    ties: what two equal scores give.

  Raises:
    PartlyMalformed: `scored` refuses some, or the two of a pair are the same.
  """
  prompt, source, where = of
  errors: list[InputError] = []
  found = schema.sound(scored, placed, errors)
  responses, scores = [text for text, _ in found], [score for _, score in found]

  def pair(chosen: str, rejected: str) -> Row:
    return schema.pair(prompt, chosen, rejected, source, None, where)

  two = ranked(responses, scores, choice, ties)
  made = schema.sound(pair, two, errors)
  if errors:
    raise schema.PartlyMalformed(errors, made)
  return made


def ranked(
  responses: Sequence[str],
  scores: Sequence[float],
  choice: Choice,
  ties: TieRule,
) -> list[tuple[str, str]]:
  """The (chosen, rejected) pairs of scored responses."""
  made = []
  for better, worse in choice(scores):
    if scores[better] == scores[worse]:
      made += ties(responses[better], responses[worse], 'tie')
    else:
      made.append((responses[better], responses[worse]))
  return made
