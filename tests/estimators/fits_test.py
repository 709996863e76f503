"""Over-optimisation curves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import errors, estimators
from dap.estimators import BEST_OF_N, LEARNT

law = settings(deadline=None, derandomize=True, max_examples=40)
rng = lambda seed=0: np.random.default_rng(seed)
KL = np.array([0.5, 1, 2, 4, 8, 16.0])
RUNS = ['a', 'a', 'b', 'b', 'c', 'c']


def test_the_curves_have_their_worked_values():
  # KL of best-of-16: log 16 - 15/16 = 1.835089
  distance = np.sqrt([np.log(16) - 15 / 16])
  np.testing.assert_allclose(distance, 1.354654, atol=5e-7)
  got = estimators.overoptimisation(BEST_OF_N, distance, 0.5, 0.05)
  np.testing.assert_allclose(got, 0.585573, atol=5e-7)
  got = estimators.overoptimisation(LEARNT, np.array([3.0]), 0.5, 0.1)
  np.testing.assert_allclose(got, 1.170416, atol=5e-7)
  for form in (BEST_OF_N, LEARNT):
    assert estimators.overoptimisation(form, np.zeros(1), 0.5, 0.1) == 0


@pytest.mark.parametrize(
  ('form', 'beta', 'peak'),
  [
    (BEST_OF_N, 0.05, (5.0, 1.25)),  # .5 / .1 and .25 / .2
    (LEARNT, 0.1, (54.598150, 5.459815)),  # e^4 and a tenth of it
  ],
)
def test_exact_points_give_back_coefficients_and_peak(form, beta, peak):
  values = estimators.overoptimisation(form, np.sqrt(KL), 0.5, beta)
  fit = estimators.fit_overoptimisation(form, KL, values, RUNS, rng())
  for coefficient, expected in zip(fit, (0.5, beta, *peak)):
    np.testing.assert_allclose(coefficient.value, expected, rtol=1e-6)
    np.testing.assert_allclose(coefficient.draws, expected, rtol=1e-6)
  np.testing.assert_allclose(fit.deviation, 0, atol=1e-12)
  assert (fit.num_points, fit.num_runs) == (6, 3)


@law
@given(
  st.sampled_from([BEST_OF_N, LEARNT]), st.floats(0.1, 2), st.floats(0.1, 1)
)
def test_no_distance_is_above_the_peak(form, alpha, beta):
  values = estimators.overoptimisation(form, np.sqrt(KL), alpha, beta)
  fit = estimators.fit_overoptimisation(
    form, KL, values, RUNS, rng(), num_resamples=1
  )
  around = fit.peak_distance.value * np.linspace(0.5, 1.5, 101)
  curve = estimators.overoptimisation(form, around, alpha, beta)
  assert np.argmax(curve) == 50
  np.testing.assert_allclose(np.max(curve), fit.peak_value.value, rtol=1e-9)


@pytest.mark.parametrize('form', [BEST_OF_N, LEARNT])
def test_a_curve_that_never_falls_has_no_finite_peak(form):
  values = estimators.overoptimisation(form, np.sqrt(KL), 0.5, -0.1)
  fit = estimators.fit_overoptimisation(form, KL, values, RUNS, rng())
  assert fit.peak_distance.value == np.inf == fit.peak_value.value
  assert np.isinf(fit.peak_distance.draws).all()
  for seeds in (1, 5):
    for effect in estimators.peak_over_seeds(form, [fit] * seeds, rng()):
      assert effect.mean == np.inf and effect.interval == (np.inf, np.inf)


def test_a_curve_that_never_rises_has_its_peak_at_the_start():
  values = estimators.overoptimisation(BEST_OF_N, np.sqrt(KL), -0.5, 0.1)
  fit = estimators.fit_overoptimisation(BEST_OF_N, KL, values, RUNS, rng())
  assert (fit.peak_distance.value, fit.peak_value.value) == (0, 0)


def test_the_least_squares_are_numpys_and_the_start_is_left_out():
  kl = np.concatenate([[0.0, 0.009], KL])
  values = rng(1).random(8)
  fit = estimators.fit_overoptimisation(LEARNT, kl, values, ['s'] * 2 + RUNS,
                                        rng(), num_resamples=10)  # fmt: skip
  d = np.sqrt(KL)
  columns = np.stack([d, -d * np.log(d)], axis=1)
  expected = np.linalg.lstsq(columns, values[2:])[0]
  np.testing.assert_allclose([fit.alpha.value, fit.beta.value], expected)
  assert (fit.num_points, fit.num_runs) == (6, 3)


def test_intervals_cover_runs_that_differ():
  draw, covered = rng(3), 0
  runs = np.repeat(np.arange(20), 5)
  for _ in range(150):
    kl = draw.uniform(0.5, 30, 100)
    rise = 0.5 + draw.normal(0, 0.1, 20)[runs]
    values = np.sqrt(kl) * (rise - 0.05 * np.sqrt(kl))
    fit = estimators.fit_overoptimisation(
      BEST_OF_N, kl, values, list(runs), draw, num_resamples=300
    )
    low, high = estimators.combine([fit.alpha], draw).interval
    covered += low <= 0.5 <= high
  assert covered / 150 > 0.88


def test_one_run_has_no_interval():
  fit = estimators.fit_overoptimisation(
    BEST_OF_N, KL, np.sqrt(KL), [0] * 6, rng()
  )
  np.testing.assert_allclose(fit.alpha.value, 1)
  effect = estimators.combine([fit.alpha], rng())
  assert np.isnan(effect.interval).all()


def test_the_peak_over_seeds_is_that_of_the_mean_coefficients():
  fits = []
  for beta in (0.04, 0.06, 0.05, -0.01):  # the last has no peak of its own
    values = estimators.overoptimisation(BEST_OF_N, np.sqrt(KL), 0.5, beta)
    fits.append(
      estimators.fit_overoptimisation(BEST_OF_N, KL, values, RUNS, rng())
    )
  distance, value = estimators.peak_over_seeds(BEST_OF_N, fits[:3], rng())
  np.testing.assert_allclose([distance.mean, value.mean], [5, 1.25])
  np.testing.assert_allclose(distance.by_seed, [6.25, 0.5 / 0.12, 5])
  distance, value = estimators.peak_over_seeds(BEST_OF_N, fits, rng())
  # Mean beta .14 / 4 = .035
  np.testing.assert_allclose(
    [distance.mean, value.mean], [0.5 / 0.07, 0.25 / 0.14]
  )
  assert distance.interval.high > 10


@pytest.mark.parametrize('kl', [[], [1.0, 2.0], [1.0, 1, 1], [0, 0, 1, 2.0]])
def test_too_few_points_are_refused(kl):
  kl = np.array(kl)
  with pytest.raises(errors.InputError, match='at least 3 checkpoints'):
    estimators.fit_overoptimisation(LEARNT, kl, kl, ['a'] * len(kl), rng())


def test_points_without_a_run_are_refused():
  with pytest.raises(errors.InputError, match='of each checkpoint'):
    estimators.fit_overoptimisation(LEARNT, KL, KL, ['a'], rng())
