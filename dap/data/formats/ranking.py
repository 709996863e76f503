"""Layer 3. Which two of several scored responses make a pair."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from dap.data.formats.ties import TieRule

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
