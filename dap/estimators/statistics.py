"""Layer 1. Comparison of methods at equal KL, over seeds and prompts; numpy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dap import errors
from dap.estimators.win_rate import (
  Interval,
  percentile_interval,
  resampled_means,
)


class Curve(NamedTuple):
  """The checkpoints of one method and one seed.

  Prompts are split in two: checkpoints are chosen on the selection half and
  judged on the test half, so that the luckiest of many does not look best.
  """

  kl: Float[np.ndarray, ' points']
  selection_wins: Float[np.ndarray, 'points selection_prompts']
  test_wins: Float[np.ndarray, 'points test_prompts']


class Gap(NamedTuple):
  """A difference of win rates, first method less second.

  All are nan where no window holds a checkpoint of both methods; `by_seed` is
  nan for the seeds without one, which `mean` and `interval` leave out.
  """

  mean: float
  interval: Interval
  by_seed: Float[np.ndarray, ' seeds']
  num_windows: Int[np.ndarray, ' seeds']


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


def envelope(
  curve: Curve, windows: Float[np.ndarray, 'windows 2']
) -> Float[np.ndarray, 'windows test_prompts']:
  """Test wins of the best checkpoint of each window, nan where there is none.

  Best is the highest mean on the selection half, the earliest of equals. One
  window from 0 to infinity gives the peak.
  """
  rates = np.mean(curve.selection_wins, axis=1, dtype=np.float64)
  wins = np.full((len(windows), curve.test_wins.shape[1]), np.nan)
  for row, (low, high) in zip(wins, windows):
    inside = (low <= curve.kl) & (curve.kl < high)
    if np.any(inside):
      row[:] = curve.test_wins[np.argmax(np.where(inside, rates, -np.inf))]
  return wins


def matched_kl_gap(
  first: Sequence[Curve],
  second: Sequence[Curve],
  windows: Float[np.ndarray, 'windows 2'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Gap:
  """How far the first method's envelope is above the second's at equal KL.

  The mean, over the windows that hold checkpoints of both, of the difference
  of `envelope`s; then over seeds. The interval is a bootstrap of paired prompts
  within resampled seeds; checkpoints are chosen once.

  Args:
    first: one curve for each seed.
    second: the same seeds in the same order, on the same test prompts.
    windows: `kl_bins` or `log_kl_windows`; one window gives one row of a table.
    rng: seeded by the caller.
    num_resamples: of the bootstrap.
  """
  if len(first) != len(second) or not first:
    raise errors.InputError(
      'A gap needs one curve per seed of each method, got'
      f' {len(first)} and {len(second)}. Compare the seeds that both have run.'
    )
  differences = [
    envelope(a, windows) - envelope(b, windows) for a, b in zip(first, second)
  ]
  shared = [d[~np.isnan(d).any(axis=1)] for d in differences]
  num_windows = np.array([len(rows) for rows in shared])
  values = [np.mean(rows, axis=0) for rows in shared if len(rows)]
  by_seed = np.full(len(shared), np.nan)
  by_seed[num_windows > 0] = [np.mean(v) for v in values]
  if not values:
    return Gap(np.nan, Interval(np.nan, np.nan), by_seed, num_windows)
  interval = seeds_bootstrap_interval(values, rng, num_resamples=num_resamples)
  return Gap(float(np.nanmean(by_seed)), interval, by_seed, num_windows)


def recovery_ratio(
  offline: float, recovered: float, online: float, gap: Interval
) -> float:
  """Share of the gap from offline to online that a third method recovers.

  Args:
    offline: peak win rate of the method behind.
    recovered: that of the third method.
    online: that of the method ahead.
    gap: interval of online - offline; nan is returned if it holds 0.
  """
  if gap.low <= 0 <= gap.high:
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
