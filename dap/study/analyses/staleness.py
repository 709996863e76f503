"""Layer 7. Between online and offline: samples of an older policy. Ours."""

import dataclasses

import numpy as np

from dap import errors, estimators
from dap.study.analyses import claims, comparisons, drawings, names
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.reading.evidence import Axis, Evidence, Figure, Predicate, Series


@dataclasses.dataclass(frozen=True)
class Staleness:
  """Online runs whose sampling policy is refreshed every so many steps.

  Attributes:
    online: arm, refreshed at every step.
    offline: arm, on D_golden.
    stale: (steps between refreshes, arm) of each; kept freshest first.
  """

  online: str
  offline: str
  stale: tuple[tuple[int, str], ...]

  def __post_init__(self):
    stale = tuple(sorted((int(steps), arm) for steps, arm in self.stale))
    object.__setattr__(self, 'stale', stale)
    names.check(self, self.arms)
    if not stale or stale[0][0] < 2:
      raise errors.InputError(
        'Staleness needs at least one (steps between refreshes, arm), steps > '
        f'1, got {stale}: online is refreshed at every step already.'
      )

  @property
  def arms(self) -> tuple[str, ...]:
    """All, offline last."""
    return self.online, *(arm for _, arm in self.stale), self.offline

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """Whether staleness lowers the peak, and whether any of it is online."""
    steps, stalest = self.stale[-1]
    slope = Claim(
      'S1-k',
      'The older the policy that samples, the lower the peak.',
      unit='win rate lost per doubling',
    )
    above = Claim(
      'S2-k',
      f'Even samples of a policy up to {steps} steps old give a higher peak'
      ' than offline training.',
    )
    return [
      claims.judge(slope, lambda: self._slope(evidence)),
      claims.judge(
        above,
        lambda: comparisons.peak_is_higher(evidence, stalest, self.offline),
      ),
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Peaks over the steps between refreshes."""
    peaks = [
      (steps, effect)
      for steps, arm in ((1, self.online), *self.stale)
      if (effect := _peak(evidence, arm)) is not None
    ]
    series: list[Series] = []
    if peaks:
      x, effects = zip(*peaks)
      series.append(drawings.lines('online', 'online', x, effects))
    offline = _peak(evidence, self.offline)
    if offline is not None:
      series.append(
        drawings.flat('offline', 'offline', offline.mean, *offline.interval)
      )
    figure = Figure(
      'staleness',
      'Between online and offline: samples of an older policy',
      'Peak win rate of online training whose sampling policy is refreshed'
      ' every so many steps; at 1 it is the policy itself. Peaks are chosen on'
      ' one half of the prompts and judged on the other; means over seeds with'
      ' 95 % intervals.',
      Axis('steps between refreshes of the sampling policy', log=True),
      drawings.WIN_AXIS,
      tuple(series),
    )
    return drawings.with_marks([figure])

  def _slope(self, evidence: Evidence) -> Finding:
    steps = [1, *(steps for steps, _ in self.stale)]
    arms = comparisons.shared(evidence, self.arms[:-1])
    effect = comparisons.of_means(
      arms,
      lambda peaks: np.asarray(-estimators.slope(np.log2(steps), peaks)),
      lambda *each: np.stack([comparisons.peak(one) for one in each]),
    )
    listed = ', '.join(map(str, steps))
    detail = f'Refreshed every {listed} steps. {arms.remark}'
    verdict = estimators.greater(effect)
    return Finding(verdict, effect, arms.seeds, detail.strip())


def _peak(evidence: Evidence, arm: str):
  try:
    return comparisons.best(evidence, arm)
  except Unreached:
    return None
