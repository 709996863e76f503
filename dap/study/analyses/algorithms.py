"""Layer 7. What each algorithm of the field reaches, on one KL axis.

All start from one SFT policy, read one D_golden and are asked by one proxy
model, so that they differ in their slots alone.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dap import errors, estimators
from dap.study.analyses import (
  algorithm_tables,
  claims,
  comparisons,
  drawings,
  names,
)
from dap.study.analyses.claims import Claim, Finding
from dap.study.analyses.drawings import SFT, Drawn
from dap.study.reading import frontiers
from dap.study.reading.evidence import (
  Axis,
  Evidence,
  Figure,
  Predicate,
  Series,
  Table,
)

_SAME = 0.03  # win rate: a control may not differ more


class Shown(NamedTuple):
  """An algorithm: its arm, its name, and with which others it is drawn."""

  arm: str
  label: str
  family: str


@dataclasses.dataclass(frozen=True)
class Algorithms:
  """Every algorithm against the SFT policy, and against one that all stand by.

  Attributes:
    shown: (arm, label, family) of each; a family is one figure.
    beside: arm that every figure has behind its own; one of those shown.
    controls: arms that must not learn any preference.
    rewarded: arms of which hidden utility is asked too.
  """

  shown: tuple[tuple[str, str, str], ...]
  beside: str
  controls: tuple[str, ...] = ()
  rewarded: tuple[str, ...] = ()

  def __post_init__(self):
    shown = tuple(Shown(*each) for each in self.shown)
    object.__setattr__(self, 'shown', shown)
    for name in ('controls', 'rewarded'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    names.check(self, self.arms)
    known = [each.arm for each in shown]
    asked = (self.beside, *self.rewarded)
    if lacking := [arm for arm in asked if arm not in known]:
      raise errors.InputError(
        f'Algorithms shows {", ".join(known) or "none"}, and reads'
        f' {lacking[0]} of them. Add it to shown, or name one that is there.'
      )

  @property
  def arms(self) -> tuple[str, ...]:
    """Of the algorithms, then of the controls."""
    return (*(each.arm for each in self._shown), *self.controls)

  @property
  def _shown(self) -> tuple[Shown, ...]:
    return tuple(Shown(*each) for each in self.shown)

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """Of each: does it improve on the SFT policy? Of a control: is it alike?"""
    found = [
      claims.judge(
        Claim(
          f'A-{each.arm}',
          f'{each.label} improves on the SFT policy: its best checkpoint wins'
          ' more often.',
        ),
        lambda arm=each.arm: comparisons.peak_is_higher(evidence, arm, SFT),
      )
      for each in self._shown
    ]
    found += [
      claims.judge(
        Claim(
          f'U-{arm}',
          f'The best checkpoint of {arm} has more hidden utility than the SFT'
          ' policy.',
          unit='utility',
          of_truth=True,
        ),
        lambda arm=arm: _utility(evidence, arm),
      )
      for arm in self.rewarded
    ]
    return found + [
      claims.judge(
        Claim(
          f'C-{arm}',
          f'The control {arm} learns no preference: its best checkpoint wins as'
          ' often as the SFT policy.',
        ),
        lambda arm=arm: _alike(evidence, arm),
      )
      for arm in self.controls
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """All at their best; then by family over KL, operations and tokens."""
    found = [self._at_their_best(evidence)]
    for family in dict.fromkeys(each.family for each in self._shown):
      own = [each for each in self._shown if each.family == family]
      found += self._of_family(evidence, family, own)
    return drawings.with_marks(found)

  def tables(self, evidence: Evidence) -> list[Table]:
    """What each reaches and takes, and by how much KL."""
    rows = [(each.arm, each.label) for each in self._shown]
    rows += [(arm, f'{arm} (control)') for arm in self.controls]
    return algorithm_tables.tables(evidence, rows)

  def _at_their_best(self, evidence: Evidence) -> Figure:
    series = [drawings.level(evidence, SFT, 'sft', 'SFT policy')]
    for each in self._shown:
      found = algorithm_tables.best_of(evidence, each.arm)
      if found is not None:
        low, high = found.wins.interval
        ends = ([], []) if np.isnan(low) else ([low], [high])
        where = [found.mean(drawings.kl)], [found.wins.mean]
        series.append(Series(each.label, each.arm, *where, *ends))
    return Figure(
      'algorithms',
      'All algorithms at their best',
      'The best checkpoint of each algorithm, chosen on one half of the prompts'
      ' and judged on the other, both ways: mean over seeds with its 95 %'
      ' interval, at the mean of the KLs of those checkpoints. All start from'
      ' one SFT policy, rounds from where the one before ended.',
      drawings.KL_AXIS,
      drawings.WIN_AXIS,
      drawings.kept(series),
    )

  def _of_family(
    self, evidence: Evidence, family: str, own: Sequence[Shown]
  ) -> list[Figure]:
    arms = [Drawn(each.arm, each.arm, each.label) for each in own]
    beside = next(each for each in self._shown if each.arm == self.beside)
    behind = [] if beside in own else [_drawn(beside)]
    name = f'algorithms_{family.lower().replace(" ", "_").replace("-", "_")}'
    over_kl = drawings.frontier(
      evidence,
      arms,
      behind=behind,
      name=name,
      title=f'{family}: KL against win rate',
      caption=f'Algorithms of one family, and {beside.label} for comparison.',
    )
    costs = (
      ('flops', 'operations of training, FLOP', lambda p: p.train_flops),
      ('tokens', 'tokens sampled by training', lambda p: p.sampled_tokens),
    )
    return [over_kl] + [
      _over_cost(evidence, [*arms, *behind], f'{name}_{end}', family, axis, of)
      for end, axis, of in costs
    ]


def _drawn(each: Shown) -> Drawn:
  return Drawn(each.arm, each.arm, each.label)


def _over_cost(
  evidence: Evidence,
  arms: Sequence[Drawn],
  name: str,
  family: str,
  axis: str,
  cost: drawings.Value,
) -> Figure:
  series = [
    drawings.band(evidence, arm, cost, frontiers.up_to)
    for arm in arms
    if any(cost(point) for point in evidence.of(arm.arm))
  ]
  return Figure(
    name,
    f'{family}: {axis.split(",")[0]}',
    'The best checkpoint of at most that cost, chosen on one half of the'
    ' prompts and judged on the other, mean over seeds with its 95 % interval.'
    ' An algorithm that has no such cost is not drawn; pairs, their labels and'
    ' the proxy model are charged to nobody.',
    Axis(axis, log=True),
    drawings.WIN_AXIS,
    drawings.kept(series),
  )


def _utility(evidence: Evidence, arm: str) -> Finding:
  """Of the checkpoint that wins most: utility chooses nothing."""
  wins = comparisons.shared(evidence, (arm,))
  arms = comparisons.shared(evidence, (arm, SFT), frontiers.utilities)
  rows = {
    seed: estimators.peak_index(own.curve)
    for seed, (own,) in zip(wins.seeds, wins.frontiers)
  }
  rows = iter([rows[seed] for seed in arms.seeds])
  effect = comparisons.of_prompts(
    arms,
    lambda own, sft: comparisons.at(own, next(rows)) - comparisons.at(sft, 0),
  )
  return Finding(estimators.greater(effect), effect, arms.seeds, arms.remark)


def _alike(evidence: Evidence, arm: str) -> Finding:
  finding = comparisons.peak_is_higher(evidence, arm, SFT)
  verdict = estimators.equivalent(finding.effect, _SAME)
  return finding._replace(verdict=verdict)
