"""Layer 1. Comparison of methods at equal KL, over seeds and prompts; numpy."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dap import errors
from dap.estimators.effects import (
  Effect,
  Estimate,
  combine,
  estimate_mean,
  resample_weights,
)
from dap.estimators.win_rate import (
  ENOUGH_PROMPTS,
  Interval,
  percentile_interval,
  resampled_means,
)


class Curve(NamedTuple):
  """The checkpoints of one method and one seed.

  Prompts are split in two: checkpoints are chosen on the selection half and
  judged on the test half, so that the luckiest of many does not look best.
  `crossed` lets each half be both.
  """

  kl: Float[np.ndarray, ' points']
  selection_wins: Float[np.ndarray, 'points selection_prompts']
  test_wins: Float[np.ndarray, 'points test_prompts']

  @property
  def exchanged(self) -> 'Curve':
    """The same checkpoints, chosen on what was the test half."""
    return Curve(self.kl, self.test_wins, self.selection_wins)


class Gap(NamedTuple):
  """A difference of win rates at equal KL, first method less second.

  All are nan where no window holds a checkpoint of both methods; `by_seed` is
  nan for the seeds without one, which `mean` and the intervals leave out.
  """

  effect: Effect
  num_windows: Int[np.ndarray, ' seeds']

  @property
  def mean(self) -> float:
    """Over seeds."""
    return self.effect.mean

  @property
  def interval(self) -> Interval:
    """95 %."""
    return self.effect.interval

  @property
  def by_seed(self) -> Float[np.ndarray, ' seeds']:
    """Of each seed."""
    return self.effect.by_seed


def selection_half(
  prompt_ids: Int[np.ndarray, ' prompts'], salt: int = 0
) -> Bool[np.ndarray, ' prompts']:
  """Whether a prompt is of the selection half: a hash of its id, fixed.

  Source: the mixing steps of SplitMix64, https://doi.org/10.1145/2714064.2660195.
  """
  golden = np.uint64(0x9E3779B97F4A7C15)
  mixed = np.uint64(salt) + (prompt_ids.astype(np.uint64) + 1) * golden
  mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return (mixed ^ (mixed >> np.uint64(31))) % np.uint64(2) == 0


def kl_bins(
  edges: Sequence[float],
) -> Float[np.ndarray, 'windows 2']:
  """Adjacent windows [low, high) between increasing KLs, in nats."""
  return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.float64)


def log_kl_windows(
  low: float, high: float, *, num_windows: int = 10, half_width: float = 0.1
) -> Float[np.ndarray, 'windows 2']:
  """Windows evenly spaced in log KL, each `half_width` wide to either side.

  Args:
    low: centre of the first window, nats, > 0.
    high: centre of the last, nats, > low.
    num_windows: how many; neighbours may overlap.
    half_width: in natural logarithms of the KL.
  """
  if not 0 < low < high:
    raise errors.InputError(
      f'Windows in log KL need 0 < low < high, got {low} and {high}.'
      ' Choose a range of KL that both methods reach.'
    )
  centres = np.linspace(np.log(low), np.log(high), num_windows)
  return np.exp(np.stack([centres - half_width, centres + half_width], axis=1))


def budgets(
  low: float, high: float, *, num_windows: int = 10
) -> Float[np.ndarray, 'windows 2']:
  """Windows [0, budget] for budgets evenly spaced in log KL.

  The envelope over them is the best that a method reaches within a budget. They
  are filled where a method has any checkpoint as near as that, also one whose
  checkpoints leave gaps that `log_kl_windows` fall into.

  Args:
    low: smallest budget, nats, > 0.
    high: largest, nats, > low.
    num_windows: how many.
  """
  if not 0 < low < high:
    raise errors.InputError(
      f'Budgets of KL need 0 < low < high, got {low} and {high}.'
    )
  ends = np.geomspace(low, high, num_windows) * (1 + 1e-9)  # that KL included
  return np.stack([np.zeros(num_windows), ends], axis=1)


def envelope(
  curve: Curve, windows: Float[np.ndarray, 'windows 2']
) -> Float[np.ndarray, 'windows test_prompts']:
  """Test wins of the best checkpoint of each window, nan where there is none.

  Best is the highest mean on the selection half, the earliest of equals. One
  window from 0 to infinity gives the peak.
  """
  rates = np.mean(curve.selection_wins, axis=1, dtype=np.float64)
  wins = np.full((len(windows), curve.test_wins.shape[1]), np.nan)
  for row, inside in zip(wins, _inside(curve, windows)):
    if np.any(inside):
      row[:] = curve.test_wins[np.argmax(np.where(inside, rates, -np.inf))]
  return wins


def crossed(
  curve: Curve, judged: Callable[[Curve], np.ndarray]
) -> Float[np.ndarray, '*any prompts']:
  """What is `judged` on the test half, of all prompts: cross-fitting.

  Each half judges the checkpoints that the other half chose, so that all
  prompts count and none judges its own choice.

  Source: Chernozhukov et al. 2018, section 3, https://doi.org/10.1111/ectj.12097.

  Args:
    curve: of one method and seed.
    judged: such as `peak_wins`: of a curve, values of its test prompts along
      the last axis.

  Returns:
    Of the selection prompts, then of the test prompts.
  """
  halves = judged(curve.exchanged), judged(curve)
  return np.concatenate(halves, axis=-1)


def crossed_envelope(
  curve: Curve, windows: Float[np.ndarray, 'windows 2']
) -> Float[np.ndarray, 'windows prompts']:
  """`envelope`, crossed; nan in empty windows."""
  return crossed(curve, lambda half: envelope(half, windows))


def gap_of_chosen(
  first: Curve,
  second: Curve,
  windows: Float[np.ndarray, 'windows 2'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Estimate:
  """Gap of one seed, over all prompts; the draws are of these, in pairs.

  Each half of the prompts judges the checkpoints that the other half chose.
  They are chosen once: what other prompts would have chosen is not in the
  interval.
  """
  above, below = (crossed_envelope(each, windows) for each in (first, second))
  differences = above - below
  shared = differences[~np.isnan(differences).any(axis=1)]
  if not len(shared):
    return Estimate(np.nan, np.full(num_resamples, np.nan))
  values = np.mean(shared, axis=0)
  return estimate_mean(values, rng, num_resamples=num_resamples)


def gap_of_choosing(
  first: Curve,
  second: Curve,
  windows: Float[np.ndarray, 'windows 2'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Estimate:
  """`gap_of_chosen`; in each draw checkpoints are chosen anew.

  The draws are of each half, the same for both methods, so that the interval
  has the luck of the choice in it. It lies lower for the method with more
  checkpoints: of a resampled half the choice is worse.
  """
  value = gap_of_chosen(first, second, windows, rng, num_resamples=1).value
  if np.isnan(value):
    return Estimate(np.nan, np.full(num_resamples, np.nan))
  counts = [first.selection_wins.shape[1], first.test_wins.shape[1]]
  if min(counts) < ENOUGH_PROMPTS:
    return Estimate(value, np.full(num_resamples, np.nan))
  num_points = len(first.kl) + len(second.kl)
  rows = max(1, 2**20 // max(sum(counts), len(windows) * num_points))
  draws = []
  for start in range(0, num_resamples, rows):
    size = min(rows, num_resamples - start)
    selection, test = (resample_weights(n, rng, size) for n in counts)
    each = [
      _chosen(one, windows, chooses, judges)
      - _chosen(other, windows, chooses, judges)
      for one, other, chooses, judges in (
        (first.exchanged, second.exchanged, test, selection),
        (first, second, selection, test),
      )
    ]
    above = np.average(each, axis=0, weights=counts)
    draws.append(np.nanmean(above, axis=1))
  return Estimate(value, np.concatenate(draws))


def matched_kl_gap(
  first: Sequence[Curve],
  second: Sequence[Curve],
  windows: Float[np.ndarray, 'windows 2'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
  of_seed: Callable[..., Estimate] = gap_of_chosen,
) -> Gap:
  """How far the first method's envelope is above the second's at equal KL.

  The mean, over the windows that hold checkpoints of both, of the difference
  of crossed envelopes; then over seeds, with the intervals of `combine`.

  Args:
    first: one curve for each seed.
    second: the same seeds in the same order, on the same prompts.
    windows: `kl_bins` or `log_kl_windows`; one window gives one row of a table.
    rng: seeded by the caller.
    num_resamples: of the bootstrap.
    of_seed: `gap_of_chosen`, or `gap_of_choosing` to choose again in each draw.
  """
  if len(first) != len(second) or not first:
    raise errors.InputError(
      'A gap needs one curve per seed of each method, got'
      f' {len(first)} and {len(second)}. Compare the seeds that both have run.'
    )
  inside = [
    [_inside(curve, windows).any(axis=1) for curve in pair]
    for pair in zip(first, second)
  ]
  num_windows = np.array([np.sum(a & b) for a, b in inside])
  estimates = [
    of_seed(a, b, windows, rng, num_resamples=num_resamples)
    for a, b in zip(first, second)
  ]
  return Gap(combine(estimates, rng), num_windows)


def recovery_ratio(
  offline: float, recovered: float, online: float, gap: Interval
) -> float:
  """Share of the gap from offline to online that a third method recovers.

  Args:
    offline: peak win rate of the method behind.
    recovered: that of the third method.
    online: that of the method ahead.
    gap: interval of online - offline; nan is returned unless it lacks 0.
  """
  if not (gap.low > 0 or gap.high < 0):
    return np.nan
  return (recovered - offline) / (online - offline)


def seeds_bootstrap_interval(
  values: Sequence[Float[np.ndarray, ' _']],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
  level: float = 0.95,
) -> Interval:
  """Percentile interval of the mean over seeds of the mean over prompts.

  Seeds are resampled, and for each of them its prompts; one seed alone gives
  the plain bootstrap over prompts.

  Args:
    values: for each seed, one number for each prompt.
    rng: seeded by the caller.
    num_resamples: of the whole.
    level: of the interval.
  """
  num_seeds = len(values)
  drawn = rng.integers(0, num_seeds, (num_resamples, num_seeds))
  means = np.empty(drawn.shape)
  for seed, of_prompts in enumerate(values):
    here = drawn == seed
    means[here] = resampled_means(of_prompts, rng, int(np.sum(here)))
  return percentile_interval(np.mean(means, axis=1), level)


def _inside(curve: Curve, windows: np.ndarray) -> np.ndarray:
  """[windows, points] bool."""
  return (windows[:, :1] <= curve.kl) & (curve.kl < windows[:, 1:])


def _chosen(curve, windows, selection, test):
  """Win rates [resamples, windows] of the checkpoints that draws choose.

  `selection` and `test` are `resample_weights` of the two halves.
  """
  inside = _inside(curve, windows)
  rates = selection @ curve.selection_wins.T.astype(np.float64)
  best = np.argmax(np.where(inside, rates[:, None], -np.inf), axis=2)
  judged = test @ curve.test_wins.T.astype(np.float64)
  chosen = np.take_along_axis(judged, best, axis=1)
  return np.where(inside.any(axis=1), chosen, np.nan)
