"""Verdicts about claims."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import estimators
from dap.estimators import Effect, Interval

law = settings(deadline=None, derandomize=True, max_examples=60)
NOTHING = Interval(np.nan, np.nan)


def effect(low, high, narrow=None):
  middle = 0.5 * (low + high)
  narrow = narrow or (
    middle + 0.8 * (low - middle),
    middle + 0.8 * (high - middle),
  )
  return Effect(
    middle, Interval(low, high), Interval(*narrow), np.full(4, middle), False
  )


@pytest.mark.parametrize(
  ('low', 'high', 'more', 'no_more'),
  [
    (0.01, 0.05, 'reproduced', 'contradicted'),
    (-0.05, -0.01, 'contradicted', 'reproduced'),
    (-0.01, 0.05, 'undecided', 'undecided'),
    (0.0, 0.0, 'undecided', 'reproduced'),
  ],
)
def test_a_claim_holds_where_the_interval_is_wholly_on_its_side(
  low, high, more, no_more
):
  assert estimators.greater(effect(low, high)) == more
  assert estimators.not_greater(effect(low, high)) == no_more
  shifted = effect(low + 0.02, high + 0.02)
  assert estimators.greater(shifted, 0.02) == more
  assert estimators.not_greater(shifted, 0.02) == no_more


@pytest.mark.parametrize(
  ('interval', 'narrow', 'verdict'),
  [
    # Mean .005, standard error .012, many seeds: .005 -+ 1.96 * .012 leaves the
    # margins of .03 at neither side, .005 -+ 1.645 * .012 the less.
    ((-0.0185, 0.0285), (-0.0147, 0.0247), 'reproduced'),
    # With .014, 95 % reach .0324; 90 %, which count, .0280.
    ((-0.0224, 0.0324), (-0.0180, 0.0280), 'reproduced'),
    # With .016, 90 % reach .0313.
    ((-0.0264, 0.0364), (-0.0213, 0.0313), 'undecided'),
    ((0.031, 0.09), (0.036, 0.085), 'contradicted'),
    ((-0.09, -0.031), (-0.085, -0.036), 'contradicted'),
    ((0.029, 0.09), (0.034, 0.085), 'undecided'),
  ],
)
def test_equivalence_is_two_one_sided_tests(interval, narrow, verdict):
  assert estimators.equivalent(effect(*interval, narrow)) == verdict


@pytest.mark.parametrize(
  ('low', 'high', 'verdict'),
  [
    (0.45, 0.56, 'reproduced'),
    (0.43, 0.56, 'undecided'),  # wider than -+.06: it may only lack power
    (0.51, 0.54, 'contradicted'),
    (0.30, 0.49, 'contradicted'),
  ],
)
def test_absence_needs_power(low, high, verdict):
  got = estimators.absent(effect(low, high), 0.5, width=0.06)
  assert got == verdict


@pytest.mark.parametrize(
  ('low', 'high', 'verdict'),
  [
    (-0.2, 0.35, 'reproduced'),
    (-0.5, 0.35, 'undecided'),  # wider than -+.3
    (-0.9, -0.1, 'reproduced'),
    (0.05, 0.25, 'reproduced'),
    (0.05, 0.35, 'undecided'),
    (0.31, 0.9, 'contradicted'),
  ],
)
def test_a_correlation_is_weak_below_the_bound(low, high, verdict):
  assert estimators.weak(effect(low, high)) == verdict


def test_absence_everywhere_bears_what_chance_does_to_one_of_many():
  at_chance = effect(0.46, 0.54)
  lucky = effect(0.501, 0.559)  # p about .045 alone; 20 times that of 20
  lost = effect(0.55, 0.62)
  wide = effect(0.4, 0.6)
  claim = lambda *all_of: estimators.absent_everywhere(all_of, 0.5, width=0.06)
  assert claim(lucky) == 'contradicted'
  assert claim(*[at_chance] * 19, lucky) == 'reproduced'
  assert claim(at_chance, wide) == 'undecided'
  assert claim(wide, *[at_chance] * 4, lost) == 'contradicted'
  assert claim() == 'not reached'


def test_what_is_undefined_is_not_reached_and_no_interval_decides_nothing():
  undefined = Effect(np.nan, NOTHING, NOTHING, np.array([np.nan]), True)
  without_interval = effect(0.1, 0.2)._replace(interval=NOTHING)
  for nothing, verdict in (
    (undefined, 'not reached'),
    (without_interval, 'undecided'),
  ):
    assert {
      estimators.greater(nothing),
      estimators.not_greater(nothing),
      estimators.equivalent(nothing),
      estimators.absent(nothing, 0.5, 0.06),
      estimators.absent_everywhere([effect(0, 1), nothing], 0.5, 0.06),
      estimators.weak(nothing),
    } == {verdict}


def test_holm_has_its_worked_values():
  # Ordered .005 .01 .03 .04: times 4 3 2 1 gives .02 .03 .06 .04, and none may
  # be under the one before it: .02 .03 .06 .06.
  got = estimators.holm([0.01, 0.04, np.nan, 0.03, 0.005])
  np.testing.assert_allclose(got, [0.03, 0.06, np.nan, 0.06, 0.02])
  assert estimators.holm([]).shape == (0,)


@law
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holm_is_between_the_p_value_and_bonferroni_in_any_order(
  values, random
):
  adjusted = estimators.holm(values)
  assert np.all(adjusted >= values)
  bonferroni = np.minimum(len(values) * np.array(values), 1)
  assert np.all(adjusted <= bonferroni + 1e-15)
  order = random.sample(range(len(values)), len(values))
  np.testing.assert_array_equal(
    estimators.holm([values[i] for i in order]), adjusted[order]
  )
