"""Comparison of methods at equal KL."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import errors, estimators
from dap.estimators import Curve, Interval

law = settings(deadline=None, derandomize=True, max_examples=30)
rng = lambda seed=0: np.random.default_rng(seed)


def curve(kl, rates, prompts=4):
  """Every prompt of a checkpoint has the checkpoint's rate."""
  wins = np.repeat(np.asarray(rates, float)[:, None], prompts, axis=1)
  return Curve(np.asarray(kl, float), wins, wins)


def test_the_envelope_is_chosen_on_one_half_and_read_on_the_other():
  points = Curve(
    kl=np.array([0.5, 1.0, 1.5, 4.0]),
    selection_wins=np.array([[0.2], [0.9], [0.3], [0.4]]),
    test_wins=np.array([[0.1], [0.3], [0.8], [0.5]]),
  )
  windows = estimators.kl_bins([0.0, 1.0, 2.0, 3.0, 5.0])
  got = estimators.envelope(points, windows)[:, 0]
  # 1.0 lies in [1, 2), where selection prefers it to the luckier 1.5.
  np.testing.assert_array_equal(got, [0.1, 0.3, np.nan, 0.5])


def test_one_window_over_all_is_the_peak():
  points = curve([1, 2, 3], [0.2, 0.6, 0.4])
  peak = estimators.envelope(points, np.array([[0.0, np.inf]]))
  np.testing.assert_array_equal(peak, np.full((1, 4), 0.6))


def test_windows_in_log_kl_are_even_and_as_wide_as_told():
  windows = estimators.log_kl_windows(1.0, np.exp(0.9), num_windows=10)
  np.testing.assert_allclose(np.log(windows[:, 0]), np.arange(10) / 10 - 0.1,
                             atol=1e-12)  # fmt: skip
  np.testing.assert_allclose(windows[:, 1] / windows[:, 0], np.exp(0.2))
  with pytest.raises(errors.InputError, match='both methods reach'):
    estimators.log_kl_windows(2.0, 1.0)


def test_the_gap_is_the_mean_over_windows_that_both_methods_reach():
  windows = estimators.kl_bins([0, 1, 2, 3])
  online = curve([0.5, 1.5, 2.5], [0.3, 0.5, 0.9])
  offline = curve([0.5, 1.5], [0.3, 0.3])
  gap = estimators.matched_kl_gap([online], [offline], windows, rng())
  # (0 + .2) / 2; every prompt agrees, so there is no interval.
  np.testing.assert_allclose(gap.mean, 0.1, rtol=1e-12)
  assert np.isnan(gap.interval).all()
  np.testing.assert_array_equal(gap.num_windows, [2])


def test_seeds_count_alike_and_those_that_never_meet_do_not_count():
  windows = estimators.kl_bins([0, 1, 2])
  online = [curve([0.5], [0.5]), curve([0.5, 1.5], [0.9, 0.9])] * 2
  offline = [curve([0.5], [0.3]), curve([0.5, 1.5], [0.5, 0.5])] * 2
  online[3], offline[3] = curve([0.5], [1.0]), curve([1.5], [0.0])
  gap = estimators.matched_kl_gap(online, offline, windows, rng())
  np.testing.assert_allclose(gap.by_seed, [0.2, 0.4, 0.2, np.nan])
  np.testing.assert_allclose(gap.mean, 0.8 / 3)
  # Three seeds that count are too few: they are held fixed.
  assert gap.effect.conditional
  assert np.isnan(gap.interval).all()  # and their prompts all agree


def test_methods_that_never_meet_have_no_gap():
  gap = estimators.matched_kl_gap(
    [curve([0.5], [0.5])],
    [curve([1.5], [0.5])],
    estimators.kl_bins([0, 1, 2]),
    rng(),
  )
  assert np.isnan([gap.mean, *gap.interval, *gap.by_seed]).all()
  np.testing.assert_array_equal(gap.num_windows, [0])


def test_unpaired_seeds_are_refused():
  one = curve([0.5], [0.5])
  with pytest.raises(errors.InputError, match='seeds that both have run'):
    estimators.matched_kl_gap([one], [one, one], np.array([[0.0, 1]]), rng())


