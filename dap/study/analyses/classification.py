"""Layer 7. H3: are policies worse classifiers? (Figs. 6, 7, 8)."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dap import estimators
from dap.estimators import Effect
from dap.study.analyses import (
  claims,
  classification_figures,
  comparisons,
  drawings,
  names,
  pairs,
)
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.reading.evidence import Evidence, Figure, Predicate, Setting

_ACCURACY = 'accuracy'
_ROLES = ('online', 'shuffled', 'offline')
_WIDTH = (
  0.06  # of an interval of accuracies that tells something by holding 0.5
)


@dataclasses.dataclass(frozen=True)
class Classification:
  """Policies against preference models as classifiers, and what follows.

  Attributes:
    online: arm.
    shuffled: arm, offline on the shuffled stream of the online run.
    offline: arm, on D_golden.
    setting: of the one run of each that is looked at.
    stream: measure of classifiers along the online stream.
    own: measure of policies on pairs of their own.
  """

  online: str
  shuffled: str
  offline: str
  setting: Setting
  stream: str = 'stream_accuracy'
  own: str = 'own_pairs'

  def __post_init__(self):
    names.set_setting(self, self.setting)
    names.check(self, self.arms)

  @property
  def arms(self) -> tuple[str, ...]:
    """All three."""
    return self.online, self.shuffled, self.offline

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """P4a to P4f."""
    tests = {
      'P4a': self._proxy_is_better,
      'P4b': self._proxy_decays,
      'P4c': self._says_nothing_of_win_rate,
      'P4d': self._offline_classifies,
      'P4e': self._winners_lose_probability,
      'P4e-k': self._lose_at_equal_kl,
      'P4f': self._own_pairs_at_chance,
      'P4f-n': self._own_pairs_not_better,
    }
    return [
      claims.judge(claim, lambda test=tests[claim.name]: test(evidence))
      for claim in _CLAIMS
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Figures 6, 7, 8, and classification of own pairs."""
    sides: dict[str, str] = dict(zip(_ROLES, self.arms))
    return drawings.with_marks(
      classification_figures.figures(
        evidence, sides, self.setting, self.stream, self.own
      )
    )

  def _proxy_is_better(self, evidence: Evidence) -> Finding:
    seeds, arrays = pairs.measured(evidence, self.stream)
    policies = pairs.policies(arrays)
    estimates = [
      pairs.of_accuracies(
        lambda accuracy: np.mean(
          accuracy[..., 0, :] - np.max(accuracy[..., 1:, :], axis=-2), axis=-1
        ),
        [each[f'correct/{name}'] for name in ('proxy', *policies)],
        each['counted'],
      )
      for each in arrays
    ]
    effect = estimators.combine(estimates, comparisons.rng())
    detail = (
      'Estimate: the proxy model less the better policy, mean along the stream;'
      f' policies: {", ".join(policies)}.'
      f' {comparisons.left_out(evidence, seeds)}'
    )
    verdict = estimators.greater(effect)
    return Finding(verdict, effect, seeds, detail.strip())

  def _proxy_decays(self, evidence: Evidence) -> Finding:
    seeds, arrays = pairs.measured(evidence, self.stream)
    estimates = [
      pairs.of_accuracies(
        lambda accuracy, step=each['step']: (
          -100 * estimators.slope(step, accuracy[..., 0, :])
        ),
        [each['correct/proxy']],
        each['counted'],
      )
      for each in arrays
    ]
    effect = estimators.combine(estimates, comparisons.rng())
    verdict = estimators.greater(effect)
    detail = (
      'Estimate: accuracy lost in 100 steps of the online run.'
      f' {comparisons.left_out(evidence, seeds)}'
    )
    return Finding(verdict, effect, seeds, detail.strip())

  def _says_nothing_of_win_rate(self, evidence: Evidence) -> Finding:
    seeds = self._seeds_with_points(evidence)
    within = self._correlation(evidence, seeds, (self.offline,))
    over_all = self._correlation(evidence, seeds, self.arms)
    verdict = claims.all_of(
      estimators.weak(within), estimators.weak(over_all, 0.0)
    )
    detail = (
      "Estimate: Spearman's correlation over the offline run's checkpoints;"
      f' over all three runs {claims.shown(over_all, 2)}. Checkpoints are drawn'
      ' as if independent. An interval that is wider than ±0.3 and holds 0'
      f' decides nothing. {comparisons.left_out(evidence, seeds)}'
    )
    return Finding(verdict, within, seeds, detail.strip())

  def _seeds_with_points(self, evidence: Evidence) -> list[int]:
    seeds = [
      seed
      for seed in evidence.seeds
      if all(
        len(self._coordinates(evidence, seed, (arm,))) > 1 for arm in self.arms
      )
    ]
    if not seeds:
      raise Unreached(
        'No seed has several checkpoints of all three runs at (learning rate,'
        f' *numbers) = {self.setting}.'
      )
    return seeds

  def _coordinates(
    self, evidence: Evidence, seed: int, arms: Sequence[str]
  ) -> np.ndarray:
    """[checkpoints, 2] accuracy on D_golden and win rate."""
    return np.array([
      (point.classification_accuracy, point.win_rate)
      for arm in arms
      for point in evidence.of(arm, self.setting)
      if point.seed == seed and point.classification_accuracy is not None
    ])  # fmt: skip

  def _correlation(
    self, evidence: Evidence, seeds: Sequence[int], arms: Sequence[str]
  ) -> Effect:
    estimates = [
      estimators.estimate(
        lambda rows: estimators.spearman(*rows.T),
        [self._coordinates(evidence, seed, arms)],
        comparisons.rng(),
        num_resamples=comparisons.FEWER,
      )
      for seed in seeds
    ]
    effect = estimators.combine(estimates, comparisons.rng())
    return estimators.bounded(effect, -1.0, 1.0)

  def _offline_classifies(self, evidence: Evidence) -> Finding:
    sides = self.online, self.offline
    seeds, found = pairs.ends(evidence, sides, self.setting)
    online, offline, more = (
      pairs.mean_over_pairs([values(*each) for each in found])
      for values in (
        lambda on, off: on.correct,
        lambda on, off: off.correct,
        lambda on, off: off.correct - on.correct,
      )
    )
    online, offline = (
      estimators.bounded(each, 0.0, 1.0) for each in (online, offline)
    )
    verdict = claims.all_of(
      estimators.greater(offline, 0.6),
      estimators.greater(more),
      estimators.not_greater(online, 0.55),
    )
    detail = (
      'Estimate: offline less online at the end of training. Offline'
      f' {claims.level(offline)}, online {claims.level(online)}; claimed are at'
      f' least 0.60 and at most 0.55. {comparisons.left_out(evidence, seeds)}'
    )
    return Finding(verdict, more, seeds, detail.strip())

  def _winners_lose_probability(self, evidence: Evidence) -> Finding:
    seeds, found = pairs.ends(evidence, self.arms, self.setting)
    each = [
      pairs.mean_over_pairs([of_seed[place].chosen for of_seed in found])
      for place in range(3)
    ]
    lost = [
      pairs.mean_over_pairs([-of_seed[place].chosen for of_seed in found])
      for place in range(3)
    ]
    below = [
      pairs.mean_over_pairs(
        [of_seed[place].chosen - of_seed[2].chosen for of_seed in found]
      )
      for place in range(2)
    ]
    verdict = claims.all_of(*map(estimators.greater, (*lost, *below)))
    detail = (
      'Estimate: offline. Online'
      f' {claims.level(each[0], 2)}, shuffled {claims.level(each[1], 2)}; less'
      f' offline {claims.shown(below[0], 2)} and {claims.shown(below[1], 2)}.'
      f' {comparisons.left_out(evidence, seeds)}'
    )
    return Finding(verdict, each[2], seeds, detail.strip())

  def _lose_at_equal_kl(self, evidence: Evidence) -> Finding:
    sides = self.online, self.offline
    seeds, differences = pairs.at_equal_kl(evidence, sides)
    effect = pairs.mean_over_pairs([-each for each in differences])
    detail = (
      'Estimate: log-ratio of the chosen response, online less offline, over'
      ' the KL that both arms reach.'
      f' {comparisons.left_out(evidence, seeds)}'
    )
    return Finding(estimators.greater(effect), effect, seeds, detail.strip())

  def _own_pairs_at_chance(self, evidence: Evidence) -> Finding:
    return self._own_pairs(
      evidence, estimators.absent_everywhere, lambda p: abs(p.mean - 0.5)
    )

  def _own_pairs_not_better(self, evidence: Evidence) -> Finding:
    return self._own_pairs(
      evidence, estimators.nowhere_greater, lambda p: p.mean
    )

  def _own_pairs(
    self,
    evidence: Evidence,
    judged: Callable[[Sequence[Effect], float, float], str],
    away: Callable[[Effect], float],
  ) -> Finding:
    """A claim of all checkpoints; the estimate is of the farthest."""
    seeds, arrays = pairs.measured(evidence, self.own)
    of_checkpoints = pairs.own_accuracies(arrays)
    effects = list(of_checkpoints.values())
    (arm, step), farthest = max(
      of_checkpoints.items(), key=lambda item: away(item[1])
    )
    adjusted = estimators.holm(
      [estimators.p_value(effect, 0.5) for effect in effects]
    )
    detail = (
      f'Estimate: the farthest of {len(effects)} checkpoints, {arm} at'
      f" step {step}. The smallest of Holm's adjusted p-values, two-sided, is"
      f' {np.min(adjusted):.2g}; intervals wider than ±{_WIDTH} decide nothing.'
      f' {comparisons.left_out(evidence, seeds)}'
    )
    verdict = judged(effects, 0.5, _WIDTH)
    return Finding(verdict, farthest, seeds, detail.strip())


