"""Pairs that rounds are trained on, chosen by hand and by law."""

import numpy as np
import pytest

from dap.errors import InputError
from dap.study.design import choices

SCORES = np.array([[-2.0, 0.0, 1.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
TOKENS = np.arange(1, 9).reshape(2, 4, 1)
GIVEN = np.array([[3], [9]])


def lists(chosen):
  return [each.tolist() for each in chosen]


def test_the_best_stands_against_the_worst_and_equals_have_no_pair():
  found = choices.BestAndWorst()(TOKENS, SCORES, GIVEN)
  assert lists(found) == [[0], [3], [0]]
  with pytest.raises(InputError, match='score all alike'):
    choices.BestAndWorst()(TOKENS, np.ones((2, 4)), GIVEN)


def test_the_data_stand_against_each_sample_that_is_not_theirs():
  found = choices.DataOverSamples()(TOKENS, SCORES, GIVEN)
  assert found.prompts.tolist() == [0, 0, 0, 1, 1, 1, 1]
  assert found.rejected.tolist() == [0, 1, 3, 0, 1, 2, 3]
  assert set(found.chosen) == {choices.DATA}
  with pytest.raises(InputError, match='nothing left to learn'):
    choices.DataOverSamples()(TOKENS[:, :1], SCORES[:, :1], TOKENS[:, 0])


def test_shares_of_the_range_keep_the_worked_responses():
  first = SCORES[:1]
  strict = choices.Above(0.7)(TOKENS[:1], first, GIVEN[:1])
  assert lists(strict) == [[0], [3], [0]]
  found = choices.Above(0.5)(TOKENS[:1], first, GIVEN[:1])
  assert found.chosen.tolist() == [2, 3]
  # The third of them lies at .6 of the range.
  assert 2 in choices.Above(0.599)(TOKENS, SCORES, GIVEN).chosen[:2]
  assert 2 not in choices.Above(0.601)(TOKENS, SCORES, GIVEN).chosen[:2]


def test_a_greater_share_keeps_a_subset():
  scores = np.random.default_rng(0).normal(size=(30, 4))
  tokens, given = np.ones((30, 4, 1), int), np.ones((30, 1), int)
  kept = [
    set(zip(*choices.Above(share)(tokens, scores, given)[:2]))
    for share in (0.0, 0.3, 0.6, 0.9)
  ]
  assert all(b <= a for a, b in zip(kept, kept[1:]))
  assert len(kept[0]) == scores.size - 1  # but the least
  assert len(kept[-1]) >= 1


def test_scores_that_are_alike_have_no_range():
  with pytest.raises(InputError, match='have the score 1, .* alike'):
    choices.Above(0.5)(TOKENS, np.ones((2, 4)), GIVEN)


@pytest.mark.parametrize('share', [-0.1, 1.0, float('nan')])
def test_a_share_that_is_none_is_refused(share):
  with pytest.raises(InputError, match=r'share .* in \[0, 1\)'):
    choices.Above(share)
