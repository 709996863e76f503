"""Layer 7. Policies and preference models as classifiers, by pair."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dap import estimators
from dap.estimators import Effect, Estimate
from dap.estimators.effects import OfMeans
from dap.study.analyses import comparisons
from dap.study.analyses.claims import Unreached
from dap.study.reading import runs as points_lib
from dap.study.reading.evidence import Evidence, Setting
from dap.study.reading.runs import Point

Arrays = Mapping[str, np.ndarray]


class OfGolden(NamedTuple):
  """A checkpoint on the training pairs of D_golden, one number a pair.

  Attributes:
    correct: 1 where it prefers the chosen response, 1/2 where neither.
    chosen: log-ratio of the chosen response, nats.
    rejected: of the rejected one.
  """

  correct: np.ndarray
  chosen: np.ndarray
  rejected: np.ndarray


def of_golden(evidence: Evidence, point: Point) -> OfGolden:
  """What a checkpoint's arrays say of the pairs."""
  path = evidence.folder / str(point.per_prompt)
  names = 'chosen_log_ratio', 'rejected_log_ratio'
  chosen, rejected = points_lib.read_arrays(path, names).values()
  return OfGolden(estimators.sign_rule_wins(chosen, rejected), chosen, rejected)


def ends(
  evidence: Evidence, arms: Sequence[str], setting: Setting
) -> tuple[list[int], list[list[OfGolden]]]:
  """Last checkpoints of the arms' runs, for each seed that all of them have.

  Raises:
    Unreached: there is no such seed.
  """
  last = {
    (point.seed, arm): point
    for arm in arms
    for point in sorted(evidence.of(arm, setting), key=lambda p: p.step)
    if point.per_prompt
  }
  seeds = [
    seed for seed in evidence.seeds if all((seed, arm) in last for arm in arms)
  ]
  if not seeds:
    raise Unreached(
      f'No seed has evaluated checkpoints of {", ".join(arms)} at (learning'
      f' rate, *numbers) = {setting}.'
    )
  return seeds, [
    [of_golden(evidence, last[seed, arm]) for arm in arms] for seed in seeds
  ]


def at_equal_kl(
  evidence: Evidence, arms: Sequence[str]
) -> tuple[list[int], list[np.ndarray]]:
  """Log-ratios of chosen responses at equal KL, second arm less first.

  The mean over KLs that are evenly spaced in ln KL in the range that both arms
  reach with all seeds; between two checkpoints of an arm it is linear in KL.

  Args:
    evidence: a study.
    arms: two.

  Returns:
    Seeds, and for each the difference by pair, nats.

  Raises:
    Unreached: the arms share no KL.
  """
  compared = comparisons.shared(evidence, arms)
  low, high = comparisons.kl_overlap(compared)
  kls = np.geomspace(low, high, comparisons.NUM_WINDOWS)
  return compared.seeds, [
    _chosen_at(evidence, second.points, kls)
    - _chosen_at(evidence, first.points, kls)
    for first, second in compared.frontiers
  ]


def _chosen_at(
  evidence: Evidence, points: Sequence[Point], kls: np.ndarray
) -> np.ndarray:
  """Log-ratios of chosen responses by pair, the mean over KLs."""
  in_order = sorted(points, key=lambda point: point.kl_nats)
  reached = np.array([point.kl_nats for point in in_order], np.float64)
  weights = estimators.between(reached, kls)
  chosen = np.stack([of_golden(evidence, p).chosen for p in in_order])
  return np.mean(weights, axis=0) @ chosen


def mean_over_pairs(of_seeds: Sequence[np.ndarray]) -> Effect:
  """Of values by pair, one array for each seed."""
  estimates = [
    estimators.estimate_mean(
      each, comparisons.rng(), num_resamples=comparisons.RESAMPLES
    )
    for each in of_seeds
  ]
  return estimators.combine(estimates, comparisons.rng())