@law
@given(st.integers(0, 2**16))
def test_exchanging_the_methods_changes_the_sign_of_the_gap(seed):
  draw = rng(seed)

  def random_curve():
    wins = draw.integers(0, 3, (2, 12, 30)) / 2
    return Curve(draw.uniform(0, 3, 12), *wins)

  first, second = ([random_curve() for _ in range(2)] for _ in range(2))
  windows = estimators.kl_bins([0, 1, 2, 3])
  gap = lambda a, b: estimators.matched_kl_gap(
    a, b, windows, rng(1), num_resamples=200
  )
  here, there, none = gap(first, second), gap(second, first), gap(first, first)
  np.testing.assert_allclose(here.mean, -there.mean, atol=1e-12)
  low, high = there.interval
  np.testing.assert_allclose(here.interval, [-high, -low], atol=1e-12)
  assert none.mean == 0 and np.isnan(none.interval).all()


def test_selection_on_the_test_half_would_find_a_gap_where_there_is_none():
  # Two methods of equal skill, one with many more checkpoints to be lucky in.
  draw = rng(5)
  wins = lambda points: draw.binomial(1, 0.4, (points, 400)).astype(float)
  honest, greedy = [], []
  for _ in range(20):
    selection, test, few = wins(40), wins(40), wins(2)
    kl = np.full(40, 0.5)
    online = Curve(kl, selection, test), Curve(kl, test, test)
    offline = Curve(np.full(2, 0.5), few, wins(2))
    window = np.array([[0.0, 1.0]])
    for method, found in zip(online, (honest, greedy)):
      gap = estimators.matched_kl_gap(
        [method], [offline], window, rng(), num_resamples=10
      )
      found.append(gap.mean)
  assert abs(np.mean(honest)) < 0.02 < 0.03 < np.mean(greedy)


def study(draw, spread, gap, seeds=4, slope=0.05):
  """Seeds of two methods whose win rates at equal KL differ by `gap`.

  In the mean: each seed has its own difference, with that spread. The second
  method has thrice the checkpoints; prompts are as hard for one as the other.
  """
  first, second = [], []
  for _ in range(seeds):
    ahead, ease = gap + draw.normal(0, spread), draw.normal(0, 0.2, 512)
    for method, points, share in ((first, 8, 0.5), (second, 24, -0.5)):
      kl = np.exp(draw.uniform(np.log(1.5), np.log(8), points))
      rates = 0.4 + slope * np.log(kl) + share * ahead
      wins = (draw.random((points, 512)) < rates[:, None] + ease).astype(float)
      method.append(Curve(kl, wins[:, ::2], wins[:, 1::2]))
  return first, second


def verdicts(of_seed, spread, gap, studies=200, seeds=4):
  draw, windows = rng(1), estimators.log_kl_windows(2.25, 6)
  found = [
    estimators.matched_kl_gap(
      *study(draw, spread, gap, seeds), windows, draw, num_resamples=200,
      of_seed=of_seed,
    )
    for _ in range(studies)
  ]  # fmt: skip
  return [estimators.greater(each.effect) for each in found]


@pytest.mark.parametrize('spread', [0.0, 0.03, 0.1])
def test_studies_without_a_gap_seldom_find_one(spread):
  found = verdicts(estimators.gap_of_chosen, spread, gap=0.0, seeds=8)
  assert found.count('reproduced') <= 0.05 * len(found)
  assert found.count('contradicted') <= 0.05 * len(found)


def test_most_studies_find_a_gap_that_is_there():
  found = verdicts(estimators.gap_of_chosen, spread=0.03, gap=0.08)
  assert found.count('reproduced') > 0.7 * len(found)
  assert found.count('contradicted') == 0


@pytest.mark.parametrize(('gap', 'low', 'high'), [(0, 0, 0.06), (0.08, 0.7, 1)])
def test_choosing_again_neither_finds_nor_hides_gaps(gap, low, high):
  found = verdicts(estimators.gap_of_choosing, 0.03, gap, studies=50)
  assert low <= found.count('reproduced') / 50 <= high


