"""Layer 1. Win rates, accuracies and their intervals; numpy, on the host.

A win is 1, a loss 0 and a tie 1/2, one number per prompt; a mean of wins is a
win rate against the opponent that the caller names.
"""

import math
import statistics
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from dap import errors

# Of prompts, for an interval over them. Percentile intervals are those of a
# normal with variance over n: with 20 prompts they are 1.96 * sqrt(19 / 20)
# standard errors wide to each side where Student's t wants 2.09, 9 % too
# little; with 10 it is 18 %, and with one the width is 0.
ENOUGH_PROMPTS = 20
ROUNDING = 1e-14  # below it, of numbers near 1, is what sums in float64 leave


class Interval(NamedTuple):
  """A confidence interval."""

  low: float
  high: float


class Difference(NamedTuple):
  """A mean of paired differences and its standard error."""

  mean: float
  standard_error: float


def sign_rule_wins(
  preference_ab: Float[np.ndarray, ' prompts'],
  preference_ba: Float[np.ndarray, ' prompts'],
) -> Float[np.ndarray, ' prompts']:
  """Wins of response a by a preference model that was asked in both orders.

  A model that only likes the first place ties: it cannot make a winner.

  Args:
    preference_ab: probability or log-odds that the response shown first is
      preferred, when a is shown first.
    preference_ba: the same when b is shown first.

  Source: Tang et al. 2024, A.2, https://arxiv.org/abs/2405.08448; ties ours.
  """
  ahead = np.asarray(preference_ab, np.float64) - preference_ba
  return margin_wins(ahead)


def margin_wins(
  margins: Shaped[np.ndarray, '*shape'],
) -> Float[np.ndarray, '*shape']:
  """1 where a margin is positive, 0 where it is negative, 1/2 for none."""
  return 0.5 * (np.sign(margins) + 1)


def verdict_wins(
  a_wins_first: Bool[np.ndarray, ' prompts'],
  a_wins_second: Bool[np.ndarray, ' prompts'],
) -> Float[np.ndarray, ' prompts']:
  """Wins of a by a judge of yes and no: two verdicts that disagree tie.

  Args:
    a_wins_first: whether a was preferred when it was shown first.
    a_wins_second: the same when a was shown second.
  """
  return 0.5 * (a_wins_first.astype(np.float64) + a_wins_second)


def win_rate(
  preference_ab: Float[np.ndarray, ' prompts'],
  preference_ba: Float[np.ndarray, ' prompts'],
) -> float:
  """Mean of `sign_rule_wins`."""
  return float(np.mean(sign_rule_wins(preference_ab, preference_ba)))


def wilson_interval(
  successes: float, trials: int, *, level: float = 0.95
) -> Interval:
  """Wilson's score interval of a binomial proportion; ties count as halves.

  Raises:
    InputError: unless 0 <= successes <= trials and trials > 0.
  """
  if not 0 <= successes <= trials or trials == 0:
    raise errors.InputError(
      'A proportion needs 0 <= successes <= trials and trials > 0, got'
      f' {successes} of {trials}. Is the evaluation empty?'
    )
  z = statistics.NormalDist().inv_cdf(0.5 * (1 + level))
  rate, spread = successes / trials, z * z / trials
  centre = (rate + 0.5 * spread) / (1 + spread)
  variance = rate * (1 - rate) / trials + 0.25 * spread / trials
  half = z * math.sqrt(variance) / (1 + spread)
  # Rounding alone can put an end past the rate, at rates of 0 and 1.
  low, high = min(rate, centre - half), max(rate, centre + half)
  return Interval(max(0.0, low), min(1.0, high))


