"""Win rates, accuracies and their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import errors, estimators

law = settings(deadline=None, derandomize=True, max_examples=50)
rng = lambda seed=0: np.random.default_rng(seed)


def test_the_sign_rule_compares_the_two_orders():
  ab, ba = np.array([0.9, 0.2, 0.5]), np.array([0.8, 0.6, 0.5])
  wins = estimators.sign_rule_wins(ab, ba)
  np.testing.assert_array_equal(wins, [1.0, 0.0, 0.5])
  assert estimators.win_rate(ab, ba) == 0.5


def test_a_judge_that_only_likes_the_first_place_ties():
  ab = ba = np.full(7, 0.9)
  assert estimators.win_rate(ab, ba) == 0.5
  first = np.ones(7, bool)
  np.testing.assert_array_equal(estimators.verdict_wins(first, ~first), 0.5)


@law
@given(st.integers(0, 2**16))
def test_exchanging_the_roles_gives_the_complement(seed):
  ab, ba = rng(seed).integers(0, 4, (2, 20)) / 4.0
  here, there = estimators.win_rate(ab, ba), estimators.win_rate(ba, ab)
  np.testing.assert_allclose(here + there, 1.0, rtol=1e-12)
  # A text against itself: the two orders are the same question.
  assert estimators.win_rate(ab, ab) == 0.5


def test_two_verdicts_that_agree_make_a_win_or_a_loss():
  first, second = np.array([True, True, False]), np.array([True, False, False])
  wins = estimators.verdict_wins(first, second)
  np.testing.assert_array_equal(wins, [1.0, 0.5, 0.0])


@law
@given(st.integers(1, 500), st.data())
def test_the_wilson_interval_is_inside_the_unit_and_rises(trials, data):
  successes = data.draw(st.integers(0, trials - 1))
  here = estimators.wilson_interval(successes, trials)
  more = estimators.wilson_interval(successes + 1, trials)
  assert 0 <= here.low <= successes / trials <= here.high <= 1
  assert here.low < more.low and here.high < more.high


@pytest.mark.parametrize('count', [(1, 0), (-1, 3), (4, 3)])
def test_a_proportion_of_nothing_is_refused(count):
  with pytest.raises(errors.InputError, match='Is the evaluation empty'):
    estimators.wilson_interval(*count)


def test_the_bootstrap_covers_a_known_rate_as_often_as_it_says():
  draws, generator = rng(1), rng(2)
  covered = 0
  for _ in range(1000):
    wins = draws.binomial(1, 0.4, 200).astype(float)
    low, high = estimators.bootstrap_interval(
      wins, generator, num_resamples=300
    )
    covered += low <= 0.4 <= high
  assert 0.93 <= covered / 1000 <= 0.97


def test_the_bootstrap_repeats_with_its_seed_and_refuses_no_prompts():
  wins = rng().random(300)
  once = estimators.bootstrap_interval(wins, rng(4), num_resamples=500)
  assert once == estimators.bootstrap_interval(wins, rng(4), num_resamples=500)
  with pytest.raises(errors.InputError, match='at least one prompt'):
    estimators.bootstrap_interval(np.zeros(0), rng())


def test_resampled_means_have_the_spread_of_the_standard_error():
  values = rng().random(2000)
  means = estimators.resampled_means(values, rng(1), 4000)
  np.testing.assert_allclose(means.mean(), values.mean(), atol=5e-4)
  expected = values.std() / np.sqrt(2000)
  np.testing.assert_allclose(means.std(), expected, rtol=0.05)


def test_ties_decide_between_wilson_and_the_bootstrap():
  clear = np.array([1.0] * 60 + [0.0] * 39 + [0.5])
  got = estimators.win_rate_interval(clear, rng())
  assert got == estimators.wilson_interval(60.5, 100)
  tied = np.repeat([0.0, 0.5, 1.0], [20, 60, 20])
  got = estimators.win_rate_interval(tied, rng(1), num_resamples=100)
  assert got == estimators.bootstrap_interval(tied, rng(1), num_resamples=100)


@pytest.mark.parametrize(
  'interval',
  [estimators.win_rate_interval, estimators.interval_over_prompts],
)
def test_an_interval_wants_prompts_and_is_never_of_width_0(interval):
  enough = estimators.ENOUGH_PROMPTS
  mixed = np.resize([0.0, 0.5, 1.0], enough)
  low, high = interval(mixed, rng(), num_resamples=100)
  assert low < np.mean(mixed) < high
  for few in (mixed[:-1], np.array([0.625]), np.zeros(3)):
    assert interval(few, rng(), num_resamples=100) is None
  for alike in (np.full(300, 0.5), np.full(enough, 5 / 8), np.full(33, 0.1)):
    found = interval(alike, rng(), num_resamples=100)
    assert found is None or found.low + 0.01 < found.high  # Wilson's


def test_what_rounding_leaves_of_a_difference_is_0():
  moves = np.array([0.1, 0.2, -0.3])
  assert np.mean(moves) != 0
  assert estimators.paired_difference(moves, np.zeros(3)).mean == 0
  assert estimators.exact(-9.3e-18) == 0 and estimators.exact(1e-9) == 1e-9
  np.testing.assert_array_equal(
    estimators.exact(np.array([1e-17, np.nan, 0.5])), [0, np.nan, 0.5]
  )


@pytest.mark.parametrize(
  ('wins', 'p_value'),
  [((12, 4), 0.07681274414062), ((4, 12), 0.07681274414062), ((0, 0), 1.0)],
)
def test_mcnemar_is_exact_and_two_sided(wins, p_value):
  # 2 * (1 + 16 + 120 + 560 + 1820) / 2^16 for 12 against 4
  np.testing.assert_allclose(estimators.mcnemar(*wins), p_value, rtol=1e-10)


def test_mcnemar_bears_thousands_of_prompts():
  assert 0 < estimators.mcnemar(3000, 2000) < 1e-40
