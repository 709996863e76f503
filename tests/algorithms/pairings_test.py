import jax
import jax.numpy as jnp
import numpy as np

from dap.algorithms import pairings
from dap.annotators import labels

P_AB = jnp.array([0.9, 0.2, 0.5, 0.7])
P_BA = jnp.array([0.1, 0.6, 0.5, 0.8])
KEYS = jax.random.split(jax.random.key(0), 4)


def test_the_one_that_does_better_when_shown_first_is_chosen():
  first, weight = pairings.Two()(P_AB, P_BA, KEYS)
  np.testing.assert_array_equal(
    first[np.array([0, 1, 3])], [True, False, False]
  )
  np.testing.assert_array_equal(weight, 1)


def test_ties_count_unless_they_are_weighed_out():
  _, weight = pairings.Two(weight=pairings.without_ties)(P_AB, P_BA, KEYS)
  np.testing.assert_array_equal(weight, [1, 1, 0, 1])


def test_another_rule_for_labels_is_a_function_passed_in():
  pairing = pairings.Two(label=labels.sampled_label)
  keys = jax.random.split(jax.random.key(1), 4000)
  rows = jnp.full(4000, 0.8), jnp.full(4000, 0.4)
  first, _ = pairing(*rows, keys)
  # The mean probability is 1/2 (0.8 + 1 - 0.4) = 0.7; 5 sigma of 4000 is .036.
  assert abs(np.mean(first) - 0.7) < 0.036


def test_swapping_the_two_responses_swaps_the_label():
  first, _ = pairings.Two()(P_AB, P_BA, KEYS)
  swapped, _ = pairings.Two()(P_BA, P_AB, KEYS)
  decided = P_AB != P_BA
  np.testing.assert_array_equal((first == ~swapped)[decided], True)