def resampled_means(
  values: Float[np.ndarray, ' prompts'],
  rng: np.random.Generator,
  num_resamples: int,
) -> Float[np.ndarray, ' resamples']:
  """Means of `num_resamples` draws of all prompts with replacement."""
  count = len(values)
  means = np.empty(num_resamples)
  chunk = max(1, 2**20 // count)
  for start in range(0, num_resamples, chunk):
    rows = min(chunk, num_resamples - start)
    drawn = rng.integers(0, count, (rows, count), dtype=np.int32)
    means[start : start + rows] = np.mean(
      values[drawn], axis=1, dtype=np.float64
    )
  return means


def percentile_interval(
  statistic: Float[np.ndarray, ' resamples'], level: float = 0.95
) -> Interval:
  """The central `level` of a resampled statistic."""
  low, high = np.quantile(statistic, [0.5 * (1 - level), 0.5 * (1 + level)])
  return Interval(float(low), float(high))


def bootstrap_interval(
  values: Float[np.ndarray, ' prompts'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
  level: float = 0.95,
) -> Interval:
  """Percentile bootstrap interval of the mean over prompts.

  Of paired differences it is the paired bootstrap.
  """
  if len(values) == 0:
    raise errors.InputError(
      'A bootstrap needs at least one prompt, got none.'
      ' Is the evaluation empty?'
    )
  means = resampled_means(values, rng, num_resamples)
  return percentile_interval(means, level)


def win_rate_interval(
  wins: Float[np.ndarray, ' prompts'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Interval | None:
  """95 % interval: Wilson's when under 5 % are ties, else the bootstrap's.

  None where prompts tell none: see `interval_over_prompts`.
  """
  if len(wins) < ENOUGH_PROMPTS:
    return None
  if np.mean(wins == 0.5) < 0.05:
    return wilson_interval(float(np.sum(wins, dtype=np.float64)), len(wins))
  return interval_over_prompts(wins, rng, num_resamples=num_resamples)


def interval_over_prompts(
  values: Float[np.ndarray, ' prompts'],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Interval | None:
  """95 % bootstrap interval of a mean, or None: it is never of width 0.

  Fewer prompts than `ENOUGH_PROMPTS` give none, and neither do prompts that
  are all alike: their spread says nothing of others.
  """
  if len(values) < ENOUGH_PROMPTS:
    return None
  interval = bootstrap_interval(values, rng, num_resamples=num_resamples)
  return interval if interval.high - interval.low > ROUNDING else None


def exact(value: float | Float[np.ndarray, '...']) -> Any:  # as it came
  """The number, or 0 where it is rounding alone: sums that cancel are 0."""
  cleaned = np.where(np.abs(value) < ROUNDING, 0.0, value)
  return float(cleaned) if np.ndim(cleaned) == 0 else cleaned


def paired_difference(
  first: Float[np.ndarray, ' prompts'], second: Float[np.ndarray, ' prompts']
) -> Difference:
  """Mean of first - second on the same prompts, with sd / sqrt(prompts)."""
  differences = np.asarray(first, np.float64) - second
  deviation = float(np.std(differences, ddof=1))
  return Difference(
    exact(float(np.mean(differences))), deviation / math.sqrt(len(differences))
  )


def mcnemar(first_only: int, second_only: int) -> float:
  """Exact two-sided p-value that two policies win equally often.

  Args:
    first_only: prompts on which the first alone won; ties have no place here.
    second_only: prompts on which the second alone won.
  """
  trials, fewer = first_only + second_only, min(first_only, second_only)
  tail = sum(math.comb(trials, k) for k in range(fewer + 1))
  return min(1.0, 2 * tail / 2**trials)


def classification_accuracy(margins: Float[np.ndarray, ' pairs']) -> float:
  """Share of pairs with a positive margin, a margin of 0 counting half.

  The margin of a policy is its log-ratio of the chosen response less that of
  the rejected; of a preference model, the difference of its two orders.
  """
  return float(np.mean(margin_wins(margins)))


def relative_log_prob(
  log_ratios: Float[np.ndarray, ' responses'],
) -> float:
  """Mean log policy - log reference of given responses, such as the chosen.

  Nats per response of `losses.log_ratio`, or per token of `mean_log_ratio`.
  """
  return float(np.mean(log_ratios, dtype=np.float64))
