import dataclasses

import numpy as np
import pytest
import tiny

from dap.data.pairs import Pairs
from dap.study.making import baselines


def pairs(chosen, rejected):
  chosen, rejected = (np.array(side, np.int32) for side in (chosen, rejected))
  prompts = np.full((len(chosen), 2), 5, np.int32)
  return Pairs(np.arange(len(chosen)), prompts, chosen, rejected)


def test_the_longer_response_wins_and_ties_are_half():
  found = baselines.longer(
    pairs([[5, 6, 1], [5, 1, 0], [5, 1, 0]], [[5, 1, 0], [6, 7, 1], [9, 1, 0]])
  )
  np.testing.assert_array_equal(found, [1, 0, 0.5])


def test_a_proportion_has_wilsons_interval_and_its_count():
  found = baselines.proportion(np.zeros(20))
  assert found['value'] == 0 and found['count'] == 20
  assert found['low'] == 0
  assert found['high'] == pytest.approx(0.161125, abs=1e-6)  # spec 3.2


def test_the_unigram_loss_is_that_of_counts_plus_one():
  train = pairs([[3, 3, 1]], [[2, 1, 0]])
  test = pairs([[3, 1, 0]], [[2, 1, 0]])
  # Counts plus one of ids 0 to 3: 1, 3, 2, 3 of 9.
  expected = -np.mean(np.log(np.array([3, 3, 2, 3]) / 9))
  assert baselines.unigram_loss(train, test) == pytest.approx(expected)


def marked(seed, mark):
  """Random pairs whose chosen response begins with the mark."""
  plain = tiny.pairs(60, seed)
  chosen = plain.chosen.copy()
  chosen[:, : len(mark)] = mark
  return dataclasses.replace(plain, chosen=chosen)


@pytest.mark.parametrize('mark', [[4], [7, 9]])
def test_a_bag_of_bigrams_learns_a_word_that_decides(mark):
  wins = baselines.bigram_wins(marked(0, mark), marked(1, mark))
  assert np.mean(wins) > 0.8


def test_a_bag_of_bigrams_is_a_coin_where_nothing_decides():
  wins = baselines.bigram_wins(tiny.pairs(200), tiny.pairs(200, seed=1))
  assert abs(np.mean(wins) - 0.5) < 0.15  # 4 sigma of 200


def test_a_bag_of_bigrams_does_not_like_a_place():
  train, test = marked(0, [4]), marked(1, [4])
  swapped = test.relabelled(np.zeros(60, bool))
  first, second = (
    baselines.bigram_wins(train, each) for each in (test, swapped)
  )
  np.testing.assert_array_equal(first, 1 - second)
