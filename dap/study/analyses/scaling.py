"""Layer 7. H5: do larger policies close the gap? (Figs. 10, 11, 14)."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dap import errors, estimators
from dap.estimators import Effect, Estimate
from dap.estimators.effects import OfMeans
from dap.study.analyses import claims, comparisons, drawings, names
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.analyses.comparisons import Shared
from dap.study.analyses.drawings import Drawn
from dap.study.reading.evidence import Axis, Evidence, Figure, Predicate

_METHODS = ('online', 'shuffled', 'offline')
_LABELS = ('online', 'offline on the shuffled stream', 'offline')
_NEAR = 0.5  # of ln KL: peaks at similar KL


class Size(NamedTuple):
  """Arms of one policy size.

  Attributes:
    label: such as 'small'.
    num_parameters: of the policy.
    online: arm.
    shuffled: arm.
    offline: arm.
  """

  label: str
  num_parameters: float
  online: str
  shuffled: str
  offline: str

  @property
  def arms(self) -> tuple[str, str, str]:
    """By method."""
    return self.online, self.shuffled, self.offline


@dataclasses.dataclass(frozen=True)
class Scaling:
  """The same study with policies of other sizes.

  Attributes:
    sizes: (label, number of parameters, online, shuffled, offline) of each, at
      least two; kept smallest first.
  """

  sizes: tuple[tuple[str, float, str, str, str], ...]

  def __post_init__(self):
    sizes = tuple(
      (label, int(count), *arms) for label, count, *arms in self.sizes
    )
    sizes = tuple(sorted(sizes, key=lambda size: size[1]))
    object.__setattr__(self, 'sizes', sizes)
    names.check(self, self.arms)
    counts = [size.num_parameters for size in self._sizes]
    if len(set(counts)) < max(2, len(sizes)) or min(counts) < 1:
      raise errors.InputError(
        'Scaling needs at least two sizes with numbers of parameters that'
        f' differ, got {counts}.'
      )

  @property
  def _sizes(self) -> list[Size]:
    return [Size(*size) for size in self.sizes]

  @property
  def arms(self) -> tuple[str, ...]:
    """Three of each size."""
    return tuple(arm for size in self._sizes for arm in size.arms)

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """P6a of each method, and P6b."""
    small, large = self._sizes[0], self._sizes[-1]
    found = []
    for place, label in enumerate(_LABELS):
      suffix = '' if place == 0 else f'-{_METHODS[place][0:3]}'
      claim = Claim(
        f'P6a{suffix}',
        f'A larger policy ({large.label} against {small.label}) peaks higher'
        f' at a similar KL: {label}.',
        'Fig. 10',
      )
      sides = large.arms[place], small.arms[place]
      found.append(
        claims.judge(claim, lambda sides=sides: _higher(evidence, sides))
      )
    claim = Claim(
      'P6b',
      'With larger policies, training on the shuffled stream closes up to'
      ' online training faster than training on D_golden does.',
      'Figs. 11, 14',
      'share of online per doubling',
    )
    return [*found, claims.judge(claim, lambda: self._closes(evidence))]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Figure 10 by method, figures 11 and 14."""
    by_method = [
      drawings.frontier(
        evidence,
        [
          Drawn(size.arms[place], f'size_{size.label}', size.label)
          for size in self._sizes
        ],
        name=f'fig10_{method}',
        title=f'Policy sizes: {label}',
        caption='KL is from the SFT policy of the same size, so it is not quite'
        ' comparable across sizes. The SFT level is that of the study.',
      )
      for place, (method, label) in enumerate(zip(_METHODS, _LABELS))
    ]
    bests = [self._figure_11(evidence), self._figure_14(evidence)]
    return drawings.with_marks([*by_method, *bests])

  @property
  def _doublings(self) -> np.ndarray:
    """log2 of each size over the smallest."""
    counts = np.array([size.num_parameters for size in self._sizes], float)
    return np.log2(counts / counts[0])

  def _closes(self, evidence: Evidence) -> Finding:
    arms = comparisons.shared(evidence, self.arms)
    bests = _bests(arms)

    def slope(best, place):
      relative = best[..., place] / best[..., 0]
      return np.asarray(estimators.slope(self._doublings, relative))

    faster, tandem, offline = (
      _of_bests(bests, function)
      for function in (
        lambda best: slope(best, 1) - slope(best, 2),
        lambda best: slope(best, 1),
        lambda best: slope(best, 2),
      )
    )
    verdict = claims.all_of(
      estimators.greater(faster),
      *(estimators.greater(each) for each in (tandem, offline)),
    )
    detail = (
      'Estimate: slope of shuffled less slope of offline, of the 90 % quantile'
      ' over all checkpoints relative to online. Slopes: shuffled'
      f' {claims.shown(tandem)}, offline {claims.shown(offline)}. The paper'
      f' asks it of two of three data sets; here is one. {arms.remark}'
    )
    return Finding(verdict, faster, arms.seeds, detail.strip())

  def _figure_11(self, evidence: Evidence) -> Figure:
    return self._of_sizes(
      evidence,
      lambda best, size, place: best[..., size, place] / best[..., size, 0],
      'fig11',
      'Best win rate relative to online training, by policy size',
      Axis('best win rate, share of online'),
    )

  def _figure_14(self, evidence: Evidence) -> Figure:
    return self._of_sizes(
      evidence,
      lambda best, size, place: best[..., size, place],
      'fig14',
      'Best win rate, by policy size',
      Axis('best win rate against the golden policy'),
    )

  def _of_sizes(
    self,
    evidence: Evidence,
    value: Callable,
    name: str,
    title: str,
    axis: Axis,
  ) -> Figure:
    try:
      bests = _bests(comparisons.shared(evidence, self.arms))
      series = tuple(
        drawings.lines(
          label,
          method,
          list(self._doublings),
          [
            _of_bests(
              bests,
              lambda best, size=size, place=place: value(best, size, place),
            )
            for size in range(len(self._sizes))
          ],
        )
        for place, (method, label) in enumerate(zip(_METHODS, _LABELS))
      )
    except Unreached:
      series = ()
    labels = ', '.join(size.label for size in self._sizes)
    return Figure(
      name,
      title,
      'Best is the 90 % quantile over all checkpoints of a method and a size.'
      f' Sizes: {labels}. Means over seeds with 95 % intervals.',
      Axis(f'log₂(parameters / parameters of {self._sizes[0].label})'),
      axis,
      series,
    )


