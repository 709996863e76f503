"""Layer 1. Over-optimisation curves: how a value goes with KL; numpy.

R(d) of the distance d = sqrt(KL) rises, has a peak and falls; R(0) = 0. It is
linear in its two coefficients, so least squares fit it at once.

Source: Gao et al. 2022, https://arxiv.org/abs/2210.10760, of a reward recentred
to the initial policy. Win rates are bounded: of those it is a description.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy import special

from dap import errors
from dap.estimators.effects import (
  Effect,
  Estimate,
  combine_function,
  resample_weights,
)

LEAST_DISTANCE = 0.1  # sqrt(nats); the second form has infinite slope at 0
_FEWEST_POINTS = 3


class Form(NamedTuple):
  """A curve R(d) = alpha f(d) - beta g(d).

  Attributes:
    regressors: d to f(d) and -g(d), the last axis.
    peak: alpha and beta to d and R of the maximum: infinite where the curve
      never falls, 0 where it never rises.
  """

  regressors: Callable[[np.ndarray], np.ndarray]
  peak: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Fit(NamedTuple):
  """A curve fitted to the runs of a seed; draws take whole runs.

  Attributes:
    alpha: initial rise, per sqrt(nat).
    beta: the fall: per nat of best-of-n, per sqrt(nat) of the other form.
    peak_distance: d of the maximum, sqrt(nats); infinite without a fall, and
      a guess where it is beyond the checkpoints. See `peak_over_seeds`.
    peak_value: R of the maximum.
    deviation: root mean square of value less curve.
    num_points: that were fitted.
    num_runs: that they come from; of one the draws are nan.
  """

  alpha: Estimate
  beta: Estimate
  peak_distance: Estimate
  peak_value: Estimate
  deviation: float
  num_points: int
  num_runs: int


def _peak_of_best_of_n(alpha, beta):
  rise = np.maximum(alpha, 0)
  with np.errstate(divide='ignore', invalid='ignore'):
    distance = np.where(beta > 0, rise / (2 * beta), np.inf)
    value = np.where(beta > 0, rise**2 / (4 * beta), np.inf)
  return distance, value


def _peak_of_learnt(alpha, beta):
  with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
    distance = np.where(beta > 0, np.exp(alpha / beta - 1), np.inf)
    value = np.where(beta > 0, beta * distance, np.inf)
  return distance, value


# R(d) = d (alpha - beta d), of best-of-n sampling.
BEST_OF_N = Form(lambda d: np.stack([d, -(d**2)], axis=-1), _peak_of_best_of_n)

# R(d) = d (alpha - beta ln d), of a policy that was trained.
LEARNT = Form(
  lambda d: np.stack([d, -special.xlogy(d, d)], axis=-1), _peak_of_learnt
)


def overoptimisation(
  form: Form,
  distance: Float[np.ndarray, '*any'],
  alpha: float,
  beta: float,
) -> Float[np.ndarray, '*any']:
  """R(d) at the distances, sqrt(nats), >= 0."""
  return form.regressors(distance) @ np.array([alpha, beta], np.float64)


def fit_overoptimisation(
  form: Form,
  kl: Real[np.ndarray, ' points'],
  value: Real[np.ndarray, ' points'],
  runs: Sequence[Hashable],
  rng: np.random.Generator,
  *,
  num_resamples: int = 10_000,
) -> Fit:
  """Fits a curve to the checkpoints of a seed.

  Checkpoints of one run are not independent, so draws take whole runs.

  Args:
    form: `BEST_OF_N` or `LEARNT`.
    kl: of each checkpoint, nats; those with sqrt(kl) < .1 are left out.
    value: such as the win rate less that of the SFT policy: 0 at a KL of 0.
    runs: the run of each checkpoint; with its seed, where seeds are pooled.
    rng: seeded by the caller.
    num_resamples: of the runs.

  Raises:
    InputError: fewer than three checkpoints, or all at one KL.
  """
  distance, value, of_run = _checked(kl, value, runs)
  num_runs = int(np.max(of_run)) + 1
  columns = form.regressors(distance)
  squares, products = _sums(columns, value, of_run, num_runs)
  best = _solve(np.sum(squares, axis=0), np.sum(products, axis=0))
  weights = resample_weights(num_runs, rng, num_resamples)
  drawn = _solve(
    np.tensordot(weights, squares, 1), np.tensordot(weights, products, 1)
  )
  if num_runs < 2:  # of one run no draw can tell how it varies
    drawn = np.full_like(drawn, np.nan)
  found = zip((*best, *form.peak(*best)), (*drawn.T, *_peaks(form, drawn)))
  alpha, beta, peak_distance, peak_value = (
    Estimate(float(value), draws) for value, draws in found
  )
  return Fit(
    alpha=alpha,
    beta=beta,
    peak_distance=peak_distance,
    peak_value=peak_value,
    deviation=float(np.sqrt(np.mean((value - columns @ best) ** 2))),
    num_points=len(distance),
    num_runs=num_runs,
  )


def peak_over_seeds(
  form: Form, fits: Sequence[Fit], rng: np.random.Generator
) -> tuple[Effect, Effect]:
  """d and R of the peak of the mean coefficients over seeds.

  A mean of peaks would be infinite as soon as one seed's curve never falls.
  """
  coefficients = [(fit.alpha, fit.beta) for fit in fits]
  state = rng.bit_generator.state
  effects = []
  for place in (0, 1):  # of the same draws
    rng.bit_generator.state = state
    part = lambda means, place=place: _peaks(form, means)[place]
    effects.append(combine_function(part, coefficients, rng))
  return effects[0], effects[1]


def _checked(kl, value, runs):
  """Distances, values and numbers of runs of the checkpoints to fit."""
  if not len(kl) == len(value) == len(runs):
    raise errors.InputError(
      'A fit needs a KL, a value and a run of each checkpoint, got'
      f' {len(kl)}, {len(value)} and {len(runs)}. Give three of one length.'
    )
  distance = np.sqrt(np.maximum(kl, 0.0))
  kept = distance >= LEAST_DISTANCE
  distance = distance[kept]
  if len(distance) < _FEWEST_POINTS or np.ptp(distance) == 0:
    raise errors.InputError(
      f'A fit needs at least {_FEWEST_POINTS} checkpoints, not all at one KL,'
      f' with sqrt(KL) >= {LEAST_DISTANCE}; got {len(distance)} at'
      f' {len(np.unique(distance))} KLs. Save checkpoints more often, or train'
      ' for longer.'
    )
  names = [run for run, keep in zip(runs, kept) if keep]
  index = {run: place for place, run in enumerate(dict.fromkeys(names))}
  of_run = np.array([index[run] for run in names])
  return distance, value[kept].astype(np.float64), of_run


def _peaks(form, coefficients):
  """d and R of [*any, 2] coefficients; nan where those are."""
  undefined = np.isnan(coefficients).any(axis=-1)
  found = form.peak(*np.moveaxis(coefficients, -1, 0))
  return tuple(np.where(undefined, np.nan, each) for each in found)


def _sums(columns, value, of_run, num_runs):
  """Normal equations of each run: [runs, 2, 2] and [runs, 2]."""
  squares, products = np.zeros((num_runs, 2, 2)), np.zeros((num_runs, 2))
  np.add.at(squares, of_run, columns[:, :, None] * columns[:, None, :])
  np.add.at(products, of_run, columns * value[:, None])
  return squares, products


def _solve(squares, products):
  """Coefficients [..., 2]; nan where all runs are at one KL."""
  (a, b), (_, c) = np.moveaxis(squares, (-2, -1), (0, 1))
  first, second = np.moveaxis(products, -1, 0)
  determinant = a * c - b * b
  # Parallel columns differ by rounding alone.
  determinant = np.where(determinant > 1e-12 * a * c, determinant, np.nan)
  solution = [c * first - b * second, a * second - b * first]
  return np.stack(solution, axis=-1) / determinant[..., None]
