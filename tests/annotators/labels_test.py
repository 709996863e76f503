"""Labels made of a preference model's two answers."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dap.annotators import labels

law = settings(deadline=None, derandomize=True, max_examples=50)
probability = st.floats(0, 1, width=32)
one = lambda p: jnp.array([p], jnp.float32)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


@law
@given(probability, probability)
def test_swapping_the_responses_gives_the_complement(p_ab, p_ba):
  for soft in (labels.mean_probability, labels.mean_log_odds_probability):
    here, there = soft(one(p_ab), one(p_ba)), soft(one(p_ba), one(p_ab))
    assert np.all(np.isfinite(here)) and 0 <= here[0] <= 1
    np.testing.assert_allclose(here + there, [1.0], rtol=3e-7)
  assert labels.mean_probability(one(p_ab), one(p_ab)) == 0.5


@law
@given(probability, probability)
def test_the_sign_rule_agrees_with_both_probabilities(p_ab, p_ba):
  label = labels.sign_label(one(p_ab), one(p_ba), keys(1))[0]
  mean = labels.mean_probability(one(p_ab), one(p_ba))[0]
  if mean != 0.5:
    assert label == (mean > 0.5)


def test_a_liking_for_the_first_place_makes_no_preference():
  biased = jnp.full(4000, 0.9)
  label = labels.sign_label(biased, biased, keys(4000))
  # 4 standard deviations of 4000 fair coins
  assert abs(float(jnp.mean(label)) - 0.5) < 4 * 0.5 / np.sqrt(4000)


@law
@given(st.floats(-4, 4), st.floats(-4, 4))
def test_the_mean_of_log_odds_cancels_a_bias_of_place(log_odds, bias):
  with jax.enable_x64(True):
    sigmoid = lambda x: jax.nn.sigmoid(jnp.array([x]))
    got = labels.mean_log_odds_probability(
      sigmoid(log_odds + bias), sigmoid(bias - log_odds)
    )
    np.testing.assert_allclose(got, sigmoid(log_odds), rtol=1e-9)


def test_sampled_labels_have_the_mean_probability():
  p_ab, p_ba = jnp.full(10_000, 0.8), jnp.full(10_000, 0.35)
  label = labels.sampled_label(p_ab, p_ba, keys(10_000))
  spread = np.sqrt(0.725 * 0.275 / 10_000)
  assert abs(float(jnp.mean(label)) - 0.725) < 4 * spread


def test_a_label_depends_on_its_own_key_alone():
  tied = jnp.full(8, 0.5)
  full = labels.sign_label(tied, tied, keys(8))
  part = labels.sign_label(tied[3:], tied[3:], keys(8)[3:])
  np.testing.assert_array_equal(full[3:], part)
