"""Estimates of a seed and their combination over seeds."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import errors, estimators
from dap.estimators import Estimate

law = settings(deadline=None, derandomize=True, max_examples=30)
rng = lambda seed=0: np.random.default_rng(seed)


def fixed(value, resamples=1000):
  """A seed whose prompts all agree."""
  return Estimate(value, np.full(resamples, float(value)))


def seeds_of(values, seed=0, num_resamples=1000):
  draw = rng(seed)
  return [
    estimators.estimate_mean(v, draw, num_resamples=num_resamples)
    for v in values
  ]


def test_weights_are_shares_of_draws_with_replacement():
  weights = estimators.resample_weights(5, rng(), 2000)
  np.testing.assert_allclose(weights.sum(axis=1), 1)
  np.testing.assert_array_equal(5 * weights, np.round(5 * weights))
  np.testing.assert_allclose(weights.mean(axis=0), 0.2, atol=0.01)
  # A binomial of 5 trials with 1/5: (1/5)(4/5) / 5
  np.testing.assert_allclose(weights.var(axis=0), 0.032, rtol=0.1)


@pytest.mark.parametrize('count', [20, 2**21])
def test_a_mean_has_as_many_draws_as_asked_for(count):
  got = estimators.estimate_mean(np.ones(count), rng(), num_resamples=3)
  assert got.value == 1
  np.testing.assert_allclose(got.draws, np.ones(3))


def test_few_prompts_have_a_mean_and_no_draws():
  few = np.arange(19.0)
  got = estimators.estimate_mean(few, rng(), num_resamples=3)
  assert got.value == 9 and np.isnan(got.draws).all()
  (got,) = estimators.estimate_means(few[None], rng(), num_resamples=3)
  assert got.value == 9 and np.isnan(got.draws).all()
  seeds = [estimators.estimate_mean(few + s, rng()) for s in range(4)]
  effect = estimators.combine(seeds, rng())
  assert effect.mean == 10.5 and np.isnan(effect.interval).all()


def test_what_is_all_alike_has_no_interval():
  for seeds in (1, 2, 4):
    effect = estimators.combine([fixed(0.1)] * seeds, rng())
    assert effect.mean == pytest.approx(0.1)
    assert np.isnan([*effect.interval, *effect.equivalence]).all()


def test_an_estimate_has_the_spread_of_the_standard_error():
  values = rng().random(2000)
  got = estimators.estimate_mean(values, rng(1), num_resamples=4000)
  np.testing.assert_allclose(got.value, values.mean())
  np.testing.assert_allclose(got.draws.mean(), values.mean(), atol=5e-4)
  expected = values.std() / np.sqrt(2000)
  np.testing.assert_allclose(got.draws.std(), expected, rtol=0.05)


def test_quantities_are_drawn_on_the_same_prompts():
  wins = rng().random(200)
  first, second = estimators.estimate_means(
    np.stack([wins + 0.1, wins]), rng(), num_resamples=100
  )
  got = estimators.difference(first, second)
  np.testing.assert_allclose([got.value, *got.draws], 0.1)
  alone = estimators.estimate_mean(wins, rng(), num_resamples=100)
  np.testing.assert_allclose(alone.draws, second.draws)


def test_a_function_of_means_is_that_statistic_of_resampled_prompts():
  values = rng().random((4, 150))
  top = lambda means: np.max(means, axis=-1)
  quick = estimators.estimate_of_means(top, values, rng(1))
  slow = estimators.estimate(
    lambda rows: rows.mean(axis=0).max(), [values.T], rng(2)
  )
  np.testing.assert_allclose(quick.value, slow.value)
  for level in (0.025, 0.5, 0.975):
    got = [np.quantile(each.draws, level) for each in (quick, slow)]
    np.testing.assert_allclose(*got, atol=3e-3)


def test_what_rounding_leaves_of_an_effect_is_0():
  moves = np.tile([0.1, 0.2, -0.3], 40)
  estimates = [
    estimators.estimate_mean(each, rng(), num_resamples=50)
    for each in (moves, -moves, moves[::-1])
  ]
  assert any(each.value != 0 for each in estimates)
  effect = estimators.combine(estimates, rng())
  assert effect.mean == 0 and not np.any(effect.by_seed)
  assert effect.interval.low < 0 < effect.interval.high


def test_rows_of_several_arrays_are_drawn_together():
  x = rng().random(40)
  got = estimators.estimate(
    lambda a, b: float(np.max(np.abs(a - 2 * b))), [2 * x, x], rng()
  )
  np.testing.assert_array_equal(got.draws, 0)


@pytest.mark.parametrize('rows', [[], [np.ones(0)], [np.ones(2), np.ones(3)]])
def test_rows_that_do_not_match_are_refused(rows):
  with pytest.raises(errors.InputError, match='Is the evaluation empty'):
    estimators.estimate(lambda *a: 0.0, rows, rng())


def test_no_prompts_are_refused():
  with pytest.raises(errors.InputError, match='at least one row'):
    estimators.estimate_mean(np.ones(0), rng())


def test_seeds_of_unequal_draws_are_refused():
  with pytest.raises(errors.InputError, match='one num_resamples to all'):
    estimators.combine([fixed(0, 10), fixed(0, 20)], rng())
  with pytest.raises(errors.InputError, match='at least one seed'):
    estimators.combine([], rng())


def test_seeds_whose_prompts_agree_have_the_interval_of_student():
  values = [0.02, 0.05, 0.06, 0.11]
  got = estimators.combine([fixed(value) for value in values], rng())
  # Mean .06, sd sqrt(.0042 / 3), over 2: .01870829; t(3) 3.182446.
  half = 3.182446 * 0.01870829
  np.testing.assert_allclose(
    got.interval, [0.06 - half, 0.06 + half], atol=1e-7
  )
  half = 2.353363 * 0.01870829
  np.testing.assert_allclose(
    got.equivalence, [0.06 - half, 0.06 + half], atol=1e-7
  )
  np.testing.assert_allclose(got.by_seed, values)
  assert not got.conditional


def test_seeds_that_agree_by_luck_still_vary_with_their_prompts():
  draws = rng().normal(0.1, 0.04, (4, 20_000))
  got = estimators.combine([Estimate(0.1, each) for each in draws], rng())
  # Student's t sees no spread; four seeds of .04 each leave .02.
  np.testing.assert_allclose(got.interval, [0.0608, 0.1392], atol=2e-3)


def test_fewer_than_four_seeds_are_held_fixed():
  draws = rng().normal(0, 0.04, (3, 20_000))
  values = (-0.5, 0.1, 0.7)
  seeds = [Estimate(v, v + d) for v, d in zip(values, draws)]
  got = estimators.combine(seeds, rng())
  assert got.conditional
  half = 1.96 * 0.04 / np.sqrt(3)  # as if no other seeds could have been drawn
  np.testing.assert_allclose(got.interval, [0.1 - half, 0.1 + half], atol=2e-3)
  assert estimators.combine(seeds * 2, rng()).interval.low < -0.3


def test_one_seed_has_its_own_bootstrap_interval():
  values = rng().random(100)
  got = estimators.combine(seeds_of([values], num_resamples=10_000), rng())
  expected = estimators.bootstrap_interval(values, rng(3))
  np.testing.assert_allclose(got.interval, expected, atol=2e-3)


def test_undefined_seeds_are_left_out_and_seen():
  seeds = [fixed(0.1), fixed(np.nan), fixed(0.3)]
  got = estimators.combine(seeds, rng())
  np.testing.assert_allclose(got.mean, 0.2)
  np.testing.assert_array_equal(got.by_seed, [0.1, np.nan, 0.3])
  four = estimators.combine([fixed(0.1)] * 3 + [fixed(np.nan)], rng())
  assert four.conditional
  nothing = estimators.combine([fixed(np.nan)] * 2, rng())
  assert np.isnan([nothing.mean, *nothing.interval, *nothing.equivalence]).all()


@pytest.mark.parametrize(('undefined', 'known'), [(400, True), (600, False)])
def test_a_statistic_that_hardly_exists_has_no_interval(undefined, known):
  draws = np.where(np.arange(1000) < undefined, np.nan, rng().random(1000))
  got = estimators.combine([Estimate(0.5, draws)], rng())
  assert got.mean == 0.5
  assert np.isfinite(got.interval.low) == known


@law
@given(st.integers(0, 2**16), st.permutations(range(5)))
def test_the_order_of_seeds_and_prompts_does_not_matter(seed, order):
  values = rng(seed).normal(size=(5, 60)) + rng(seed).normal(size=(5, 1))
  shuffled = rng(seed).permuted(values[order], axis=1)
  combined = [
    estimators.combine(seeds_of(v, seed, 3000), rng(seed))
    for v in (values, shuffled)
  ]
  np.testing.assert_allclose(combined[0].mean, combined[1].mean, atol=1e-12)
  np.testing.assert_allclose(
    combined[0].by_seed[order], combined[1].by_seed, atol=1e-12
  )
  width = np.ptp(combined[0].interval)
  np.testing.assert_allclose(
    combined[0].interval, combined[1].interval, atol=0.08 * width
  )


@pytest.mark.parametrize('between', [0.0, 0.05, 0.2])
def test_intervals_cover_at_any_spread_of_the_seeds(between):
  draw, covered, tested = rng(4), 0, 0
  for _ in range(400):
    effects = 0.3 + draw.normal(0, between, 4)
    values = [draw.normal(effect, 0.5, 100) for effect in effects]
    got = estimators.combine(
      [estimators.estimate_mean(v, draw, num_resamples=200) for v in values],
      draw,
    )
    covered += got.interval.low <= 0.3 <= got.interval.high
    tested += got.equivalence.low <= 0.3 <= got.equivalence.high
  assert covered / 400 > 0.93
  assert 0.88 <= tested / 400 <= covered / 400


def test_a_bootstrap_of_four_seeds_alone_is_too_narrow():
  # Why `combine` asks Student's t as well.
  draw, covered = rng(4), np.zeros(2)
  for _ in range(600):
    values = list(draw.normal(size=(4, 1)))
    narrow = estimators.seeds_bootstrap_interval(
      values, draw, num_resamples=200
    )
    wide = estimators.combine(
      [fixed(float(v[0]), 200) for v in values], draw
    ).interval
    covered += [each.low <= 0 <= each.high for each in (narrow, wide)]
  assert covered[0] / 600 < 0.88 and covered[1] / 600 > 0.93


def test_prompts_that_seeds_share_stay_shared_with_equal_generators():
  prompts = rng().normal(0, 1, 400)  # hard for all seeds alike
  seeds = [prompts + offset for offset in (0.0, 0.001, 0.002, 0.003)]
  apart = estimators.combine(seeds_of(seeds, num_resamples=4000), rng())
  shared = estimators.combine(
    [estimators.estimate_mean(v, rng(7), num_resamples=4000) for v in seeds],
    rng(),
  )
  error = prompts.std() / 20
  width = lambda effect: np.ptp(effect.interval) / (2 * 1.96 * error)
  np.testing.assert_allclose(width(apart), 0.5, rtol=0.1)  # 1 / sqrt(4)
  np.testing.assert_allclose(width(shared), 1, rtol=0.1)


def test_a_ratio_of_means_has_the_interval_of_a_ratio():
  draw = rng(2)
  ratio = lambda means: means[..., 0] / means[..., 1]
  covered = 0
  for _ in range(300):
    means = np.array([0.2, 0.5]) + draw.normal(0, 0.03, (4, 2))
    seeds = [
      estimators.estimate_means(
        draw.normal(m[:, None], 0.5, (2, 200)), draw, num_resamples=200
      )
      for m in means
    ]
    low, high = estimators.combine_function(ratio, seeds, draw).interval
    covered += low <= 0.4 <= high
  assert covered / 300 > 0.93


@pytest.mark.parametrize('count', [2, 4, 6])
def test_the_p_value_is_of_the_interval(count):
  # The value at the end of the interval is at 5 %, wherever the mean is.
  values = rng(1).normal(0.1, 0.2, (count, 50))
  effect = estimators.combine(seeds_of(values), rng())
  for end in effect.interval:
    np.testing.assert_allclose(estimators.p_value(effect, end), 0.05)
  assert estimators.p_value(effect, effect.mean) == 1
  assert estimators.p_value(effect, effect.interval.high + 0.1) < 0.05


def test_the_p_value_of_seeds_whose_prompts_agree_is_students():
  values = [0.02, 0.05, 0.06, 0.11]
  effect = estimators.combine([fixed(value) for value in values], rng())
  for null in (0.0, 0.1):
    expected = scipy.stats.ttest_1samp(values, null).pvalue
    np.testing.assert_allclose(estimators.p_value(effect, null), expected)


def test_what_has_no_interval_has_no_p_value():
  alike = estimators.combine([fixed(0.5)], rng())
  assert np.isnan(estimators.p_value(alike, 0.4))


def test_intervals_end_where_their_quantity_does():
  near_one = [estimators.Estimate(value, np.full(400, value))
              for value in (0.99, 0.7, 0.98, 0.97)]  # fmt: skip
  effect = estimators.combine(near_one, rng())
  assert effect.interval.high > 1  # Student's t knows no better
  cut = estimators.bounded(effect, 0.0, 1.0)
  assert cut.interval == (effect.interval.low, 1.0)
  assert cut.mean == effect.mean and cut.equivalence.high <= 1
