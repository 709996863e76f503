"""Transforms of logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import errors, sampling

law = settings(deadline=None, derandomize=True, max_examples=40)
SIXTEENTHS = jnp.log(jnp.array([[1.0, 8, 2, 4, 1]]) / 16)


def kept(transform, logits=SIXTEENTHS):
  return np.flatnonzero(np.isfinite(transform(logits)[0])).tolist()


def random_logits(seed):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(0, 2, (3, 17)), jnp.float32)


def test_temperature_divides():
  half = sampling.Temperature(0.5)(SIXTEENTHS)
  np.testing.assert_allclose(half, 2 * SIXTEENTHS)


def test_top_k_keeps_the_likeliest_and_what_ties_with_the_last():
  assert kept(sampling.TopK(1)) == [1]
  assert kept(sampling.TopK(3)) == [1, 2, 3]
  assert kept(sampling.TopK(4)) == [0, 1, 2, 3, 4]  # 0 and 4 tie
  assert kept(sampling.TopK(99)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
  ('p', 'tokens'),
  [
    (0.1, [1]),
    (0.5, [1]),  # 8/16 is enough
    (0.51, [1, 3]),
    (0.75, [1, 3]),
    (0.8, [1, 2, 3]),
    (0.9, [0, 1, 2, 3, 4]),  # 14/16 is too little; 0 and 4 tie
  ],
)
def test_top_p_keeps_the_fewest_that_suffice(p, tokens):
  assert kept(sampling.TopP(p)) == tokens


@law
@given(st.integers(0, 2**16), st.floats(0.01, 0.99))
def test_the_nucleus_is_enough_and_not_more_than_enough(seed, p):
  logits = random_logits(seed)
  inside = np.isfinite(sampling.TopP(p)(logits))
  probabilities = np.asarray(jax.nn.softmax(logits), np.float64)
  for row, chosen in zip(probabilities, inside):
    assert row[chosen].sum() >= p - 1e-6
    assert row[chosen].sum() - row[chosen].min() < p + 1e-6
    assert not np.any(~chosen) or row[chosen].min() > row[~chosen].max()


def test_only_ids_of_the_vocabulary_are_allowed_and_never_padding():
  assert kept(sampling.AllowedTokens(4)) == [1, 2, 3]


@law
@given(st.integers(0, 2**16))
def test_what_cannot_be_chosen_stays_so(seed):
  logits = sampling.AllowedTokens(9)(random_logits(seed))
  for transform in (
    sampling.Temperature(0.3),
    sampling.TopK(12),
    sampling.TopP(0.999),
  ):
    out = transform(logits)
    assert not np.any(np.isnan(out))
    assert np.all(np.isneginf(out[:, 9:])) and np.all(np.isneginf(out[:, 0]))


def test_transforms_are_values_that_programs_can_be_cached_by():
  choose = lambda: sampling.InverseCdf(
    (sampling.Temperature(0.9), sampling.TopK(40), sampling.TopP(0.5))
  )
  assert choose() == choose() and hash(choose()) == hash(choose())


@pytest.mark.parametrize(
  ('build', 'told'),
  [
    (lambda: sampling.Temperature(0.0), 'Greedy'),
    (lambda: sampling.TopK(0), 'leave out TopK'),
    (lambda: sampling.TopP(1.0), 'leave out TopP'),
    (lambda: sampling.AllowedTokens(1), 'vocabulary_size >= 2'),
  ],
)
def test_numbers_out_of_range_are_refused_with_what_to_do(build, told):
  with pytest.raises(errors.InputError, match=told):
    build()