_CLAIMS = (
  Claim(
    'P4a',
    'The proxy model agrees with the golden model on pairs of the online'
    ' stream more often than policies do as classifiers.',
    'Fig. 6',
    _ACCURACY,
  ),
  Claim(
    'P4b',
    'The accuracy of the proxy model on the online stream decays as the policy'
    ' drifts.',
    'Fig. 6',
    'accuracy lost in 100 steps',
  ),
  Claim(
    'P4c',
    'How well a policy classifies D_golden says nothing of how often it wins.',
    'Fig. 7',
    "Spearman's correlation",
  ),
  Claim(
    'P4d',
    'Offline training ends as a better classifier of D_golden than online'
    ' training, which ends near or under one half.',
    'Fig. 8 top',
    _ACCURACY,
  ),
  Claim(
    'P4e',
    'Training makes the chosen responses of D_golden less likely than under the'
    ' SFT policy, and offline training most of all.',
    'Fig. 8 bottom',
    'nats per response',
  ),
  Claim(
    'P4e-k',
    'At equal KL too, offline training makes the chosen responses of D_golden'
    ' less likely than online training does.',
    unit='nats per response',
  ),
  Claim(
    'P4f',
    'Policies classify pairs of their own responses at chance.',
    'text',
    _ACCURACY,
  ),
  Claim(
    'P4f-n',
    'Policies classify pairs of their own responses no better than chance.',
    unit=_ACCURACY,
  ),
)
