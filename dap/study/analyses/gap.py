"""Layer 7. The gap at equal KL, and over-optimisation (Fig. 1 of Tang)."""

import dataclasses

import numpy as np

from dap import errors, estimators
from dap.study.analyses import (
  budgets,
  claims,
  comparisons,
  drawings,
  limit_claims,
  limit_figures,
  names,
)
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.analyses.drawings import Drawn
from dap.study.reading import frontiers
from dap.study.reading.evidence import Axis, Evidence, Figure, Predicate

_PLACE = 'Fig. 1'


@dataclasses.dataclass(frozen=True)
class Gap:
  """Online against offline at the same KL from the SFT policy.

  Attributes:
    online: arm.
    offline: arm, with the same grid.
    kl_range: nats between which they are compared: the primary endpoint.
    num_windows: in that range, evenly spaced in log KL.
    budgets: nats, smallest and largest, of the secondary endpoint: the best
      checkpoint within a budget.
    title: of the figures.
    limit: measure of what no policy can exceed; without it nothing is said of
      that.
  """

  online: str = 'online_ipo'
  offline: str = 'offline_ipo'
  kl_range: tuple[float, float] = (2.25, 6.0)
  num_windows: int = 10
  budgets: tuple[float, float] = (1.25, 5.0)
  title: str = 'Online against offline'
  limit: str = 'limit'

  def __post_init__(self):
    names.check(self, self.arms)
    for name in ('kl_range', 'budgets'):
      low, high = map(float, getattr(self, name))
      object.__setattr__(self, name, (low, high))
      if not 0 < low < high or self.num_windows < 1:
        raise errors.InputError(
          f'A gap needs 0 < low < high of {name}, in nats, and num_windows >='
          f' 1, got {(low, high)} and {self.num_windows}. Choose a range that'
          ' both arms reach.'
        )

  @property
  def arms(self) -> tuple[str, ...]:
    """Both."""
    return self.online, self.offline

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """P1a to P1e, and L to L4."""
    return [
      self._at_equal_kl(evidence),
      self._within_budgets(evidence),
      *self._over_optimisation(evidence),
      self._peaks(evidence),
      self._matched_count(evidence),
      claims.unreached(
        Claim(
          'P1e',
          'The gap is larger in summarisation and helpfulness than in the other'
          ' two tasks.',
          _PLACE,
        ),
        claims.ONE_DATA_SET,
      ),
      *limit_claims.predicates(evidence, self.arms, self.limit),
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Figure 1, what else the same checkpoints do, and what they cost."""
    arms = (
      Drawn(self.online, 'online', 'online'),
      Drawn(self.offline, 'offline', 'offline'),
    )
    low, high = self.kl_range
    first = drawings.frontier(
      evidence,
      arms,
      name='fig1',
      title=self.title,
      caption='KL from the SFT policy against win rate over the golden policy,'
      f' by the golden model; the arms are compared from {low:g} to {high:g}'
      ' nats.',
    )
    others = [
      drawings.frontier(
        evidence,
        arms,
        name=f'fig1_{name}',
        title=f'{self.title}: {axis.label}',
        caption=caption,
        y=lambda point, name=name: getattr(point, name),
        y_axis=axis,
      )
      for name, axis, caption in _OTHERS
    ]
    limits = limit_figures.figures(evidence, arms, self.title, self.limit)
    costs = budgets.figures(evidence, arms, self.title)
    return drawings.with_marks([first, *limits, *others, *costs])

  def _at_equal_kl(self, evidence: Evidence) -> Predicate:
    low, high = self.kl_range

    def test():
      arms = comparisons.shared(evidence, self.arms)
      windows = estimators.log_kl_windows(
        low, high, num_windows=self.num_windows
      )
      found = comparisons.gap(arms, windows)
      verdict = estimators.greater(found.effect)
      held = comparisons.held_windows(found.num_windows, self.num_windows)
      anew = comparisons.gap_chosen_anew(arms, windows)
      detail = (
        f'{held} With checkpoints chosen anew in each draw of prompts, so that'
        f' the luck of the choice counts: {claims.shown(anew)}. {arms.remark}'
      ).strip()
      return Finding(verdict, found.effect, arms.seeds, detail)

    sentence = (
      f'At equal KL, from {low:g} to {high:g} nats, online training wins more'
      ' often than offline training.'
    )
    return claims.judge(Claim('P1d', sentence, _PLACE), test, primary=True)

  def _within_budgets(self, evidence: Evidence) -> Predicate:
    low, high = self.budgets

    def test():
      arms = comparisons.shared(evidence, self.arms)
      windows = estimators.budgets(low, high, num_windows=self.num_windows)
      found = comparisons.gap(arms, windows)
      held = comparisons.held_windows(
        found.num_windows, self.num_windows, 'Budgets'
      )
      return Finding(
        estimators.greater(found.effect),
        found.effect,
        arms.seeds,
        f'{held} {arms.remark}'.strip(),
      )

    sentence = (
      f'Within a budget of {low:g} to {high:g} nats the best online checkpoint'
      ' wins more often than the best offline one.'
    )
    return claims.judge(Claim('P1d-b', sentence), test)

  def _over_optimisation(self, evidence: Evidence) -> list[Predicate]:
    found = []
    for name, side, arm in (
      ('P1a', 'Online', self.online),
      ('P1b', 'Offline', self.offline),
    ):
      past = f'{side} training over-optimises: past its peak, more KL lowers'
      found += [
        claims.judge(
          Claim(name, f'{past} the win rate.', _PLACE),
          lambda arm=arm: _past_peak(evidence, arm, frontiers.wins),
        ),
        claims.judge(
          Claim(
            f'{name}-u',
            f'{past} the hidden utility.',
            unit='hidden utility',
            of_truth=True,
          ),
          lambda arm=arm: _past_peak_of_utility(evidence, arm),
        ),
      ]
    return found

  def _peaks(self, evidence: Evidence) -> Predicate:
    claim = Claim(
      'P1c',
      'The best online checkpoint wins more often than the best offline one.',
      _PLACE,
    )
    return claims.judge(
      claim, lambda: comparisons.peak_is_higher(evidence, *self.arms)
    )

  def _matched_count(self, evidence: Evidence) -> Predicate:
    claim = Claim(
      'P1c-n',
      'The best online checkpoint wins more often than the best offline one,'
      ' each chosen among equally many checkpoints.',
    )

    def test():
      arms = comparisons.shared(evidence, self.arms)
      counts = [min(len(c.curve.kl) for c in s) for s in arms.frontiers]

      def difference(online, offline):
        count = min(len(online.curve.kl), len(offline.curve.kl))
        wins = lambda half: estimators.matched_count_wins(half, count)
        above, below = (
          estimators.crossed(each.curve, wins) for each in (online, offline)
        )
        return above - below

      effect = comparisons.of_prompts(arms, difference)
      chosen = ', '.join(map(str, counts))
      detail = f'Checkpoints to choose among: {chosen} (by seed). {arms.remark}'
      verdict = estimators.greater(effect)
      return Finding(verdict, effect, arms.seeds, detail.strip())

    return claims.judge(claim, test)


def _past_peak(evidence: Evidence, arm: str, read: frontiers.Read) -> Finding:
  """Peak less the checkpoint of the largest KL."""
  arms = comparisons.shared(evidence, (arm,), read=read)
  ends = [float(np.max(curve.kl)) for curve in arms.curves(0)]
  peaks = arms.peak_kl(0)
  if all(peak >= end for peak, end in zip(peaks, ends)):
    raise Unreached(
      'With every seed the best checkpoint is that of the largest KL: training'
      ' did not go past a peak.'
    )
  effect = comparisons.of_prompts(
    arms,
    lambda each: comparisons.peak(each) - comparisons.at(each, each.farthest),
  )
  detail = (
    f'KL of the peak, nats: {_listed(peaks)}; largest KL: {_listed(ends)} (by'
    f' seed). {arms.remark}'
  )
  verdict = estimators.greater(effect)
  return Finding(verdict, effect, arms.seeds, detail.strip())


def _past_peak_of_utility(evidence: Evidence, arm: str) -> Finding:
  if not frontiers.has_utilities(evidence, arm):
    raise Unreached(
      f'The evaluations of {arm} hold no hidden utility by prompt.'
    )
  return _past_peak(evidence, arm, frontiers.utilities)


def _listed(values: list[float]) -> str:
  return ', '.join(f'{value:.2f}' for value in values)


# What else a checkpoint is over its KL: field, axis, caption.
_OTHERS = (
  (
    'proxy_win_rate',
    Axis('win rate by the proxy model'),
    'The proxy preference model labels the online samples; where it still'
    ' climbs while the golden win rate falls, the policy over-optimises it.',
  ),
  (
    'hidden_utility',
    Axis('hidden utility of the responses'),
    'The true utility, which nothing is trained on: where it falls while the'
    ' golden win rate climbs, the golden model itself is fooled.',
  ),
  (
    'response_length',
    Axis('response length, tokens'),
    'Mean length of the responses, the end of sequence included.',
  ),
)
