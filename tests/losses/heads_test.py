import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dap.losses import heads, log_probs

KEYS = jax.random.split(jax.random.key(0), 6)
HIDDEN = jax.random.normal(KEYS[0], (7, 5))
KERNEL = jax.random.normal(KEYS[1], (5, 11))
TARGETS = jnp.array([1, 2, 3, 4, 5, 6, 1])
ALLOWED = jnp.arange(11) % 10 > 0
WEIGHTS = jax.random.normal(KEYS[2], (7,))


@pytest.fixture(params=[1 << 24, 20], ids=['kept', 'recomputed'])
def limit(request, monkeypatch):
  monkeypatch.setattr(heads, 'MAX_LOGITS', request.param)


def plain(hidden, kernel, allowed):
  return log_probs.token_log_probs(hidden @ kernel, TARGETS, allowed=allowed)


@pytest.mark.parametrize('allowed', [None, ALLOWED], ids=['all', 'some'])
def test_values_and_gradients_are_those_of_a_plain_softmax(limit, allowed):
  def total(function):
    return lambda h, k: jnp.sum(WEIGHTS * function(h, k, allowed))

  def fused(hidden, kernel, allowed):
    return heads.head_log_probs(hidden, kernel, TARGETS, allowed)

  ours = jax.value_and_grad(total(fused), (0, 1))(HIDDEN, KERNEL)
  theirs = jax.value_and_grad(total(plain), (0, 1))(HIDDEN, KERNEL)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), ours, theirs
  )


def test_the_written_gradient_is_that_of_finite_differences(limit):
  def total(*args):
    hidden, kernel = map(jnp.asarray, args)
    return heads.head_log_probs(hidden, kernel, TARGETS, ALLOWED).sum()

  check_grads(total, (HIDDEN, KERNEL), order=1, modes='rev', rtol=0.02)


def test_a_target_that_is_not_allowed_has_no_gradient_and_no_nan(limit):
  def total(hidden, kernel):
    scores = heads.head_log_probs(hidden, kernel, TARGETS * 0, ALLOWED)
    return jnp.sum(jnp.where(TARGETS > 3, scores, 0) * 0)

  gradients = jax.grad(total, (0, 1))(HIDDEN, KERNEL)
  assert all((x == 0).all() for x in gradients)
  scores = heads.head_log_probs(HIDDEN, KERNEL, TARGETS * 0, ALLOWED)
  assert (scores < -1e29).all()


def test_a_bfloat16_state_is_scored_in_float32(limit):
  hidden = HIDDEN.astype(jnp.bfloat16)
  scores = heads.head_log_probs(hidden, KERNEL, TARGETS)
  expected = plain(hidden.astype(jnp.float32), KERNEL, None)
  assert scores.dtype == jnp.float32
  np.testing.assert_allclose(scores, expected, atol=1e-5)
  gradient = jax.grad(lambda h: heads.head_log_probs(h, KERNEL, TARGETS).sum())(
    hidden
  )
  assert gradient.dtype == jnp.bfloat16


def test_one_allowed_mask_may_be_traced(limit):
  score = jax.jit(
    lambda allowed: heads.head_log_probs(HIDDEN, KERNEL, TARGETS, allowed)
  )
  for allowed in (ALLOWED, jnp.ones(11, bool)):
    np.testing.assert_allclose(
      score(allowed), plain(HIDDEN, KERNEL, allowed), atol=1e-5
    )
  assert score._cache_size() == 1


def test_kl_and_its_gradient_are_the_plain_sum(limit):
  other = jax.random.normal(KEYS[3], (7, 4))
  kernel = jax.random.normal(KEYS[4], (4, 11))

  def plain_kl(hidden):
    log_p = jax.nn.log_softmax(hidden @ KERNEL, where=ALLOWED[None])
    log_q = jax.nn.log_softmax(other @ kernel, where=ALLOWED[None])
    difference = jnp.where(ALLOWED[None], log_p - log_q, 0)
    return jnp.sum(jnp.exp(log_p) * difference, axis=-1)

  def kl(hidden):
    return heads.head_kl(hidden, KERNEL, other, kernel, ALLOWED)

  np.testing.assert_allclose(kl(HIDDEN), plain_kl(HIDDEN), atol=1e-5)
  ours = jax.grad(lambda h: (WEIGHTS * kl(h)).sum())(HIDDEN)
  theirs = jax.grad(lambda h: (WEIGHTS * plain_kl(h)).sum())(HIDDEN)
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_kl_of_equal_heads_is_zero(limit):
  kl = heads.head_kl(HIDDEN, KERNEL, HIDDEN, KERNEL)
  np.testing.assert_array_equal(kl, np.zeros(7))


ROWS, WIDTH, VOCAB = 8 * 512, 16, 32_128
LOGITS = 4 * ROWS * VOCAB  # bytes of all logits


def temporary_bytes(function):
  shapes = (
    jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32),
    jax.ShapeDtypeStruct((WIDTH, VOCAB), jnp.float32),
  )
  compiled = jax.jit(function).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_a_large_vocabulary_never_has_all_its_logits_in_memory():
  targets = jnp.ones(ROWS, jnp.int32)

  def total(hidden, kernel):
    return heads.head_log_probs(hidden, kernel, targets).sum()

  def divergence(hidden, kernel):
    return heads.head_kl(hidden, kernel, hidden, 2 * kernel).sum()

  assert temporary_bytes(total) < 0.5 * LOGITS
  assert temporary_bytes(jax.grad(total, (0, 1))) < 0.5 * LOGITS
  assert temporary_bytes(divergence) < 0.75 * LOGITS


def test_a_plain_softmax_would():
  targets = jnp.ones(ROWS, jnp.int32)

  def total(hidden, kernel):
    return log_probs.token_log_probs(hidden @ kernel, targets).sum()

  assert temporary_bytes(jax.grad(total, (0, 1))) > LOGITS
