"""Layer 7. Whether the golden model can be believed, held against the truth.

For data that have a hidden utility: what the golden model prefers of the
responses that policies write, by how far those have gone. Ours.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from dap import errors, estimators
from dap.estimators import Effect, Estimate
from dap.study.analyses import claims, comparisons, drawings, names, pairs
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.reading.evidence import Axis, Evidence, Figure, Predicate, Series

AGREEMENT = 0.85  # that the study's golden model is built for
BIAS = 0.05  # of a win rate
CORRELATION = 0.8
_LEAST_PAIRS = 200  # of a bin and a seed

Bin = tuple[float, float]  # nats


@dataclasses.dataclass(frozen=True)
class Judge:
  """The golden model against the hidden utility, on samples of policies.

  Attributes:
    online: arm.
    offline: arm.
    measure: of `dap/study/making/agreement.py`.
    edges: nats, between bins of checkpoints; none lies beyond the last.
  """

  online: str = 'online_ipo'
  offline: str = 'offline_ipo'
  measure: str = 'agreement'
  edges: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)

  def __post_init__(self):
    names.check(self, self.arms)
    object.__setattr__(self, 'edges', tuple(map(float, self.edges)))
    if len(self.edges) < 2 or np.any(np.diff(self.edges) <= 0):
      raise errors.InputError(
        'A judge is held against the truth in bins of KL, whose edges ascend;'
        f' got {self.edges} nats.'
      )

  @property
  def arms(self) -> tuple[str, ...]:
    """Both."""
    return self.online, self.offline

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """J1-k to J3-k."""
    end = f'{self.edges[-1]:g} nats'
    agrees = Claim(
      'J1-k',
      'Of two responses of an online policy the golden model prefers the truly'
      f' better one in more than {AGREEMENT:.0%} of pairs, at every KL up to'
      f' {end}.',
      unit='agreement, where it is least',
      of_truth=True,
    )
    unbiased = Claim(
      'J2-k',
      f"Online win rates are the hidden utility's within {BIAS:g}, at every KL"
      f' up to {end}.',
      unit='win rate, where it is farthest',
      of_truth=True,
    )
    orders = Claim(
      'J3-k',
      'Over checkpoints of both arms win rate and hidden utility have a rank'
      f' correlation above {CORRELATION:g}, up to {end}.',
      unit="Spearman's correlation",
      of_truth=True,
    )
    return [
      claims.judge(agrees, lambda: self._agrees(evidence)),
      claims.judge(unbiased, lambda: self._is_unbiased(evidence)),
      claims.judge(orders, lambda: self._orders(evidence)),
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Agreement and bias over KL."""
    agreement, bias = (
      tuple(
        drawings.lines(role, role, *_marks(found))
        for role, arm in (('online', self.online), ('offline', self.offline))
        if (found := self._or_nothing(evidence, arm, what))
      )
      for what in (_agreement, _bias)
    )
    how = (
      'A mark stands for the checkpoints between two edges of KL, at their'
      f' middle in ln KL; bins of fewer than {_LEAST_PAIRS} pairs are left out.'
      ' Means over seeds with 95 % intervals.'
    )
    goal = Series('what it is built for', 'sft', [], [AGREEMENT], kind='level')
    return drawings.with_marks(
      [
        Figure(
          'judge_agreement',
          'The golden model against the truth',
          'How often the golden model prefers, of two responses of one policy,'
          f' the one of the higher hidden utility; ties are left out. {how}',
          drawings.KL_AXIS,
          Axis('agreement with the hidden utility'),
          (*agreement, goal),
        ),
        Figure(
          'judge_bias',
          'Win rates against the truth',
          'Win rate over the golden policy by the golden model, less that by'
          f' the hidden utility. {how}',
          drawings.KL_AXIS,
          Axis('win rate, golden model less hidden utility'),
          (*bias, drawings.flat('no bias', 'sft', 0.0)),
        ),
      ]
    )

  def cautions(self, evidence: Evidence) -> list[str]:
    """Where the golden model is no good measure."""
    found = self._or_nothing(evidence, self.online, _agreement)
    few = {bin_: e for bin_, e in found.items() if e.mean < AGREEMENT}
    if not few:
      return []
    return [
      'The golden model agrees with the hidden utility on fewer than'
      f' {AGREEMENT:.0%} of pairs of online responses: {_listed(few)}. Do not'
      ' trust win rates there by themselves; see hidden utility.'
    ]

  def _agrees(self, evidence: Evidence) -> Finding:
    found = self._by_bin(evidence, self.online, _agreement)
    least = min(found.values(), key=lambda effect: effect.mean)
    verdict = estimators.greater(least, AGREEMENT)
    return self._finding(evidence, verdict, least, found)

  def _is_unbiased(self, evidence: Evidence) -> Finding:
    found = self._by_bin(evidence, self.online, _bias)
    most = max(found.values(), key=lambda effect: abs(effect.mean))
    verdict = estimators.equivalent(most, BIAS)
    return self._finding(evidence, verdict, most, found)

  def _finding(
    self,
    evidence: Evidence,
    verdict: str,
    effect: Effect,
    found: Mapping[Bin, Effect],
  ) -> Finding:
    seeds, _ = pairs.measured(evidence, self.measure)
    return Finding(verdict, effect, seeds, f'{_listed(found)}.')

  def _orders(self, evidence: Evidence) -> Finding:
    rows = {
      seed: _near(evidence, seed, self.arms, self.edges[-1])
      for seed in evidence.seeds
    }
    rows = {seed: each for seed, each in rows.items() if len(each) > 2}
    if not rows:
      raise Unreached('The evaluations hold no hidden utility.')
    estimates = [
      estimators.estimate(
        lambda each: estimators.spearman(*each.T),
        [each],
        comparisons.rng(),
        num_resamples=comparisons.FEWER,
      )
      for each in rows.values()
    ]
    effect = estimators.combine(estimates, comparisons.rng())
    effect = estimators.bounded(effect, -1.0, 1.0)
    return Finding(
      estimators.greater(effect, CORRELATION),
      effect,
      list(rows),
      'Checkpoints are drawn as if independent.',
    )

  def _or_nothing(
    self, evidence: Evidence, arm: str, what: 'OfBin'
  ) -> dict[Bin, Effect]:
    try:
      return self._by_bin(evidence, arm, what)
    except Unreached:
      return {}

  def _by_bin(
    self, evidence: Evidence, arm: str, what: 'OfBin'
  ) -> dict[Bin, Effect]:
    """An effect of each bin that every seed, or some, has pairs in."""
    _, arrays = pairs.measured(evidence, self.measure)
    arrays = [each for each in arrays if f'kl/{arm}' in each]
    found = {}
    for low, high in zip(self.edges, self.edges[1:]):
      estimates = [
        what(each, arm, _between(each[f'kl/{arm}'], low, high))
        for each in arrays
      ]
      if any(not np.isnan(each.value) for each in estimates):
        found[low, high] = estimators.combine(estimates, comparisons.rng())
    if not found:
      raise Unreached(
        'The data have no hidden utility, or no bin of KL has'
        f' {_LEAST_PAIRS} pairs of {arm}.'
      )
    return found


