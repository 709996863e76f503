import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap.errors import InputError
from dap.losses import heads
from dap.models import packing, trained
from dap.models.policy import with_num_ids
from dap.models.rivals import WithRivals
from dap.records import Prompts, Responses

MODEL = WithRivals(tiny.POLICY, 3)
PARAMS = MODEL.init(jax.random.key(0))
PROMPTS = Prompts(jnp.arange(2), jnp.array([[5, 6, 7, 0], [8, 9, 10, 11]]))
TOKENS = jnp.array([[[3, 4, 1, 0], [5, 6, 7, 8]], [[1, 0, 0, 0], [9, 9, 1, 0]]])
HIDDEN = jax.random.normal(jax.random.key(1), (7, 5))
KERNEL = jax.random.normal(jax.random.key(2), (5, 11))
TARGETS = jnp.array([1, 2, 3, 4, 5, 6, 1])
ALLOWED = jnp.arange(11) % 10 > 0
WEIGHTS = jax.random.normal(jax.random.key(3), (7, 4))


def outputs(params=PARAMS, tokens=TOKENS, model=MODEL):
  numbers = jnp.zeros(tokens.shape)
  read = jax.jit(model.outputs)
  return read(params, PROMPTS, Responses(tokens, numbers, numbers))


def plain(hidden, kernel, num_rivals=3):
  """Sorts all logits."""
  logits = jnp.where(ALLOWED, hidden @ kernel, -1e30)
  nats = jax.nn.log_softmax(logits)
  others = jnp.where(jax.nn.one_hot(TARGETS, 11) > 0, -jnp.inf, logits)
  order = jnp.argsort(-others, axis=-1)[:, :num_rivals]
  ids = jnp.concatenate([TARGETS[:, None], order], axis=1)
  return jnp.take_along_axis(nats, ids, axis=1)


@pytest.mark.parametrize('limit', [1 << 24, 20], ids=['whole', 'chunks'])
def test_rivals_and_gradients_are_those_of_sorted_logits(limit, monkeypatch):
  monkeypatch.setattr(heads, 'MAX_LOGITS', limit)

  def fused(hidden, kernel):
    return heads.head_rivals(hidden, kernel, TARGETS, ALLOWED, num_rivals=3)

  def total(function):
    return lambda *given: jnp.sum(WEIGHTS * function(*given))

  np.testing.assert_allclose(
    fused(HIDDEN, KERNEL), plain(HIDDEN, KERNEL), atol=1e-5
  )
  ours, theirs = (
    jax.grad(total(function), (0, 1))(HIDDEN, KERNEL)
    for function in (fused, plain)
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), ours, theirs
  )


def test_a_large_vocabulary_never_has_all_its_logits_in_memory():
  rows, width, vocab = 8 * 512, 16, 32_128
  shapes = (
    jax.ShapeDtypeStruct((rows, width), jnp.float32),
    jax.ShapeDtypeStruct((width, vocab), jnp.float32),
  )
  targets = jnp.ones(rows, jnp.int32)

  def total(hidden, kernel):
    return heads.head_rivals(hidden, kernel, targets, num_rivals=5).sum()

  compiled = jax.jit(jax.grad(total, (0, 1))).lower(*shapes).compile()
  temporary = compiled.memory_analysis().temp_size_in_bytes
  assert temporary < 0.9 * 4 * rows * vocab


def test_log_probs_are_those_of_the_policy():
  expected = jax.jit(tiny.POLICY.log_probs)(PARAMS, PROMPTS.tokens, TOKENS)
  np.testing.assert_allclose(outputs().log_probs, expected, atol=1e-5)


def test_rivals_are_the_likeliest_of_all_other_tokens():
  read = jax.jit(tiny.POLICY.log_probs)
  others = [
    read(PARAMS, PROMPTS.tokens, TOKENS.at[0, 1, 3].set(token))[0, 1, 3]
    for token in range(1, tiny.VOCAB)
    if token != TOKENS[0, 1, 3]
  ]
  np.testing.assert_allclose(
    outputs().rivals[0, 1, 3], np.sort(others)[::-1][:3], atol=1e-5
  )


def test_padding_has_none():
  np.testing.assert_array_equal(outputs().rivals[TOKENS == 0], 0)
  wide = jnp.pad(TOKENS, ((0, 0), (0, 0), (0, 3)))
  np.testing.assert_allclose(
    outputs(tokens=wide).rivals[:, :, :4], outputs().rivals, atol=1e-5
  )


def test_packed_texts_have_the_same():
  packed = packing.packed(MODEL, packing.Room(prompts=8, responses=12))
  assert packed != MODEL
  ours, theirs = outputs(model=packed), outputs()
  np.testing.assert_allclose(ours.rivals, theirs.rivals, atol=1e-5)
  np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-5)


def test_others_read_the_policy_alone():
  assert isinstance(MODEL, trained.Trained)
  assert MODEL.shared == tiny.POLICY == trained.policy_of(MODEL)
  assert MODEL.split(PARAMS) == (PARAMS, {})
  assert MODEL.join(*MODEL.split(PARAMS)) == PARAMS
  other = dataclasses.replace(tiny.POLICY, vocabulary_size=None)
  assert MODEL.with_shared(other).shared == other


def test_no_rival_is_refused():
  with pytest.raises(InputError, match='num_rivals >= 1, got 0'):
    WithRivals(tiny.POLICY, 0)


def test_more_rivals_than_other_tokens_are_refused_when_ids_are_known():
  free = dataclasses.replace(tiny.POLICY, vocabulary_size=None)
  every = WithRivals(free, tiny.VOCAB - 1)
  with pytest.raises(InputError, match='of 22 tokens has at most 21 rivals'):
    with_num_ids(every, 23)  # padding is never said
