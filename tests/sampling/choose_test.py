"""Choice of a token from logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import sampling

law = settings(deadline=None, derandomize=True, max_examples=60)
LAST = np.nextafter(np.float32(1), np.float32(0))
draw = jax.jit(sampling.InverseCdf())


def random_logits(rng, rows, vocab, scale=3.0):
  return rng.normal(0, scale, (rows, vocab)).astype(np.float32)


@pytest.mark.parametrize('vocab', [1, 2, 37, 1000])
def test_evenly_spaced_uniforms_count_out_the_probabilities(vocab):
  logits = random_logits(np.random.default_rng(vocab), 1, vocab)
  count = 2**14
  uniform = (jnp.arange(count) + 0.5) / count
  tokens, _ = draw(jnp.repeat(jnp.asarray(logits), count, 0), uniform)
  expected = count * np.asarray(jax.nn.softmax(logits[0]), np.float64)
  drawn = np.bincount(tokens, minlength=vocab)
  # Each token owns one interval, so it is off by less than a draw either side.
  assert len(drawn) == vocab
  assert np.max(np.abs(drawn - expected)) < 1.1


def test_random_uniforms_pass_a_chi_square_test():
  vocab, count = 200, 100_000
  logits = jnp.asarray(random_logits(np.random.default_rng(1), 1, vocab, 1.0))
  uniform = jax.random.uniform(jax.random.key(2), (count,))
  tokens, _ = draw(jnp.repeat(logits, count, 0), uniform)
  expected = count * np.asarray(jax.nn.softmax(logits[0]), np.float64)
  drawn = np.bincount(tokens, minlength=vocab)
  statistic = np.sum((drawn - expected) ** 2 / expected)
  degrees = vocab - 1
  # 4 standard deviations of a chi-square variable to either side.
  assert abs(statistic - degrees) < 4 * np.sqrt(2 * degrees)


@law
@given(st.integers(0, 2**16), st.sampled_from([5, 64, 300]))
def test_a_token_of_probability_zero_is_never_drawn(seed, vocab):
  rng = np.random.default_rng(seed)
  rows = 64
  logits = random_logits(rng, rows, vocab, 20.0)
  forbidden = rng.random((rows, vocab)) < rng.choice([0.1, 0.9, 0.99])
  forbidden[:, rng.integers(vocab)] = False  # one at least can be drawn
  underflowing = rng.random((rows, vocab)) < 0.3
  logits = np.where(underflowing, logits - 1e4, logits)
  logits = np.where(forbidden, -np.inf, logits)
  uniform = rng.random(rows, dtype=np.float32)
  uniform[:16], uniform[16:32] = LAST, 0.0
  tokens, log_probs = draw(jnp.asarray(logits), jnp.asarray(uniform))
  possible = np.exp(logits - logits.max(1, keepdims=True)) > 0
  assert np.all(possible[np.arange(rows), tokens])
  assert np.all(np.isfinite(log_probs))


def test_the_ends_of_the_unit_interval_draw_tokens_that_can_be():
  logits = np.full((2, 100), -np.inf, np.float32)
  logits[:, [40, 50]] = 0.0
  tokens, _ = draw(jnp.asarray(logits), jnp.array([0.0, LAST]))
  assert sorted(tokens.tolist()) == [40, 50]


@pytest.mark.parametrize('vocab', [37, 32128])
def test_log_probs_are_those_of_the_distribution_drawn_from(vocab):
  rng = np.random.default_rng(5)
  logits = jnp.asarray(random_logits(rng, 8, vocab))
  transforms = (sampling.Temperature(0.7), sampling.TopK(20))
  shaped = logits
  for transform in transforms:
    shaped = transform(shaped)
  expected = jax.nn.log_softmax(shaped)
  uniform = jnp.asarray(rng.random(8, dtype=np.float32))
  for choose in (sampling.InverseCdf(transforms), sampling.Greedy(transforms)):
    tokens, log_probs = choose(logits, uniform)
    picked = expected[jnp.arange(8), tokens]
    np.testing.assert_allclose(log_probs, picked, rtol=1e-5, atol=1e-5)


@law
@given(st.integers(0, 2**16))
def test_adding_a_constant_to_the_logits_changes_nothing(seed):
  rng = np.random.default_rng(seed)
  logits = np.round(random_logits(rng, 16, 64) * 64) / 64  # exact sums
  uniform = jnp.asarray(rng.random(16, dtype=np.float32))
  here = draw(jnp.asarray(logits), uniform)
  there = draw(jnp.asarray(logits + 1024), uniform)
  np.testing.assert_array_equal(here[0], there[0])
  np.testing.assert_allclose(here[1], there[1], rtol=1e-6, atol=1e-6)


def test_greedy_takes_the_likeliest_and_the_first_of_equals():
  logits = jnp.array([[0.0, 3.0, 1.0, 3.0], [-jnp.inf, -5.0, -7.0, -9.0]])
  tokens, _ = sampling.Greedy()(logits, jnp.zeros(2))
  assert tokens.tolist() == [1, 1]
