"""The best of n samples: enumerated, and in its limits."""

import itertools

import numpy as np
import pytest

from dap.errors import InputError
from dap.estimators import best_of_n

COUNTS = (1, 2, 3, 7, 64)


def enumerated_kl(shares, n):
  """Of the best of n responses with these shares, worst first."""
  top = np.cumsum(shares)
  chance = top**n - (top - shares) ** n
  return np.sum(chance * np.log(chance / shares))


def test_unlike_scores_have_the_bound():
  scores = np.random.default_rng(0).normal(size=(3, 500))
  found = best_of_n.kl(scores, COUNTS)
  np.testing.assert_allclose(found, best_of_n.kl_bound(COUNTS), atol=1e-12)


def test_equal_scores_have_the_kl_of_their_shares():
  shares = np.array([0.2, 0.3, 0.5])
  scores = np.repeat([[3.0, 5.0, 9.0]], (20, 30, 50), axis=1)
  found = best_of_n.kl(scores, (2, 5))
  known = [enumerated_kl(shares, n) for n in (2, 5)]
  np.testing.assert_allclose(found, known, rtol=1e-12)
  assert found[0] == pytest.approx(0.164820, abs=1e-6)
  assert (found < best_of_n.kl_bound((2, 5))).all()


def test_where_all_score_alike_the_best_is_any():
  np.testing.assert_allclose(best_of_n.kl(np.ones((2, 64)), COUNTS), 0)


def test_medians_are_those_of_all_subsets():
  scores = np.random.default_rng(1).normal(size=(2, 7))
  for n in range(1, 8):
    subsets = itertools.combinations(range(7), n)
    known = np.mean(
      [np.median(scores[:, of], axis=1) for of in map(list, subsets)], axis=0
    )
    (found,) = best_of_n.medians(scores, (n,))
    np.testing.assert_allclose(found, known, rtol=1e-12)


@pytest.mark.parametrize('counts', [(), (0,), (1, 9)])
def test_counts_beyond_the_samples_are_refused(counts):
  with pytest.raises(InputError, match='1 <= n <= 8'):
    best_of_n.kl(np.zeros((2, 8)), counts)
