import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap import errors
from dap.algorithms import pairings
from dap.annotators import labels
from dap.records import Responses

SCORES = jnp.array([[0.9, 0.1], [0.2, 0.6], [0.5, 0.5], [0.7, 0.8]])
FOUR = jnp.array([[3.0, 1.0, 4.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
RESPONSES = Responses(None, None, None)  # no pairing here reads them


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def paired(pairing, scores, seed=0):
  return pairing(RESPONSES, scores, keys(len(scores), seed))


def first(rows):
  return np.asarray(rows)[:, 0, 0] == 0


def test_the_one_that_does_better_when_shown_first_is_chosen():
  rows, weight = paired(pairings.Two(), SCORES)
  decided = np.array([0, 1, 3])
  np.testing.assert_array_equal(rows[decided], [[[0, 1]], [[1, 0]], [[1, 0]]])
  np.testing.assert_array_equal(weight, np.ones((4, 1)))


def test_ties_count_unless_they_are_weighed_out():
  _, weight = paired(pairings.Two(weight=pairings.without_ties), SCORES)
  np.testing.assert_array_equal(weight[:, 0], [1, 1, 0, 1])


def test_another_rule_for_labels_is_a_function_passed_in():
  pairing = pairings.Two(label=labels.sampled_label)
  rows, _ = paired(pairing, jnp.tile(jnp.array([[0.8, 0.4]]), (4000, 1)), 1)
  # The mean probability is 1/2 (0.8 + 1 - 0.4) = 0.7; 5 sigma of 4000 is .036.
  assert abs(np.mean(first(rows)) - 0.7) < 0.036


def test_swapping_the_two_responses_swaps_the_label():
  rows, _ = paired(pairings.Two(), SCORES)
  swapped, _ = paired(pairings.Two(), SCORES[:, ::-1])
  decided = np.asarray(SCORES[:, 0] != SCORES[:, 1])
  np.testing.assert_array_equal((first(rows) == ~first(swapped))[decided], True)


def test_the_best_is_the_first_of_the_highest():
  rows, weight = paired(pairings.Best(), FOUR)
  np.testing.assert_array_equal(rows, [[[2]], [[0]]])
  np.testing.assert_array_equal(weight, [[1], [1]])


def test_best_and_worst_are_a_pair_and_equal_scores_weigh_nothing():
  rows, weight = paired(pairings.BestWorst(), FOUR)
  np.testing.assert_array_equal(rows[0], [[2, 1]])
  np.testing.assert_array_equal(weight, [[1], [0]])


def test_all_are_one_example_in_the_order_of_drawing():
  rows, weight = paired(pairings.AllOf(), FOUR)
  np.testing.assert_array_equal(rows, [[[0, 1, 2, 3]]] * 2)
  np.testing.assert_array_equal(weight, [[1], [1]])


def test_two_of_four_are_refused():
  with pytest.raises(
    errors.InputError, match='two responses to a prompt, got 4'
  ):
    paired(pairings.Two(), FOUR)


def test_a_response_that_was_cut_is_not_chosen_where_only_others_may():
  # Of the first prompt the best, 4.0, was cut; of the second all were.
  tokens = jnp.array([[[5, 1], [5, 1], [5, 5], [5, 1]], [[5, 5]] * 4])
  responses = RESPONSES._replace(tokens=tokens)
  for kind, expected in (
    (pairings.Best, [[0]]),
    (pairings.BestWorst, [[0, 1]]),
  ):
    pairing = kind(may_win=pairings.ended_response)
    rows, weight = pairing(responses, FOUR, keys(2))
    np.testing.assert_array_equal(rows[0], expected)
    np.testing.assert_array_equal(weight, [[1], [0]])
