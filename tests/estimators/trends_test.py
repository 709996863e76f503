"""Slopes and rank correlations."""

import numpy as np
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import estimators

law = settings(deadline=None, derandomize=True, max_examples=60)
few = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


def test_a_slope_is_per_unit_of_x_and_takes_many_series():
  steps = np.array([0, 100, 200])
  # Deviations -100 0 100: (-100 * .9 + 100 * .7) / 20000 = -.001
  accuracy = np.array([[0.9, 0.8, 0.7], [0.5, 0.9, 0.5]])
  np.testing.assert_allclose(
    estimators.slope(steps, accuracy), [-0.001, 0], atol=1e-15
  )
  got = estimators.slope(steps, accuracy[0])
  np.testing.assert_allclose(got, -0.001)
  assert np.isnan(estimators.slope(np.array([2, 2, 2]), accuracy[0]))


@law
@given(few, st.data())
def test_spearman_is_scipys_with_ties(x, data):
  pair = st.lists(st.integers(-3, 3), min_size=len(x), max_size=len(x))
  x, y = np.array(x), np.array(data.draw(pair))
  got = estimators.spearman(x, y)
  if len(set(x)) == 1 or len(set(y)) == 1:
    assert np.isnan(got)
  else:
    np.testing.assert_allclose(
      got, scipy.stats.spearmanr(x, y).statistic, atol=1e-12
    )


def test_spearman_sees_order_alone():
  x = np.array([0.1, 2.0, 3.0, 50.0])
  assert estimators.spearman(x, np.exp(x)) == 1
  assert estimators.spearman(x, -x) == -1
