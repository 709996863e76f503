"""Layer 7. Arms compared on the seeds and prompts that they share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dap import estimators
from dap.errors import InputError
from dap.estimators import Curve, Effect, Estimate, Gap
from dap.estimators.effects import OfMeans
from dap.study.analyses.claims import Finding, Unreached
from dap.study.reading import frontiers
from dap.study.reading.evidence import Evidence, Setting
from dap.study.reading.frontiers import Frontier

LEAST_KL = 0.5  # nats: nearer to the SFT policy all arms are alike
NUM_WINDOWS = 10
HALF_WIDTH = 0.1  # of a window, in ln KL, where windows are not farther apart
RESAMPLES = 10_000
FEWER = 2_000  # where a draw costs more than a mean
_SEED = 2405_08448

# An arm, or its run with a setting.
Side = str | tuple[str, Setting | None]


class Shared(NamedTuple):
  """Arms on the seeds that all of them have.

  Attributes:
    seeds: ascending.
    frontiers: for each seed those of the arms, in the order asked.
    remark: which seeds are left out; empty where none is.
  """

  seeds: list[int]
  frontiers: list[tuple[Frontier, ...]]
  remark: str

  def curves(self, arm: int) -> list[Curve]:
    """Of the arm at this place, one for each seed."""
    return [each[arm].curve for each in self.frontiers]

  def peak_kl(self, arm: int) -> list[float]:
    """KL of the peak of the arm at this place, nats, by seed."""
    curves = self.curves(arm)
    return [float(each.kl[estimators.peak_index(each)]) for each in curves]


def rng() -> np.random.Generator:
  """The same for each estimate, so that equal studies have equal reports."""
  return np.random.default_rng(_SEED)


def shared(
  evidence: Evidence,
  arms: Sequence[Side],
  read: frontiers.Read = frontiers.wins,
) -> Shared:
  """The arms, or runs of arms with a setting, on the seeds that all have.

  Raises:
    Unreached: there is no such seed.
    InputError: arms of one seed were asked other prompts.
  """
  sides = [(arm, None) if isinstance(arm, str) else arm for arm in arms]
  found = [
    frontiers.frontiers(evidence, arm, setting, read) for arm, setting in sides
  ]
  for (arm, setting), of_seeds in zip(sides, found):
    if not of_seeds:
      run = '' if setting is None else f' at {setting}'
      raise Unreached(f'There are no evaluated checkpoints of {arm}{run}.')
  names = [arm for arm, _ in sides]
  seeds = sorted(set.intersection(*(set(each) for each in found)))
  if not seeds:
    raise Unreached(f'No seed has all of {", ".join(names)}.')
  together = [tuple(each[seed] for each in found) for seed in seeds]
  for seed, of_arms in zip(seeds, together):
    _check_prompts(seed, names, of_arms)
  return Shared(seeds, together, left_out(evidence, seeds))


def left_out(evidence: Evidence, seeds: Sequence[int]) -> str:
  """A sentence about the study's other seeds; empty where there is none."""
  others = [str(seed) for seed in evidence.seeds if seed not in seeds]
  if not others:
    return ''
  end = 'which lacks it' if len(others) == 1 else 'which lack it'
  word = 'seed' if len(others) == 1 else 'seeds'
  return f'Without {word} {", ".join(others)}, {end}.'


def of_prompts(arms: Shared, values: Callable[..., np.ndarray]) -> Effect:
  """Mean over prompts and seeds of a value of each prompt.

  Args:
    arms: compared.
    values: of the frontiers of one seed to one number for each prompt.
  """
  estimates = [
    estimators.estimate_mean(values(*each), rng(), num_resamples=RESAMPLES)
    for each in arms.frontiers
  ]
  return estimators.combine(estimates, rng())


def of_means(
  arms: Shared,
  function: OfMeans,
  values: Callable[..., np.ndarray],
) -> Effect:
  """A function of several means over prompts, of their means over seeds.

  Args:
    arms: compared.
    function: of means along the last axis.
    values: of the frontiers of one seed to [quantities, prompts].
  """
  estimates = [
    estimators.estimate_means(values(*each), rng(), num_resamples=RESAMPLES)
    for each in arms.frontiers
  ]
  return estimators.combine_function(function, estimates, rng())


def peak(frontier: Frontier) -> np.ndarray:
  """Wins of the peak by prompt, each half judged on the other's choice."""
  return estimators.crossed(frontier.curve, estimators.peak_wins)


def at(frontier: Frontier, row: int) -> np.ndarray:
  """Wins of one checkpoint by prompt, in the order of `peak`."""
  return frontier.values[row].astype(np.float64)


def best(evidence: Evidence, arm: str) -> Effect:
  """Win rate of the best checkpoint of an arm.

  Raises:
    Unreached: it has no evaluated checkpoint.
  """
  effect = of_prompts(shared(evidence, (arm,)), peak)
  return estimators.bounded(effect, 0.0, 1.0)