# Of arrays of one seed, an arm and its checkpoints in a bin.
OfBin = Callable[[pairs.Arrays, str, np.ndarray], Estimate]


def _agreement(arrays: pairs.Arrays, arm: str, rows: np.ndarray) -> Estimate:
  counted = arrays[f'counted/{arm}'][rows]
  right = arrays[f'right/{arm}'][rows] * counted
  if np.sum(counted) < _LEAST_PAIRS:
    return _nothing()
  with np.errstate(invalid='ignore', divide='ignore'):
    return estimators.estimate_of_means(
      lambda means: means[..., 0] / means[..., 1],
      np.stack([np.sum(right, axis=0), np.sum(counted, axis=0)]),
      comparisons.rng(),
      num_resamples=comparisons.RESAMPLES,
    )


def _bias(arrays: pairs.Arrays, arm: str, rows: np.ndarray) -> Estimate:
  more = arrays[f'golden_wins/{arm}'][rows] - arrays[f'true_wins/{arm}'][rows]
  if more.size < _LEAST_PAIRS:
    return _nothing()
  return estimators.estimate_mean(
    np.mean(more, axis=0),
    comparisons.rng(),
    num_resamples=comparisons.RESAMPLES,
  )


def _nothing() -> Estimate:
  return Estimate(np.nan, np.full(comparisons.RESAMPLES, np.nan))


def _between(kl: np.ndarray, low: float, high: float) -> np.ndarray:
  return np.flatnonzero((low <= kl) & (kl < high))


def _near(
  evidence: Evidence, seed: int, arms: Sequence[str], end: float
) -> np.ndarray:
  """[checkpoints, 2] win rate and hidden utility, up to a KL."""
  return np.array(
    [
      (point.win_rate, point.hidden_utility)
      for arm in arms
      for point in evidence.of(arm)
      if point.seed == seed
      and point.kl_nats < end
      and point.hidden_utility is not None
    ]
  )


def _marks(found: Mapping[Bin, Effect]) -> tuple[list[float], list[Effect]]:
  return [_middle(bin_) for bin_ in found], list(found.values())


def _middle(bin_: Bin) -> float:
  low, high = bin_
  return float(np.sqrt(low * high)) if low > 0 else 0.5 * high


def _listed(found: Mapping[Bin, Effect]) -> str:
  return ', '.join(_parts(found))


def _parts(found: Mapping[Bin, Effect]) -> Iterator[str]:
  for (low, high), effect in found.items():
    yield f'{claims.level(effect)} from {low:g} to {high:g} nats'
