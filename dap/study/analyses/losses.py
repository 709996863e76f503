"""Layer 7. Does the gap keep its sign with other losses?"""

import dataclasses
import re

import numpy as np

from dap import errors, estimators
from dap.study.analyses import claims, comparisons, drawings, names
from dap.study.analyses.claims import Claim, Unreached
from dap.study.reading import frontiers
from dap.study.reading.evidence import Axis, Evidence, Figure, Predicate, Series


@dataclasses.dataclass(frozen=True)
class Losses:
  """Online against offline with each of several losses.

  Attributes:
    pairs: (loss, online arm, offline arm) of each.
  """

  pairs: tuple[tuple[str, str, str], ...]

  def __post_init__(self):
    pairs = tuple(
      (loss, online, offline) for loss, online, offline in self.pairs
    )
    object.__setattr__(self, 'pairs', pairs)
    names.check(self, self.arms)
    if not pairs:
      raise errors.InputError(
        'Losses needs at least one (loss, online arm, offline arm), got none.'
      )

  @property
  def arms(self) -> tuple[str, ...]:
    """Two of each loss."""
    return tuple(arm for _, *arms in self.pairs for arm in arms)

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """P1c of each loss."""
    return [
      claims.judge(
        Claim(
          f'P1c-{re.split("[^a-z0-9]", loss.lower())[0]}',
          f'With {loss} as loss, the best online checkpoint wins more often'
          ' than the best offline one.',
          'text',
        ),
        lambda sides=sides: comparisons.peak_is_higher(evidence, *sides),
      )
      for loss, *sides in self.pairs
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """The gap at equal KL, one line for each loss."""
    series = [
      _gap_over_kl(evidence, loss, online, offline)
      for loss, online, offline in self.pairs
    ]
    figure = Figure(
      'losses',
      'The gap with other losses',
      'Win rate of the best online checkpoint near a KL less that of the best'
      ' offline one, each chosen on one half of the prompts and judged on the'
      ' other, both ways; mean over seeds with its 95 % interval.',
      drawings.KL_AXIS,
      Axis('win rate, online less offline'),
      (drawings.flat('no gap', 'sft', 0.0), *drawings.kept(series)),
    )
    return drawings.with_marks([figure])


def _gap_over_kl(
  evidence: Evidence, loss: str, online: str, offline: str
) -> Series:
  try:
    arms = comparisons.shared(evidence, (online, offline))
    low, high = comparisons.kl_overlap(arms)
  except Unreached:
    return Series(loss, loss, [], [], kind='band')
  kl, sides = frontiers.around([np.array([low, high])])
  rows = frontiers.mean_rows(
    [
      estimators.crossed_envelope(first.curve, sides)
      - estimators.crossed_envelope(second.curve, sides)
      for first, second in arms.frontiers
    ],
    comparisons.rng(),
  )
  y, low, high = (list(map(float, column)) for column in rows.T)
  return Series(loss, loss, kl.tolist(), y, low, high, kind='band')
