"""Layer 1. Peaks of methods, and the share of a gap between two; numpy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special

from dap import errors
from dap.estimators.effects import (
  Effect,
  Estimate,
  combine,
  combine_function,
  difference,
  estimate_means,
)
from dap.estimators.statistics import Curve
from dap.estimators.win_rate import Interval


def peak_index(curve: Curve) -> int:
  """The checkpoint that wins most on all prompts, earliest of equals.

  Where the peak lies; how high it is, all prompts say too high.
  """
  wins = np.concatenate([curve.selection_wins, curve.test_wins], axis=1)
  return int(np.argmax(np.mean(wins, axis=1, dtype=np.float64)))


def peak_wins(curve: Curve) -> Float[np.ndarray, ' test_prompts']:
  """Wins of the peak on the test half, one number for each prompt."""
  return curve.test_wins[_by_selection(curve)[0]].astype(np.float64)


def matched_count_wins(
  curve: Curve, count: int
) -> Float[np.ndarray, ' test_prompts']:
  """Expected wins of the peak of `count` checkpoints drawn at random.

  A method with many checkpoints may owe its peak to their number; drawn down
  to the number of the other method, it may not. The expectation over all
  subsets is exact: the checkpoint that is i-th on the selection half is the
  peak of C(points - i, count - 1) of the C(points, count) subsets.

  Args:
    curve: of one method and seed.
    count: of checkpoints, >= 1; with no fewer than there are, `peak_wins`.
  """
  points = len(curve.kl)
  if count < 1 or not points:
    raise errors.InputError(
      'A peak needs at least one checkpoint, got'
      f' {count} of {points}. Count the checkpoints of the other method.'
    )
  chances = chances_of_best(points, min(count, points))
  return chances @ curve.test_wins[_by_selection(curve)].astype(np.float64)


def chances_of_best(total: int, count: int) -> Float[np.ndarray, ' {total}']:
  """Chance of the i-th best of `total` to be the best of `count` of them.

  The `count` are drawn without replacement: the i-th best is that of
  C(total - i, count - 1) of the C(total, count) subsets.

  Args:
    total: >= 1.
    count: from 1 to `total`.
  """
  behind = np.arange(total - 1, -1, -1.0)
  # Logarithms of C(behind, count - 1), which may overflow, up to a constant;
  # gammaln(0) is infinite: with too few behind, of no subset.
  log_subsets = special.gammaln(behind + 1) - special.gammaln(
    np.maximum(behind - count + 2, 0)
  )
  chances = np.exp(log_subsets - np.max(log_subsets))
  return chances / np.sum(chances)


def quantile_peak(
  win_rates: Float[np.ndarray, '*any points'], quantile: float = 0.9
) -> Float[np.ndarray, '*any'] | float:
  """The level that the best tenth of all checkpoints reach.

  Source: Tang et al. 2024, fig. 11, https://arxiv.org/abs/2405.08448; numpy's
  linear rule between points is ours.
  """
  return np.quantile(win_rates, quantile, axis=-1)


def recovered_share(
  win_rates: Float[np.ndarray, '*any 3'],
) -> Float[np.ndarray, '*any'] | float:
  """(recovered - offline) / (online - offline) of the last axis, in that order:

  offline, recovered, online. nan where online and offline are equal.
  """
  offline, recovered, online = np.moveaxis(win_rates, -1, 0)
  with np.errstate(divide='ignore', invalid='ignore'):
    share = np.asarray((recovered - offline) / (online - offline))
  return np.where(online == offline, np.nan, share)[()]


def recovery(
  offline: Sequence[Float[np.ndarray, ' _']],
  recovered: Sequence[Float[np.ndarray, ' _']],
  online: Sequence[Float[np.ndarray, ' _']],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Effect:
  """Share of the gap from offline to online that a third method recovers.

  The share of the means over seeds, on the same prompts for all three.
  Undefined, that is nan, unless the interval of online - offline lacks 0.

  Args:
    offline: of each seed, wins by prompt, such as `peak_wins`.
    recovered: of the third method, on the same prompts.
    online: of the method ahead, on the same prompts.
    rng: seeded by the caller.
    num_resamples: of the bootstrap.
  """
  if not len(offline) == len(recovered) == len(online) > 0:
    raise errors.InputError(
      'A recovery needs the same seeds of three methods, got'
      f' {len(offline)}, {len(recovered)} and {len(online)}.'
      ' Compare the seeds that all have run.'
    )
  estimates = [
    estimate_means(np.stack(wins), rng, num_resamples=num_resamples)
    for wins in zip(offline, recovered, online)
  ]
  return recovery_of(estimates, rng)


def recovery_of(
  estimates: Sequence[Sequence[Estimate]], rng: np.random.Generator
) -> Effect:
  """As `recovery`, of (offline, recovered, online) of each seed.

  The three are drawn on the same prompts by `estimate_means`.
  """
  gap = combine([difference(each[2], each[0]) for each in estimates], rng)
  effect = combine_function(recovered_share, estimates, rng)
  if not (gap.interval.low > 0 or gap.interval.high < 0):
    nothing = Interval(np.nan, np.nan)
    return effect._replace(mean=np.nan, interval=nothing, equivalence=nothing)
  return effect


def _by_selection(curve: Curve) -> np.ndarray:
  """Checkpoints from the best on the selection half to the worst."""
  rates = np.mean(curve.selection_wins, axis=1, dtype=np.float64)
  return np.argsort(-rates, kind='stable')
