"""Layer 7. What each algorithm reaches and takes, in tables."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dap import estimators
from dap.estimators import Effect
from dap.study.analyses import claims, comparisons, drawings
from dap.study.analyses.claims import Unreached
from dap.study.reading import frontiers
from dap.study.reading.evidence import Evidence, Table
from dap.study.reading.runs import Point

# Nats between which the best checkpoint of each is asked.
_BINS = ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0))
_NONE = '–'
Rows = Sequence[tuple[str, str]]  # (arm, label)


class Best(NamedTuple):
  """The best checkpoints of an arm, one for each seed.

  Attributes:
    wins: by the golden model, crossed.
    falls: from there to the last step, crossed.
    points: those that win most on all prompts.
  """

  wins: Effect
  falls: Effect
  points: tuple[Point, ...]

  def mean(self, of: drawings.Value) -> float:
    """Of a value of these checkpoints; nan where one lacks it."""
    values = [of(point) for point in self.points]
    return float(np.mean([np.nan if x is None else x for x in values]))


def best_of(evidence: Evidence, arm: str) -> Best | None:
  """None where the arm has no evaluated checkpoint."""
  try:
    arms = comparisons.shared(evidence, (arm,))
  except Unreached:
    return None
  wins = comparisons.of_prompts(arms, comparisons.peak)
  falls = comparisons.of_prompts(
    arms, lambda own: comparisons.peak(own) - comparisons.at(own, own.end)
  )
  points = [
    own.points[estimators.peak_index(own.curve)] for (own,) in arms.frontiers
  ]
  return Best(estimators.bounded(wins, 0.0, 1.0), falls, tuple(points))


def tables(evidence: Evidence, rows: Rows) -> list[Table]:
  """What each is at its best, what that takes, and its best by KL."""
  found = [
    (arm, label, best)
    for arm, label in rows
    if (best := best_of(evidence, arm)) is not None
  ]
  found.sort(key=lambda each: -each[2].wins.mean)
  if not found:
    return []
  return [
    Table(
      'All algorithms at their best',
      (
        'algorithm', 'best win rate', 'KL, nats', 'falls by its end',
        'by the proxy', 'hidden utility', 'tokens a response',
        'sampled tokens', 'scored responses', 'parameter sets',
        'operations, FLOP',
      ),
      [_row(label, best) for _, label, best in found],
    ),
    Table(
      'The best win rate of each within a range of KL',
      ('algorithm', *(f'{low:g} to {high:g} nats' for low, high in _BINS)),
      [(label, *_by_kl(evidence, arm)) for arm, label, _ in found],
    ),
  ]  # fmt: skip


def _row(label: str, best: Best) -> tuple[str, ...]:
  return (
    label,
    claims.level(best.wins),
    _number(best.mean(drawings.kl), '.2f'),
    claims.shown(best.falls),
    _number(best.mean(lambda point: point.proxy_win_rate), '.3f'),
    _number(best.mean(lambda point: point.hidden_utility), '.2f'),
    _number(best.mean(lambda point: point.response_length), '.1f'),
    _number(best.mean(lambda point: point.sampled_tokens), ',.0f'),
    _number(best.mean(lambda point: point.annotator_calls), ',.0f'),
    _number(best.mean(lambda point: point.parameter_sets), '.0f'),
    _number(best.mean(lambda point: point.train_flops), '.2g'),
  )


def _by_kl(evidence: Evidence, arm: str) -> list[str]:
  curves = [each.curve for each in frontiers.frontiers(evidence, arm).values()]
  sides = np.array(_BINS)
  rows = frontiers.mean_rows(
    [estimators.crossed_envelope(curve, sides) for curve in curves],
    comparisons.rng(),
  )
  return [_with_ends(*row) for row in rows]


def _with_ends(mean: float, low: float, high: float) -> str:
  if np.isnan(mean):
    return _NONE
  ends = '' if np.isnan(low) else f' [{low:.3f}, {high:.3f}]'
  return f'{mean:.3f}{ends}'


def _number(value: float, form: str) -> str:
  return _NONE if np.isnan(value) else f'{value:{form}}'
