"""Layer 6. What points say of the two arms: envelopes, gap, peaks, tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dap import estimators
from dap.errors import InputError
from dap.estimators import statistics
from dap.estimators.statistics import Curve, Gap
from dap.study import points as points_lib
from dap.study.points import Point

ARMS = ('online', 'offline')
BINS = (0.5, 1.5, 2.25, 3.0, 4.0, 6.0, 9.0)  # edges in nats, of the table
HALF_WIDTH = 0.15  # of an envelope's windows on the plot, in ln KL
_ARRAYS = ('prompt_ids', 'golden_p_ab', 'golden_p_ba')
_STEP = 0.1  # between windows on the plot, in ln KL
_RESAMPLES = 2000

Curves = dict[str, dict[int, Curve]]  # by arm, by seed


class Band(NamedTuple):
  """An upper envelope with its interval; nan where an arm has no point."""

  kl: np.ndarray
  win_rate: np.ndarray
  low: np.ndarray
  high: np.ndarray


class Peak(NamedTuple):
  """The best checkpoint of an arm, averaged over seeds.

  Chosen on the selection half of the prompts, judged on the test half.
  """

  win_rate: float
  low: float
  high: float
  kl_nats: float
  num_seeds: int


def curves(points: Sequence[Point], folder: Path) -> Curves:
  """The checkpoints of each arm and seed with their wins by prompt.

  Points without arrays and points at a KL of 0 are left out, and seeds with so
  few prompts that one of their halves has none.
  """
  found: Curves = {}
  for arm in ARMS:
    seeds = sorted({point.seed for point in points if point.arm == arm})
    for seed in seeds:
      chosen = [
        point
        for point in points
        if (point.arm, point.seed) == (arm, seed)
        and point.per_prompt
        and point.kl_nats > 0
      ]
      if not chosen:
        continue
      curve = _curve(chosen, folder)
      if curve.selection_wins.shape[1] and curve.test_wins.shape[1]:
        found.setdefault(arm, {})[seed] = curve
  return found


def gap(
  of_arms: Curves, windows: np.ndarray, rng: np.random.Generator
) -> Gap | None:
  """Online less offline at equal KL on the seeds of both; None without any."""
  seeds = shared_seeds(of_arms)
  if not seeds:
    return None
  online, offline = ([of_arms[arm][seed] for seed in seeds] for arm in ARMS)
  return statistics.matched_kl_gap(online, offline, windows, rng)


def mean_envelope(of_arms: Curves, arm: str, window: np.ndarray) -> float:
  """Win rate of an arm's best checkpoint in a window, mean over seeds.

  Over the seeds where both arms have a checkpoint in the window, as the gap is.
  """
  rates = [
    [
      np.mean(statistics.envelope(of_arms[each][seed], window)[0])
      for each in ARMS
    ]
    for seed in shared_seeds(of_arms)
  ]
  both = np.array([pair for pair in rates if not np.isnan(pair).any()])
  return float(np.mean(both[:, ARMS.index(arm)])) if len(both) else np.nan


def shared_seeds(of_arms: Curves) -> list[int]:
  """Seeds that both arms have."""
  if set(of_arms) != set(ARMS):
    return []
  return sorted(of_arms['online'].keys() & of_arms['offline'].keys())


def band(of_seeds: dict[int, Curve], rng: np.random.Generator) -> Band:
  """The upper envelope of one arm, mean over its seeds.

  Each half of the prompts judges the checkpoints that the other half chose, so
  all prompts count and none judges its own choice.
  """
  reached = np.concatenate([curve.kl for curve in of_seeds.values()])
  low, high = np.log(np.min(reached)), np.log(np.max(reached))
  count = max(2, int(np.ceil((high - low) / _STEP)) + 1)
  centres = np.linspace(low, high, count)
  sides = np.stack([centres - HALF_WIDTH, centres + HALF_WIDTH], axis=1)
  windows = np.exp(sides)
  wins = [
    np.concatenate(
      [statistics.envelope(each, windows) for each in (curve, _swapped(curve))],
      axis=1,
    )
    for curve in of_seeds.values()
  ]
  rows = np.full((count, 3), np.nan)
  for index in range(count):
    here = [each[index] for each in wins if not np.isnan(each[index]).any()]
    if here:
      interval = statistics.seeds_bootstrap_interval(
        here, rng, num_resamples=_RESAMPLES
      )
      rows[index] = (np.mean([np.mean(each) for each in here]), *interval)
  return Band(np.exp(centres), *rows.T)


def peak(of_seeds: dict[int, Curve], rng: np.random.Generator) -> Peak:
  """The peak of one arm over its seeds."""
  everywhere = np.array([[0.0, np.inf]])
  best = [statistics.envelope(c, everywhere)[0] for c in of_seeds.values()]
  kls = [
    c.kl[np.argmax(np.mean(c.selection_wins, axis=1, dtype=np.float64))]
    for c in of_seeds.values()
  ]
  interval = statistics.seeds_bootstrap_interval(best, rng)
  return Peak(
    float(np.mean([np.mean(wins) for wins in best])),
    *interval,
    float(np.mean(kls)),
    len(best),
  )


def _swapped(curve: Curve) -> Curve:
  return Curve(curve.kl, curve.test_wins, curve.selection_wins)


def _curve(points: Sequence[Point], folder: Path) -> Curve:
  ids, rows = np.array([]), []
  for point in points:
    path = folder / str(point.per_prompt)
    arrays = points_lib.read_arrays(path, _ARRAYS)
    own, group = np.unique(arrays['prompt_ids'], return_inverse=True)
    if rows and not np.array_equal(own, ids):
      raise InputError(
        f'{path} is about other prompts than {points[0].per_prompt} of the same'
        ' seed. Evaluate all runs of a study with one configuration.'
      )
    each = estimators.sign_rule_wins(
      arrays['golden_p_ab'], arrays['golden_p_ba']
    )
    ids = own
    rows.append(np.bincount(group, each) / np.bincount(group))
  wins, selection = np.stack(rows), statistics.selection_half(ids)
  kl = np.array([point.kl_nats for point in points])
  return Curve(kl, wins[:, selection], wins[:, ~selection])