def peak_difference(arms: Shared) -> Effect:
  """Peak of the first arm less that of the second."""
  return of_prompts(arms, lambda first, second: peak(first) - peak(second))


def lead_difference(arms: Shared) -> Effect:
  """The first arm's lead over the second less the third's over the fourth."""
  return of_prompts(
    arms, lambda a, b, c, d: (peak(a) - peak(b)) - (peak(c) - peak(d))
  )


def peak_is_higher(
  evidence: Evidence, first: str, second: str, *beyond: str
) -> Finding:
  """Test of the claim that the peak of the first arm is the higher one.

  With two arms more: that it is higher by more than the one's over the other's.
  """
  arms = shared(evidence, (first, second, *beyond))
  effect = lead_difference(arms) if beyond else peak_difference(arms)
  return Finding(
    estimators.greater(effect), effect, arms.seeds, peaks_in_words(arms)
  )


def peaks_in_words(arms: Shared) -> str:
  """The peaks of the arms, and which seeds are left out."""
  peaks = [
    f'{np.mean([np.mean(peak(each[place])) for each in arms.frontiers]):.3f} at'
    f' {np.mean(arms.peak_kl(place)):.2f} nats'
    for place in range(len(arms.frontiers[0]))
  ]
  return (
    f'Peaks, means over seeds: {" and ".join(peaks)}. {arms.remark}'.strip()
  )


def recovered(arms: Shared) -> Effect:
  """Share of the gap of peaks, offline to online, that the second recovers.

  Args:
    arms: offline, recovered, online.
  """
  offline, third, online = (
    [peak(each[place]) for each in arms.frontiers] for place in range(3)
  )
  return estimators.recovery(
    offline, third, online, rng(), num_resamples=RESAMPLES
  )


def gap(arms: Shared, windows: np.ndarray | None = None) -> Gap:
  """First arm less second at equal KL, nan where they share none.

  Args:
    arms: two.
    windows: of KL; by default over the range that both arms and all seeds
      reach, from `LEAST_KL`.
  """
  if windows is None:
    windows = overlap(arms)
  return estimators.matched_kl_gap(
    arms.curves(0), arms.curves(1), windows, rng(), num_resamples=RESAMPLES
  )


def gap_chosen_anew(arms: Shared, windows: np.ndarray) -> Effect:
  """`gap` whose draws choose their checkpoints on drawn selection prompts."""
  return estimators.matched_kl_gap(
    arms.curves(0),
    arms.curves(1),
    windows,
    rng(),
    num_resamples=FEWER,
    of_seed=estimators.gap_of_choosing,
  ).effect


def overlap(arms: Shared) -> np.ndarray:
  """Windows over the KL that all arms reach, see `kl_overlap`.

  They are evenly spaced in ln KL and leave no room between them.
  """
  low, high = kl_overlap(arms)
  spacing = np.log(high / low) / (NUM_WINDOWS - 1)
  return estimators.log_kl_windows(
    low,
    high,
    num_windows=NUM_WINDOWS,
    half_width=max(HALF_WIDTH, 0.5 * float(spacing)),
  )


def kl_overlap(arms: Shared) -> tuple[float, float]:
  """Nats between which all arms have checkpoints with all seeds.

  From `LEAST_KL` at least.

  Raises:
    Unreached: there is no such range.
  """
  kls = [each.curve.kl for seed in arms.frontiers for each in seed]
  low = max(LEAST_KL, *(float(np.min(kl)) for kl in kls))
  high = min(float(np.max(kl)) for kl in kls)
  if not low < high:
    raise Unreached(
      f'The arms share no KL from {LEAST_KL} nats: one begins at {low:.2f} nats'
      f' where another ends at {high:.2f}.'
    )
  return low, high


def held_windows(windows: np.ndarray, total: int, name: str = 'Windows') -> str:
  """A sentence about the windows that hold checkpoints of both arms."""
  each = ', '.join(map(str, windows))
  return f'{name} with checkpoints of both, of {total}: {each} (by seed).'


def exact(values: Sequence[float]) -> Effect:
  """Of numbers by seed that have no draws: only seeds vary.

  Fewer than four of them have no interval.
  """
  estimates = [
    Estimate(float(value), np.full(RESAMPLES, float(value))) for value in values
  ]
  return estimators.combine(estimates, rng())


def _check_prompts(
  seed: int, arms: Sequence[str], of_arms: Sequence[Frontier]
) -> None:
  for arm, each in zip(arms, of_arms):
    if not np.array_equal(each.prompt_ids, of_arms[0].prompt_ids):
      raise InputError(
        f'Seed {seed}: {arm} was asked other prompts than {arms[0]}. Evaluate'
        ' all runs of a study with one configuration.'
      )