def measured(
  evidence: Evidence, measure: str
) -> tuple[list[int], list[Arrays]]:
  """Seeds with a measure and its arrays.

  Raises:
    Unreached: no seed has it.
  """
  of_seeds = evidence.measures.get(measure, {})
  if not of_seeds:
    raise Unreached(f'The measure {measure} is not there.')
  seeds = sorted(of_seeds)
  return seeds, [of_seeds[seed] for seed in seeds]


def of_accuracies(
  function: OfMeans,
  correct: Sequence[np.ndarray],
  counted: np.ndarray,
) -> Estimate:
  """A function of accuracies of one seed; pairs are drawn.

  Args:
    function: of accuracies [*any, classifiers, steps].
    correct: of each classifier, [steps, pairs].
    counted: [steps, pairs] bool; the others are the golden model's ties.
  """
  steps = len(counted)
  taken = np.concatenate([each * counted for each in (*correct, 1.0)])

  def of_means(means):
    parts = means.reshape(*means.shape[:-1], len(correct) + 1, steps)
    with np.errstate(invalid='ignore', divide='ignore'):
      return function(parts[..., :-1, :] / parts[..., -1:, :])

  return estimators.estimate_of_means(
    of_means, taken, comparisons.rng(), num_resamples=comparisons.RESAMPLES
  )


def policies(arrays: Sequence[Arrays]) -> list[str]:
  """Arms that `stream_accuracy` has as classifiers, with all seeds.

  Raises:
    Unreached: there is none.
  """
  found = set.intersection(*(
    {name.removeprefix('correct/') for name in each if name.startswith('corr')}
    for each in arrays
  ))  # fmt: skip
  named = sorted(found - {'proxy'})
  if not named:
    raise Unreached('No policy was asked about the online stream.')
  return named


def own_accuracies(
  arrays: Sequence[Arrays],
) -> dict[tuple[str, int], Effect]:
  """Accuracy on own pairs of each (arm, step) that all seeds have.

  Raises:
    Unreached: there is none.
  """
  of_seeds = [dict(_own_of_seed(each)) for each in arrays]
  shared = [key for key in of_seeds[0] if all(key in each for each in of_seeds)]
  if not shared:
    raise Unreached('No checkpoint was asked about its own pairs.')
  return {key: _accuracy([each[key] for each in of_seeds]) for key in shared}


def stream_accuracies(arrays: Sequence[Arrays], name: str) -> list[Effect]:
  """Accuracy of a classifier at each place of the online stream."""
  of_seeds = [
    _by_row(each[f'correct/{name}'], each['counted']) for each in arrays
  ]
  return [_accuracy(each) for each in zip(*of_seeds)]


def _accuracy(of_seeds: Sequence[Estimate]) -> Effect:
  return estimators.bounded(
    estimators.combine(of_seeds, comparisons.rng()), 0.0, 1.0
  )


def _own_of_seed(
  arrays: Arrays,
) -> Iterator[tuple[tuple[str, int], Estimate]]:
  """((arm, step), accuracy) of each checkpoint."""
  for name in arrays:
    kind, _, arm = name.partition('/')
    if kind == 'step':
      found = _by_row(arrays[f'correct/{arm}'], arrays[f'counted/{arm}'])
      for step, accuracy in zip(arrays[name], found):
        yield (arm, int(step)), accuracy


def _by_row(correct: np.ndarray, counted: np.ndarray) -> list[Estimate]:
  """Accuracy in each row, over the pairs that count there."""
  means = estimators.estimate_means(
    np.concatenate([correct * counted, counted]),
    comparisons.rng(),
    num_resamples=comparisons.RESAMPLES,
  )
  with np.errstate(invalid='ignore', divide='ignore'):
    return [
      Estimate(float(np.divide(up.value, down.value)), up.draws / down.draws)
      for up, down in zip(means, means[len(counted) :])
    ]
