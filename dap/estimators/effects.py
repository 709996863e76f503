"""Layer 1. Estimates of one seed, and what several seeds say together; numpy.

Two levels vary: prompts (or pairs, or runs) within a seed, and seeds. An
`Estimate` has bootstrap draws over the first; `combine` adds the second.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real, Shaped
from scipy import special

from dap import errors
from dap.estimators.win_rate import (
  ENOUGH_PROMPTS,
  ROUNDING,
  Interval,
  exact,
  percentile_interval,
  resampled_means,
)

ENOUGH_SEEDS = 4  # to speak of algorithms, not of these seeds alone
_CHUNK = 2**20  # numbers in memory at once while resampling

# Takes [*any, quantities] to [*any].
OfMeans = Callable[[np.ndarray], np.ndarray | float]


class Estimate(NamedTuple):
  """A number of one seed and bootstrap draws of it; nan where undefined.

  Draws over fewer than `ENOUGH_PROMPTS` prompts are nan: their spread is no
  interval, however many seeds there are.
  """

  value: float
  draws: Float[np.ndarray, ' resamples']


class Effect(NamedTuple):
  """A number of the whole study.

  Attributes:
    mean: over the seeds where it is defined; nan where there is none.
    interval: 95 %, never of width 0; nan where the prompts are too few or all
      of them alike, on all seeds.
    equivalence: 90 %: a test of equivalence at 5 % asks whether it lies within
      the margins.
    by_seed: of each seed; nan where it is undefined.
    conditional: it holds for these seeds alone, being of fewer than four.
  """

  mean: float
  interval: Interval
  equivalence: Interval
  by_seed: Float[np.ndarray, ' seeds']
  conditional: bool


def resample_weights(
  count: int, rng: np.random.Generator, num_resamples: int
) -> Float[np.ndarray, 'resamples {count}']:
  """Share of each of `count` rows in draws of all rows with replacement.

  `weights @ values` are resampled means: of several arrays about the same
  prompts, on the same resampled prompts.
  """
  _check_rows(count)
  drawn = rng.integers(0, count, (num_resamples, count), dtype=np.int32)
  drawn = drawn + count * np.arange(num_resamples)[:, None]
  times = np.bincount(drawn.ravel(), minlength=num_resamples * count)
  return times.reshape(num_resamples, count) / count


def estimate_mean(
  values: Real[np.ndarray, ' prompts'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Estimate:
  """Mean over prompts; of paired differences it is the paired bootstrap.

  Args:
    values: one number for each prompt of one seed.
    rng: seeded by the caller.
    num_resamples: of the prompts.
  """
  _check_rows(len(values))
  if len(values) < ENOUGH_PROMPTS:
    draws = np.full(num_resamples, np.nan)
  else:  # quicker than weights
    draws = resampled_means(values, rng, num_resamples)
  return Estimate(float(np.mean(values, dtype=np.float64)), draws)


def estimate_means(
  values: Real[np.ndarray, 'quantities prompts'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> list[Estimate]:
  """Mean over prompts of each row, all on the same resampled prompts.

  Such estimates may be subtracted or divided draw by draw. They are also those
  of `estimate_mean` with an equal generator.
  """
  draws = _resampled_means(values, rng, num_resamples)
  means = [float(np.mean(row, dtype=np.float64)) for row in values]
  return [Estimate(mean, drawn) for mean, drawn in zip(means, draws.T)]


def estimate_of_means(
  function: OfMeans,
  values: Real[np.ndarray, 'quantities prompts'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Estimate:
  """A function of several means over the same prompts.

  Such as the slope over steps of the accuracy at each step, or a quantile over
  checkpoints of their win rates. Far quicker than `estimate`.

  Args:
    function: of means along the last axis, any axes before it.
    values: one row for each quantity.
    rng: seeded by the caller.
    num_resamples: of the prompts.
  """
  means = np.asarray(np.mean(values, axis=1, dtype=np.float64))
  draws = function(_resampled_means(values, rng, num_resamples))
  return Estimate(float(function(means)), np.asarray(draws))


def estimate(
  statistic: Callable[..., float],
  rows: Sequence[Shaped[np.ndarray, 'rows ...']],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Estimate:
  """Any statistic of rows that are drawn with replacement.

  Args:
    statistic: of as many arrays as `rows` has.
    rows: arrays whose first axes are the same prompts, pairs or runs.
    rng: seeded by the caller.
    num_resamples: calls of `statistic`.
  """
  counts = {len(array) for array in rows}
  if len(counts) != 1 or not min(counts):
    raise errors.InputError(
      'A bootstrap needs arrays with the same rows, at least one, got'
      f' {[len(array) for array in rows]} rows. Is the evaluation empty?'
    )
  count = counts.pop()
  drawn = (rng.integers(0, count, count) for _ in range(num_resamples))
  draws = [statistic(*(array[i] for array in rows)) for i in drawn]
  return Estimate(float(statistic(*rows)), np.array(draws, np.float64))


def difference(first: Estimate, second: Estimate) -> Estimate:
  """First less second, both drawn on the same prompts by `estimate_means`.

  Of estimates drawn apart the draws are those of a difference without pairs.
  """
  return Estimate(first.value - second.value, first.draws - second.draws)


def combine(estimates: Sequence[Estimate], rng: np.random.Generator) -> Effect:
  """The mean over seeds.

  With four seeds or more each end of an interval is the farther of two:
  of a bootstrap of seeds and prompts, and of Student's t over the seeds'
  values. The bootstrap alone is too narrow with so few seeds: it divides by n
  where n - 1 is due, and has normal tails (Hesterberg 2015,
  https://arxiv.org/abs/1411.5279, section 3.2); t alone is by luck narrower
  than what the prompts of these seeds allow. With fewer seeds they are held
  fixed, and only prompts vary.

  The two levels are drawn apart and added, which has the variance of drawing
  prompts within drawn seeds. Draw number i is the same of all seeds: where
  seeds share their prompts, estimates drawn by equal generators keep that, and
  where they do not, equal generators do no harm.

  Args:
    estimates: one of each seed; those with a value of nan are left out.
    rng: seeded by the caller; for the seeds.
  """
  first = lambda means: means[..., 0]
  return combine_function(first, [[each] for each in estimates], rng)


def combine_function(
  function: OfMeans,
  estimates: Sequence[Sequence[Estimate]],
  rng: np.random.Generator,
) -> Effect:
  """A function of the means over seeds of several quantities.

  Such as a ratio, which is steadier of means than as a mean of ratios. The t
  interval is that of the jackknife's pseudo-values; otherwise as `combine`.

  Args:
    function: of means along the last axis, any axes before it.
    estimates: for each seed the same quantities in the same order, drawn on
      the same prompts; a seed with a nan among them is left out.
    rng: seeded by the caller; for the seeds.
  """
  draws = _stacked(estimates)
  values = np.array([[each.value for each in seed] for seed in estimates])
  by_seed = exact(np.asarray(function(values), np.float64))
  valid = ~np.isnan(values).any(axis=1)
  values, draws = values[valid], draws[valid]
  conditional = len(values) < ENOUGH_SEEDS
  if not len(values):
    nothing = Interval(np.nan, np.nan)
    return Effect(np.nan, nothing, nothing, by_seed, conditional)
  mean = np.mean(values, axis=0)
  drawn = np.mean(draws, axis=0).T
  pseudo = None
  if not conditional:
    weights = resample_weights(len(values), rng, len(drawn))
    drawn = drawn + (weights @ values - mean)
    others = (np.sum(values, axis=0) - values) / (len(values) - 1)
    rest = np.asarray(function(others))
    with np.errstate(invalid='ignore'):  # of infinities
      pseudo = len(values) * function(mean) - (len(values) - 1) * rest
  drawn = np.asarray(function(drawn))
  wide, narrow = (_interval(drawn, pseudo, level) for level in (0.95, 0.9))
  wide, narrow = Interval(*map(exact, wide)), Interval(*map(exact, narrow))
  return Effect(exact(function(mean)), wide, narrow, by_seed, conditional)


def bounded(effect: Effect, low: float, high: float) -> Effect:
  """The effect with intervals cut to what its quantity can be.

  Student's t knows no bounds, and is symmetric about means that lie near one.

  Args:
    effect: of a quantity within [low, high].
    low: such as 0 of an accuracy, -1 of a correlation.
    high: such as 1 of either.
  """
  wide, narrow = (
    _of_some_width(*(float(np.clip(end, low, high)) for end in interval))
    for interval in (effect.interval, effect.equivalence)
  )
  return effect._replace(interval=wide, equivalence=narrow)


def p_value(effect: Effect, value: float = 0.0) -> float:
  """Two-sided, that the effect is `value`: < .05 where the interval lacks it.

  The distance of `value` is counted in the interval's own half on that side:
  in Student's t over seeds, or normal where the seeds are held fixed. nan
  where the effect or its interval is.
  """
  seeds = int(np.sum(~np.isnan(effect.by_seed)))
  freedom = np.inf if effect.conditional else seeds - 1
  low, high = effect.interval
  half = effect.mean - low if value < effect.mean else high - effect.mean
  away = abs(value - effect.mean)
  if np.isnan(half + away):
    return np.nan
  scale = special.stdtrit(freedom, 0.975)
  return float(2 * special.stdtr(freedom, -scale * away / half))


def _check_rows(count: int) -> None:
  if count < 1:
    raise errors.InputError(
      f'A bootstrap needs at least one row, got {count}.'
      ' Is the evaluation empty?'
    )


def _resampled_means(values, rng, num_resamples):
  """[resamples, quantities] of values [quantities, prompts]."""
  if 0 < values.shape[1] < ENOUGH_PROMPTS:
    return np.full((num_resamples, len(values)), np.nan)
  columns = values.T.astype(np.float64)
  return np.concatenate(
    list(_chunks(columns, rng, num_resamples))
    or [np.empty((0, columns.shape[1]))]
  )


def _chunks(
  columns: np.ndarray, rng: np.random.Generator, num_resamples: int
) -> Iterator[np.ndarray]:
  rows = max(1, _CHUNK // max(1, len(columns)))
  for start in range(0, num_resamples, rows):
    size = min(rows, num_resamples - start)
    yield resample_weights(len(columns), rng, size) @ columns


def _stacked(estimates: Sequence[Sequence[Estimate]]) -> np.ndarray:
  """Draws [seeds, quantities, resamples]."""
  lengths = {len(each.draws) for seed in estimates for each in seed}
  quantities = {len(seed) for seed in estimates}
  if len(lengths) != 1 or len(quantities) != 1:
    raise errors.InputError(
      'Seeds are combined from as many quantities and draws of each, got'
      f' {sorted(quantities)} quantities and {sorted(lengths)} draws. Give at'
      ' least one seed, and one num_resamples to all.'
    )
  return np.array([[each.draws for each in seed] for seed in estimates])


def _interval(drawn, pseudo, level) -> Interval:
  """Of the draws and, where pseudo-values of seeds are given, of their t."""
  defined = drawn[~np.isnan(drawn)]
  if 2 * len(defined) < len(drawn):  # the statistic hardly ever exists
    return Interval(np.nan, np.nan)
  if not np.isfinite(defined).all():  # infinities: no middle, no Student's t
    ends = [0.5 * (1 - level), 0.5 * (1 + level)]
    low, high = np.quantile(defined, ends, method='nearest')
    return Interval(float(low), float(high))
  low, high = percentile_interval(defined, level)
  if pseudo is None:
    return _of_some_width(low, high)
  error = np.std(pseudo, ddof=1) / np.sqrt(len(pseudo))
  half = special.stdtrit(len(pseudo) - 1, 0.5 * (1 + level)) * error
  middle = np.mean(pseudo)
  ends = float(middle - half), float(middle + half)
  return _of_some_width(min(low, ends[0]), max(high, ends[1]))


def _of_some_width(low: float, high: float) -> Interval:
  """Where all that was seen is alike, nothing is known of what was not."""
  certain = high - low <= ROUNDING
  return Interval(np.nan, np.nan) if certain else Interval(low, high)