def _higher(evidence: Evidence, sides: tuple[str, str]) -> Finding:
  arms = comparisons.shared(evidence, sides)
  effect = comparisons.peak_difference(arms)
  away = comparisons.exact(
    [
      float(np.log(large / small)) if min(large, small) > 0 else np.nan
      for large, small in zip(arms.peak_kl(0), arms.peak_kl(1))
    ]
  )
  verdict = claims.all_of(
    estimators.greater(effect), estimators.equivalent(away, _NEAR)
  )
  detail = (
    f'{comparisons.peaks_in_words(arms)} ln KL of the peaks, large less small:'
    f' {claims.shown(away, 2)}; similar is within ±{_NEAR}.'
  )
  return Finding(verdict, effect, arms.seeds, detail)


def _bests(arms: Shared) -> list[list[Estimate]]:
  """For each seed the best win rate of each arm, on the same prompts."""
  return [
    [
      estimators.estimate_of_means(
        estimators.quantile_peak,
        each.values,
        comparisons.rng(),
        num_resamples=comparisons.FEWER,
      )
      for each in of_arms
    ]
    for of_arms in arms.frontiers
  ]


def _of_bests(bests: list[list[Estimate]], function: OfMeans) -> Effect:
  """A function of best win rates [*any, sizes, methods], over seeds."""

  def of_means(means):
    return function(means.reshape(*means.shape[:-1], -1, len(_METHODS)))

  return estimators.combine_function(of_means, bests, comparisons.rng())
