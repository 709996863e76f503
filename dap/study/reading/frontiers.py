"""Layer 7. The checkpoints of an arm with their values by prompt, and bands."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dap import estimators, files
from dap.errors import InputError
from dap.estimators import statistics
from dap.estimators.statistics import Curve
from dap.evaluation import points as evaluation
from dap.study.reading import runs as points_lib
from dap.study.reading.evidence import Evidence, Setting
from dap.study.reading.runs import Point

HALF_WIDTH = 0.15  # of an envelope's windows on a plot, in ln KL
_ARRAYS = ('prompt_ids', 'golden_p_ab', 'golden_p_ba')
_STEP = 0.1  # between windows on a plot, in ln KL
RESAMPLES = 2000  # of each point of a band


class Band(NamedTuple):
  """An upper envelope with its interval; nan where an arm has no point."""

  x: np.ndarray
  win_rate: np.ndarray
  low: np.ndarray
  high: np.ndarray


class Frontier(NamedTuple):
  """The checkpoints of one arm and one seed.

  Attributes:
    points: in the order of the curve's rows.
    prompt_ids: of the curve's columns, ascending before they are split.
    curve: a value by checkpoint and prompt, such as wins, in two halves of
      the prompts.
  """

  points: tuple[Point, ...]
  prompt_ids: np.ndarray
  curve: Curve

  @property
  def end(self) -> int:
    """Row of the last step."""
    return int(np.argmax([point.step for point in self.points]))

  @property
  def farthest(self) -> int:
    """Row of the largest KL."""
    return int(np.argmax(self.curve.kl))

  @property
  def values(self) -> np.ndarray:
    """Of all prompts: [points, prompts], the selection half first."""
    return np.concatenate(
      [self.curve.selection_wins, self.curve.test_wins], axis=1
    )


Frontiers = Mapping[int, Frontier]  # by seed
# What is read of a checkpoint: (prompt ids, values), one row a prompt.
Read = Callable[[Path], tuple[np.ndarray, np.ndarray]]
# Of coordinates by seed: centres, and ends of the window about each.
Windows = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray]]


def wins(path: Path) -> tuple[np.ndarray, np.ndarray]:
  """Wins over the golden policy by the golden model, mean of each prompt."""
  return _wins(path, path.stat().st_mtime_ns if path.exists() else 0)


def utilities(path: Path) -> tuple[np.ndarray, np.ndarray]:
  """Hidden utility of the responses, mean of each prompt."""
  arrays = points_lib.read_arrays(path, ('prompt_ids', 'hidden_utility'))
  return by_prompt(arrays['prompt_ids'], arrays['hidden_utility'])


def has_utilities(evidence: Evidence, arm: str) -> bool:
  """Whether each evaluated checkpoint has the hidden utility by prompt."""
  paths = [
    evidence.folder / point.per_prompt
    for point in evidence.of(arm)
    if point.per_prompt
  ]
  return bool(paths) and all(map(_has_utility, paths))


def frontiers(
  evidence: Evidence,
  arm: str,
  setting: Setting | None = None,
  read: Read = wins,
) -> dict[int, Frontier]:
  """The checkpoints of an arm, or of its run with a setting, by seed.

  Points without arrays are left out, and seeds with so few prompts that one of
  their halves has none.
  """
  found = {}
  for seed in evidence.seeds:
    chosen = [
      point
      for point in evidence.of(arm, setting)
      if point.seed == seed and point.per_prompt
    ]
    if chosen:
      frontier = _frontier(chosen, evidence.folder, read)
      curve = frontier.curve
      if curve.selection_wins.shape[1] and curve.test_wins.shape[1]:
        found[seed] = frontier
  return found


def around(
  x: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
  """(centres, windows [n, 2]) over the positive range of x, evenly in ln x."""
  low, high = _range(x)
  count = max(2, int(np.ceil(np.log(high / low) / _STEP)) + 1)
  centres = np.linspace(np.log(low), np.log(high), count)
  sides = np.stack([centres - HALF_WIDTH, centres + HALF_WIDTH], axis=1)
  return np.exp(centres), np.exp(sides)


def up_to(x: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """Windows from 0 to each of 40 costs: what a budget of at most x buys."""
  costs = np.geomspace(*_range(x), 40)
  ends = costs * (1 + 1e-9)  # what costs exactly so much is bought
  return costs, np.stack([np.zeros(len(costs)), ends], axis=1)


def envelope_band(
  of_seeds: Frontiers,
  rng: np.random.Generator,
  of_point: Callable[[Point], float | None] = lambda point: point.kl_nats,
  windows: Windows = around,
) -> Band:
  """The upper envelope of one arm over any positive coordinate.

  The mean, over all prompts by `estimators.crossed`, is over the seeds with a
  checkpoint in the window.

  Args:
    of_seeds: an arm.
    rng: seeded by the caller.
    of_point: the coordinate of a checkpoint; those without one, or at 0, are
      left out.
    windows: `around` or `up_to`.
  """
  curves = [_curve_over(each, of_point) for each in of_seeds.values()]
  curves = [curve for curve in curves if len(curve.kl)]
  if not curves:
    return Band(*np.empty((4, 0)))
  centres, sides = windows([curve.kl for curve in curves])
  rows = mean_rows([estimators.crossed_envelope(c, sides) for c in curves], rng)
  return Band(centres, *np.clip(rows, 0.0, 1.0).T)  # win rates


def mean_rows(
  of_seeds: Sequence[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
  """[n, 3] mean over seeds and its 95 % interval, of values [n, prompts].

  A seed with a nan in a row does not count there; rows of nan stay nan.
  """
  drawn = [
    estimators.estimate_means(each, rng, num_resamples=RESAMPLES)
    for each in of_seeds
  ]
  rows = np.full((len(of_seeds[0]), 3), np.nan)
  for index, estimates in enumerate(zip(*drawn)):
    defined = [each for each in estimates if not np.isnan(each.value)]
    if defined:
      effect = estimators.combine(defined, rng)
      rows[index] = (effect.mean, *effect.interval)
  return rows


def _curve_over(
  frontier: Frontier, of_point: Callable[[Point], float | None]
) -> Curve:
  """The curve over another coordinate, its positive part."""
  x = np.array([of_point(point) or 0.0 for point in frontier.points])
  curve, inside = frontier.curve, x > 0
  return Curve(x[inside], curve.selection_wins[inside], curve.test_wins[inside])


def _range(x: Sequence[np.ndarray]) -> tuple[float, float]:
  reached = np.concatenate(x)
  return float(np.min(reached)), float(np.max(reached))


def _frontier(points: Sequence[Point], folder: Path, read: Read) -> Frontier:
  paths = [folder / str(point.per_prompt) for point in points]
  found = [read(path) for path in paths]
  ids = found[0][0]
  for path, (own, _) in zip(paths, found):
    if not np.array_equal(own, ids):
      raise InputError(
        f'{path} is about other prompts than {points[0].per_prompt} of the same'
        ' seed. Evaluate all runs of a study with one configuration.'
      )
  values = np.stack([each for _, each in found])
  selection = statistics.selection_half(ids)
  kl = np.array([point.kl_nats for point in points])
  curve = Curve(kl, values[:, selection], values[:, ~selection])
  return Frontier(tuple(points), ids, curve)


def _has_utility(path: Path) -> bool:
  if not path.exists():
    return False
  return 'hidden_utility' in files.read_arrays(path)


# A study has thousands of files, and each predicate reads an arm anew.
@functools.lru_cache(maxsize=2**14)
def _wins(path: Path, changed: int) -> tuple[np.ndarray, np.ndarray]:
  """`changed`, a time, tells two files of one name apart."""
  del changed
  arrays = points_lib.read_arrays(path, _ARRAYS)
  each = estimators.sign_rule_wins(arrays['golden_p_ab'], arrays['golden_p_ba'])
  return by_prompt(arrays['prompt_ids'], each)


def by_prompt(
  prompt_ids: np.ndarray, each: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(prompts, their means), prompts ascending."""
  return np.unique(prompt_ids), evaluation.by_prompt(prompt_ids, each)
