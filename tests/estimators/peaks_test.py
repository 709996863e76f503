"""Peaks, and the share of a gap that a third method recovers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import errors, estimators
from dap.estimators import Curve

law = settings(deadline=None, derandomize=True, max_examples=30)
rng = lambda seed=0: np.random.default_rng(seed)


def curve(seed, points=6, prompts=12):
  wins = rng(seed).integers(0, 3, (2, points, prompts)) / 2
  return Curve(np.arange(1.0, points + 1), *wins)


def subset(of, rows):
  rows = list(rows)
  return Curve(of.kl[rows], of.selection_wins[rows], of.test_wins[rows])


def test_the_peak_is_chosen_on_one_half_and_judged_on_the_other():
  points = Curve(
    kl=np.array([1.0, 2.0, 3.0]),
    selection_wins=np.array([[0, 0.5], [1, 0.5], [0.5, 1.0]]),
    test_wins=np.array([[1, 1], [0, 0.5], [1, 1.0]]),
  )
  # The second on the selection half, the earlier of two at .75; the third lies
  # highest over all prompts.
  assert estimators.peak_index(points) == 2
  np.testing.assert_array_equal(estimators.peak_wins(points), [0, 0.5])
  everywhere = np.array([[0.0, np.inf]])
  np.testing.assert_array_equal(
    estimators.envelope(points, everywhere)[0], estimators.peak_wins(points)
  )


@law
@given(st.integers(0, 2**16), st.integers(1, 6))
def test_a_matched_count_is_the_mean_over_all_subsets(seed, count):
  points = curve(seed)
  each = [
    estimators.peak_wins(subset(points, rows))
    for rows in itertools.combinations(range(6), count)
  ]
  np.testing.assert_allclose(
    estimators.matched_count_wins(points, count), np.mean(each, axis=0)
  )


def test_a_matched_count_of_all_is_the_peak_and_of_none_is_refused():
  points = curve(3)
  for count in (6, 50):
    np.testing.assert_array_equal(
      estimators.matched_count_wins(points, count), estimators.peak_wins(points)
    )
  with pytest.raises(errors.InputError, match='at least one checkpoint'):
    estimators.matched_count_wins(points, 0)


def test_a_matched_count_bears_thousands_of_checkpoints():
  points = curve(1, points=3000)
  got = estimators.matched_count_wins(points, 1000)
  assert np.isfinite(got).all()


def test_the_quantile_peak_is_numpys_linear_rule():
  rates = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
  # .9 * 4 = 3.6 steps from the least: .4 + .6 * .1
  np.testing.assert_allclose(estimators.quantile_peak(rates), 0.46)
  np.testing.assert_allclose(
    0.30 / estimators.quantile_peak(rates), 0.652174, atol=5e-7
  )
  both = estimators.quantile_peak(np.stack([rates, 2 * rates]))
  np.testing.assert_allclose(both, [0.46, 0.92])


def test_the_recovered_share_has_its_worked_value():
  got = estimators.recovered_share(np.array([0.15, 0.18, 0.40]))
  np.testing.assert_allclose(got, 0.12)  # .03 / .25
  assert np.isnan(estimators.recovered_share(np.array([0.2, 0.3, 0.2])))


def wins_of(rates, seeds=4, prompts=1000):
  """One list of wins by seed for each rate; prompts matter to all alike."""
  draws = [rng(seed).random(prompts) for seed in range(seeds)]
  return [[(u < rate).astype(float) for u in draws] for rate in rates]


def test_recovery_is_a_share_with_an_interval():
  got = estimators.recovery(*wins_of([0.15, 0.18, 0.40]), rng(),
                            num_resamples=1000)  # fmt: skip
  low, high = got.interval
  assert low < 0.12 < high and high - low < 0.2
  np.testing.assert_allclose(got.mean, 0.12, atol=0.03)
  np.testing.assert_allclose(got.by_seed, 0.12, atol=0.06)
  all_of_it = estimators.recovery(*wins_of([0.15, 0.40, 0.40]), rng())
  assert all_of_it.mean == pytest.approx(1)  # by the very same wins


def test_recovery_of_no_gap_is_undefined():
  got = estimators.recovery(*wins_of([0.40, 0.18, 0.40]), rng())
  assert np.isnan([got.mean, *got.interval, *got.equivalence]).all()
  assert estimators.greater(got) == 'not reached'
  with pytest.raises(errors.InputError, match='seeds that all have run'):
    estimators.recovery(*wins_of([0.1, 0.2]), [], rng())