def test_choosing_again_puts_the_luck_of_the_choice_into_the_interval():
  # Two checkpoints that the selection half can hardly tell apart, of which one
  # is far better on the test half; that half always chooses it.
  selection = rng(1).integers(0, 2, (2, 100)).astype(float)
  test = np.repeat([[0.2], [0.8]], 100, axis=1)
  lucky = Curve(np.array([1.0, 1.0]), selection, test)
  steady = Curve(np.array([1.0]), selection[1:], test[:1])
  gap = lambda of_seed: of_seed(
    lucky, steady, np.array([[0.0, 2.0]]), rng(), num_resamples=500
  )
  once = gap(estimators.gap_of_chosen)
  again = gap(estimators.gap_of_choosing)
  assert once.value == again.value
  assert np.ptp(np.unique(once.draws.round(9))) < 0.2  # of drawn prompts alone
  np.testing.assert_allclose(np.unique(again.draws.round(9)), [0, 0.3])


@law
@given(st.integers(0, 2**16))
def test_crossing_treats_both_halves_alike(seed):
  draw = rng(seed)
  wins = draw.integers(0, 3, (2, 7, 20)) / 2
  points = Curve(draw.uniform(0, 3, 7), *wins)
  windows = estimators.kl_bins([0, 1, 2, 3])
  there = estimators.crossed_envelope(points, windows)
  back = estimators.crossed_envelope(points.exchanged, windows)
  np.testing.assert_array_equal(there, np.roll(back, 20, axis=1))
  np.testing.assert_array_equal(
    there[:, 20:], estimators.envelope(points, windows)
  )
  peak = estimators.crossed(points, estimators.peak_wins)
  np.testing.assert_array_equal(peak[20:], estimators.peak_wins(points))


def test_crossing_halves_the_noise_of_prompts():
  draw, windows = rng(2), estimators.log_kl_windows(2.25, 6)
  found = {'crossed': [], 'one half': []}
  for _ in range(60):
    (first, *_), (second, *_) = study(draw, 0.0, 0.05)
    whole, half = (
      of(first, windows) - of(second, windows)
      for of in (estimators.crossed_envelope, estimators.envelope)
    )
    found['crossed'].append(np.nanmean(whole))
    found['one half'].append(np.nanmean(half))
  variance = {name: np.var(values) for name, values in found.items()}
  assert 0.3 < variance['crossed'] / variance['one half'] < 0.75


@pytest.mark.parametrize('spread', [0.03, 0.1])
def test_intervals_hold_the_gap_nineteen_times_of_twenty(spread):
  # 300 studies of eight seeds gave 96 and 95 %; with no spread between seeds
  # 99 %, since the farther of two ends is taken. Four seeds: 98 and 96 %.
  draw, windows = rng(1), estimators.log_kl_windows(2.25, 6)
  held = 0
  for _ in range(100):
    gap = estimators.matched_kl_gap(
      *study(draw, spread, 0.05, seeds=8, slope=0.0), windows, draw,
      num_resamples=200,
    )  # fmt: skip
    held += gap.interval.low <= 0.05 <= gap.interval.high
  assert 91 <= held <= 99


def test_seeds_that_disagree_widen_the_interval():
  values = rng().normal(size=(4, 200))
  apart = values + np.array([[-1.0], [0.0], [0.5], [1.0]])
  width = lambda x: np.ptp(
    estimators.seeds_bootstrap_interval(list(x), rng(1), num_resamples=2000)
  )
  assert width(apart) > 3 * width(values)
  alone = estimators.seeds_bootstrap_interval([values[0]], rng(1))
  plain = estimators.bootstrap_interval(values[0], rng(2))
  np.testing.assert_allclose(alone, plain, atol=0.01)


def test_halves_are_even_fixed_by_the_id_and_changed_by_the_salt():
  ids = np.arange(4000)
  half = estimators.selection_half(ids)
  assert abs(half.mean() - 0.5) < 0.03
  np.testing.assert_array_equal(half[::7], estimators.selection_half(ids[::7]))
  assert (
    abs((half == estimators.selection_half(ids, salt=1)).mean() - 0.5) < 0.03
  )


def test_recovery_is_a_share_of_the_gap_and_nothing_of_no_gap():
  ratio = lambda gap: estimators.recovery_ratio(0.15, 0.18, 0.40, gap=gap)
  np.testing.assert_allclose(ratio(Interval(0.1, 0.4)), 0.12)  # .03 / .25
  assert np.isnan(ratio(Interval(-0.1, 0.4)))
