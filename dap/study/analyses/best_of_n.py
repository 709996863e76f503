"""Layer 7. The best of n SFT samples by the proxy model: no training at all."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dap import errors, estimators
from dap.estimators import Effect, best_of_n, limits
from dap.study.analyses import claims, comparisons, drawings
from dap.study.analyses import limit as limit_lib
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.reading.evidence import (
  Axis,
  Evidence,
  Figure,
  Predicate,
  Series,
  Table,
)

_GAO = 'Gao et al. 2022, fig. 1'
_AS_GOOD = 0.03  # of a win rate
_N_AXIS = Axis('n, samples to a prompt', log=True)
Arrays = limit_lib.Arrays


@dataclasses.dataclass(frozen=True)
class BestOfN:
  """Max, mean and median reward of n samples, and what judges say of the best.

  All is told by the samples of a measure, each n by all subsets of them.

  Attributes:
    beside: arm with which it is compared at equal KL.
    counts: n, ascending from 1.
    measure: of `making.limit.Limit`.
    budget: nats within which `beside` is compared.
  """

  beside: str = 'online_ipo'
  counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
  measure: str = 'limit'
  budget: float = 2.0

  def __post_init__(self):
    object.__setattr__(self, 'counts', tuple(self.counts))
    ascending = list(self.counts) == sorted(set(self.counts))
    if len(self.counts) < 2 or self.counts[0] != 1 or not ascending:
      raise errors.InputError(
        f'BestOfN needs counts that ascend from 1, got {self.counts}.'
      )
    most = float(best_of_n.kl_bound(self.counts)[-1])
    if not 0 < self.budget <= most:
      raise errors.InputError(
        f'BestOfN needs a budget above 0 and up to {most:.2f} nats, those of'
        f' the best of {self.counts[-1]}; got {self.budget}.'
      )

  @property
  def arms(self) -> tuple[str, ...]:
    """What it is compared with."""
    return (self.beside,)

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """Whether it gains, is fooled, is optimal, and beats training per nat."""
    some, most = self.counts[(len(self.counts) + 1) // 2], self.counts[-1]
    tests: list[tuple[Claim, Callable[[Evidence], Finding]]] = [
      (
        Claim(
          'B1', f'The best of {some} samples wins more often than one.', _GAO
        ),
        lambda own: self._gains(own, some),
      ),
      (
        Claim(
          'B2',
          f'The best of {most} wins more often by the proxy model that chose it'
          ' than by the golden model.',
          _GAO,
        ),
        lambda own: self._fooled(own, most),
      ),
      (
        Claim(
          'B3',
          f'The best of {some} wins as often, within {_AS_GOOD:g}, as the'
          ' optimal policy for the proxy model at its KL.',
          'Yang et al. 2024',
        ),
        lambda own: self._optimal(own, some),
      ),
      (
        Claim(
          'B4',
          f'At {self.budget:g} nats the best of n wins more often than'
          f' {self.beside} within them.',
          _GAO,
        ),
        self._beside,
      ),
    ]
    return [
      claims.judge(claim, lambda test=test: test(evidence))
      for claim, test in tests
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Rewards over n; win rates over KL."""
    if not evidence.measures.get(self.measure):
      return []
    return drawings.with_marks([self._rewards(evidence), self._rates(evidence)])

  def tables(self, evidence: Evidence) -> list[Table]:
    """A row for each n, means over seeds."""
    found = self._judges(evidence)
    if not found:
      return []
    rewards = self._of_seeds(evidence, self._reward_rows)
    nats = self._of_seeds(evidence, self._nats)[0]
    rates = [self._win_rates(judge) for judge in found]
    rows = [
      (
        f'{n}',
        f'{best_of_n.kl_bound((n,))[0]:.3f}',
        f'{nats[row]:.3f}',
        *(f'{reward[row]:.2f}' for reward in rewards),
        *(f'{rate[row]:.3f}' for rate in rates),
      )
      for row, n in enumerate(self.counts)
    ]
    header = (
      'n', 'KL at most, nats', 'KL, nats', 'max reward', 'mean', 'median',
      *(f'wins by {judge.words}' for judge in found),
    )  # fmt: skip
    return [Table('The best of n SFT samples by the proxy model', header, rows)]

  def _judges(self, evidence: Evidence) -> list[limit_lib.Judge]:
    """The proxy that chooses, then those that it is held against."""
    found = limit_lib.judges(evidence, self.measure)
    if not found:
      return []
    proxy = found[0]._replace(name='proxy', words='the proxy model')
    return [proxy, *found]

  def _samples(self, evidence: Evidence) -> dict[int, Arrays]:
    samples = evidence.measures.get(self.measure) or {}
    if not samples:
      raise Unreached(f'The study has no measure {self.measure}.')
    return dict(sorted(samples.items()))

  def _best(
    self, arrays: Arrays, judged: str, counts: Sequence[int] | None = None
  ) -> limits.Limit:
    """Wins by a judge of the best by the proxy."""
    return limits.best_of(
      arrays['proxy'].astype(np.float64),
      limit_lib.wins(arrays[judged]),
      counts or self.counts,
    )

  def _gains(self, evidence: Evidence, n: int) -> Finding:
    def gain(arrays: Arrays) -> np.ndarray:
      one, best = self._best(arrays, 'golden', (1, n)).values
      return best - one

    effect, seeds = _of_prompts(self._samples(evidence), gain)
    return Finding(estimators.greater(effect), effect, seeds)

  def _fooled(self, evidence: Evidence, n: int) -> Finding:
    def excess(arrays: Arrays) -> np.ndarray:
      (own,) = self._best(arrays, 'proxy', (n,)).values
      (golden,) = self._best(arrays, 'golden', (n,)).values
      return own - golden

    effect, seeds = _of_prompts(self._samples(evidence), excess)
    return Finding(estimators.greater(effect), effect, seeds)

  def _optimal(self, evidence: Evidence, n: int) -> Finding:
    golden = limit_lib.judges(evidence, self.measure)
    samples = self._samples(evidence)
    tilted = golden[0].tilted('proxy')
    nats = {s: best_of_n.kl(a['proxy'], (n,)) for s, a in samples.items()}
    values = {
      seed: self._best(arrays, 'golden', (n,)).values[0]
      - limits.at_kl(tilted[seed].limit, nats[seed].tolist())[0]
      for seed, arrays in samples.items()
    }
    if any(np.isnan(each).any() for each in values.values()):
      raise Unreached(f'The optimal policy is not known at the best of {n}.')
    effect, seeds = _combined(values)
    mean = float(np.mean([each[0] for each in nats.values()]))
    detail = f'Estimate: best of {n} less that policy, at {mean:.2f} nats.'
    verdict = estimators.equivalent(effect, _AS_GOOD)
    return Finding(verdict, effect, seeds, detail)

  def _beside(self, evidence: Evidence) -> Finding:
    arms = comparisons.shared(evidence, (self.beside,))
    samples = self._samples(evidence)
    lacking = sorted(set(arms.seeds) - set(samples))
    if lacking:
      raise Unreached(f'Seed {lacking[0]} has no samples of the measure.')
    window = np.array([[0.0, self.budget * (1 + 1e-9)]])
    estimates = []
    for seed, (arm,) in zip(arms.seeds, arms.frontiers):
      # The samples are of fewer prompts than the checkpoints.
      sides = (
        limits.at_kl(self._best(samples[seed], 'golden'), (self.budget,)),
        estimators.crossed_envelope(arm.curve, window)[:1],
      )
      rng = comparisons.rng()
      estimates.append(
        [
          estimators.estimate_means(
            side, rng, num_resamples=comparisons.RESAMPLES
          )[0]
          for side in sides
        ]
      )
    effect = estimators.combine_function(
      lambda m: m[..., 0] - m[..., 1], estimates, comparisons.rng()
    )
    return Finding(estimators.greater(effect), effect, arms.seeds, arms.remark)

  def _of_seeds(
    self, evidence: Evidence, rows: Callable[[Arrays], np.ndarray]
  ) -> np.ndarray:
    """Means over seeds of rows over n."""
    each = [rows(arrays) for arrays in self._samples(evidence).values()]
    return np.mean(each, axis=0)

  def _reward_rows(self, arrays: Arrays) -> np.ndarray:
    """Max, mean and median score by the proxy [3, counts]."""
    scores = arrays['proxy'].astype(np.float64)
    best = limits.best_of(scores, scores, self.counts).values
    mean = np.full(len(self.counts), np.mean(scores))
    median = np.mean(best_of_n.medians(scores, self.counts), axis=1)
    return np.stack([np.mean(best, axis=1), mean, median])

  def _nats(self, arrays: Arrays) -> np.ndarray:
    return best_of_n.kl(arrays['proxy'], self.counts)[None]

  def _win_rates(self, judge: limit_lib.Judge) -> np.ndarray:
    each = [
      np.mean(self._best(arrays, judge.name).values, axis=1)
      for arrays in judge.samples.values()
    ]
    return np.mean(each, axis=0)

  def _rewards(self, evidence: Evidence) -> Figure:
    n = [float(count) for count in self.counts]
    rows = self._of_seeds(evidence, self._reward_rows).tolist()
    sides = (('max', 'online'), ('mean', 'sft'), ('median', 'offline'))
    return Figure(
      'best_of_n_rewards',
      'Max, mean and median reward of n samples',
      'Scores by the proxy model: log-odds of being better than the golden'
      " policy's response. Expectations over all subsets of n of the samples;"
      ' means over prompts and seeds.',
      _N_AXIS,
      Axis('reward, log-odds'),
      [
        Series(label, role, n, row, kind='line')
        for (label, role), row in zip(sides, rows)
      ],
    )

  def _rates(self, evidence: Evidence) -> Figure:
    nats = self._of_seeds(evidence, self._nats)[0][1:].tolist()
    series = [
      Series(
        f'best of n, {judge.words}',
        role,
        nats,
        self._win_rates(judge)[1:].tolist(),
        kind='line',
      )
      for judge, role in zip(
        self._judges(evidence), ('proxy', 'golden', 'limit')
      )
    ]
    last = self.counts[-1]
    drawn = drawings.Drawn(self.beside, 'online', self.beside)
    return drawings.frontier(
      evidence,
      [drawn],
      name='best_of_n_rates',
      title='The best of n over KL, and training',
      caption=f'Lines: the best of 2 to {last} SFT samples by the proxy model,'
      ' by each judge, over its KL (equal scores count as one response).',
      more=series,
    )


def _of_prompts(
  samples: dict[int, Arrays], values: Callable[[Arrays], np.ndarray]
) -> tuple[Effect, list[int]]:
  return _combined({seed: values(arrays) for seed, arrays in samples.items()})


def _combined(values: dict[int, np.ndarray]) -> tuple[Effect, list[int]]:
  """Mean over prompts and seeds, and the seeds."""
  estimates = [
    estimators.estimate_mean(
      each, comparisons.rng(), num_resamples=comparisons.RESAMPLES
    )
    for each in values.values()
  ]
  return estimators.combine(estimates, comparisons.rng()), [*values]
