"""Estimates of KL, against enumeration of a model that writes three texts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import estimators, losses

law = settings(deadline=None, derandomize=True, max_examples=30)
# Tokens a = 0 and end = 1, at most two of them: the texts are 'end', 'a a' and
# 'a end'. The policy says (.6, .4) and after an a (.5, .5), the reference
# (.5, .5) and (.25, .75).
POLICY = np.log([[0.6, 0.4], [0.5, 0.5]])
REFERENCE = np.log([[0.5, 0.5], [0.25, 0.75]])
TEXTS = np.array([[1, 0], [0, 0], [0, 1]])
MASK = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


def check(got, want):
  np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)


def scored(logits):
  """Token log-probs of each text."""
  each = jnp.broadcast_to(jnp.asarray(logits), (3, 2, 2))
  return losses.token_log_probs(each, jnp.asarray(TEXTS), jnp.asarray(MASK))


def per_token():
  """Exact KL of each token of each text, with padding left in."""
  each = [jnp.broadcast_to(x, (3, 2, 2)) for x in (POLICY, REFERENCE)]
  return estimators.token_kl(*each)


def estimates():
  """Log-ratio and exact estimate of each text, and the text's probability."""
  mask = jnp.asarray(MASK)
  ratio = losses.log_ratio(scored(POLICY), scored(REFERENCE), mask)
  exact = estimators.sequence_kl(per_token(), mask)
  return ratio, exact, jnp.exp(losses.sequence_sum(scored(POLICY), mask))


def test_the_exact_estimate_is_unbiased_and_counts_the_empty_prefix():
  ratio, exact, probability = estimates()
  enumerated = jnp.sum(probability * ratio)
  check(enumerated, 0.1064401352862)
  check(jnp.sum(probability * exact), enumerated)
  check(exact[1], 0.1639765497766)  # both steps of 'a a'
  check(exact[0], 0.02013551355069)  # the step that wrote the end counts
  without_first = 0.6 * per_token()[0, 1]
  check(without_first, 0.08630462173553)
  assert without_first < enumerated


def test_k1_and_k3_are_unbiased_and_k2_is_not():
  ratio, _, probability = estimates()
  tokens = scored(POLICY) - scored(REFERENCE)
  by_token = losses.sequence_sum(estimators.k3(tokens), jnp.asarray(MASK))
  mean = lambda x: jnp.sum(probability * x)
  for estimate in (estimators.k1(ratio), estimators.k3(ratio), by_token):
    check(mean(estimate), 0.1064401352862)
  check(mean(estimators.k2(ratio)), 0.1323943920852)


@law
@given(st.integers(0, 2**16))
def test_the_divergence_is_positive_and_zero_only_between_equals(seed):
  rng = np.random.default_rng(seed)
  first, second = jnp.asarray(rng.normal(0, 3, (2, 4, 5)))
  assert np.all(estimators.token_kl(first, second) > 0)
  check(estimators.token_kl(first, first + 2.5), np.zeros(4))


@law
@given(st.integers(0, 2**16))
def test_a_longer_text_is_the_sum_over_all_that_can_be_written(seed):
  # Three steps over three tokens, none of them the end: 27 texts.
  rng = np.random.default_rng(seed)
  tables = rng.normal(size=(2, 13, 3))  # one row for each prefix
  log_probs = np.asarray(jax.nn.log_softmax(tables, -1))
  exact = np.asarray(estimators.token_kl(*jnp.asarray(tables)))
  enumerated = by_token = 0.0
  for text in itertools.product(range(3), repeat=3):
    prefix = [0, 1 + text[0], 4 + 3 * text[0] + text[1]]
    log_p, log_q = log_probs[:, prefix, text].sum(1)
    enumerated += np.exp(log_p) * (log_p - log_q)
    by_token += np.exp(log_p) * exact[prefix].sum()
  np.testing.assert_allclose(by_token, enumerated, rtol=1e-9)


def test_padding_and_forbidden_tokens_do_not_count():
  first = jnp.array([[[0.0, 1.0, 7.0], [jnp.nan, 0.0, 0.0]]])
  second = jnp.array([[[0.0, 1.0, -7.0], [0.0, 0.0, 0.0]]])
  mask = jnp.array([[1.0, 0.0]])
  allowed = jnp.array([True, True, False])
  check(estimators.token_kl(first, second, mask, allowed), [[0.0, 0.0]])


def test_extreme_logits_give_finite_divergences_and_no_support_infinite():
  far = jnp.array([[1e4, 0.0, -1e4]], jnp.float32)
  check(estimators.token_kl(far, far[:, ::-1]), [2e4])
  never = jnp.array([[0.0, -jnp.inf, 0.0]])
  assert estimators.token_kl(jnp.zeros((1, 3)), never) == jnp.inf
  assert np.isfinite(estimators.token_kl(never, jnp.zeros((1, 3))))
