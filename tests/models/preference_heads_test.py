import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import estimators
from dap.annotators import labels, models
from dap.models import heads
from dap.records import Responses

FIRST, SECOND, PREFIX = (20, 21), (22,), (19,)
JOINT = heads.JointPreferenceModel(
  tiny.T5,
  context_length=18,
  first_mark=FIRST,
  second_mark=SECOND,
  first_id=17,
  second_id=18,
  prefix=PREFIX,
)
LAST = heads.PointwisePreferenceModel(tiny.T5)  # LastTokenScore
MODELS = {'pooled': tiny.JUDGE, 'last': LAST, 'joint': JOINT}
PAIRS = tiny.pairs(8)
PROMPTS, ONE, OTHER = map(
  jnp.asarray, (PAIRS.prompts, PAIRS.chosen, PAIRS.rejected)
)


@functools.cache
def params_of(name):
  return MODELS[name].init(jax.random.key(3))


@functools.cache
def program(model):
  return jax.jit(model.log_odds)


def log_odds(name, prompts=PROMPTS, one=ONE, other=OTHER):
  return program(MODELS[name])(params_of(name), prompts, one, other)


def real(row):
  return [int(token) for token in row if token > 0]


def padded(tokens, count):
  return jnp.pad(tokens, ((0, 0), (0, count)))


# Both kinds


@pytest.mark.parametrize('name', MODELS)
def test_swapping_the_responses_swaps_the_orders(name):
  first, second = log_odds(name)
  swapped_first, swapped_second = log_odds(name, one=OTHER, other=ONE)
  np.testing.assert_allclose(first, swapped_second, atol=1e-6)
  np.testing.assert_allclose(second, swapped_first, atol=1e-6)
  assert np.all(np.abs(first) > 1e-4)  # it has an opinion


@pytest.mark.parametrize('name', MODELS)
def test_equal_responses_tie(name):
  first, second = log_odds(name, other=ONE)
  np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize('name', MODELS)
def test_padding_changes_no_preference(name):
  longer = log_odds(name, padded(PROMPTS, 3), padded(ONE, 0), padded(OTHER, 0))
  for before, after in zip(log_odds(name), longer):
    np.testing.assert_allclose(before, after, atol=2e-6)


@pytest.mark.parametrize('name', ['pooled', 'last'])
def test_padding_of_responses_changes_no_score(name):
  longer = log_odds(name, PROMPTS, padded(ONE, 4), padded(OTHER, 4))
  for before, after in zip(log_odds(name), longer):
    np.testing.assert_allclose(before, after, atol=2e-6)


# Pointwise


@pytest.mark.parametrize('name', ['pooled', 'last'])
def test_a_pointwise_model_is_antisymmetric(name):
  first, second = log_odds(name)
  np.testing.assert_array_equal(first, -second)
  p_ab, p_ba = jax.nn.sigmoid(first), jax.nn.sigmoid(second)
  np.testing.assert_allclose(p_ab + p_ba, 1, atol=1e-6)


def test_the_last_token_score_reads_the_last_real_state():
  hidden = jax.random.normal(jax.random.key(0), (1, 3, 4, 5))
  mask = jnp.array([[[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]], jnp.float32)
  kernel = jax.random.normal(jax.random.key(1), (5, 1))
  scores = heads.LastTokenScore()({'kernel': kernel}, hidden, mask)
  last = [hidden[0, 0, 3], hidden[0, 1, 1], hidden[0, 2, 0]]
  np.testing.assert_allclose(
    scores[0], [(state @ kernel)[0] for state in last], rtol=1e-6
  )


@pytest.mark.parametrize('name', ['pooled', 'last'])
def test_the_end_of_a_response_is_read(name):
  """The same words, finished and cut, have scores that differ."""
  cut = jnp.array([[5, 6, 7, 8, 0]] * 8)
  first, _ = log_odds(name, one=cut.at[:, 4].set(1), other=cut)
  assert np.all(np.abs(first) > 1e-4)


def test_the_last_token_score_is_the_eos_states_alone():
  """Hidden states before the end of sequence carry no gradient."""
  hidden = jax.random.normal(jax.random.key(0), (1, 1, 4, 5))
  mask = jnp.array([[[1.0, 1.0, 1.0, 0.0]]])
  kernel = {'kernel': jnp.ones((5, 1))}
  grads = jax.grad(lambda h: heads.LastTokenScore()(kernel, h, mask).sum())(
    hidden
  )
  np.testing.assert_array_equal(np.any(grads[0, 0], axis=-1), [0, 0, 1, 0])


# Joint


def test_the_joint_context_has_everything_in_its_place():
  context = JOINT.context(PROMPTS, ONE, OTHER)
  for row, prompt, one, other in zip(context, PROMPTS, ONE, OTHER):
    words = [
      *PREFIX,
      *real(prompt),
      *FIRST,
      *(t for t in real(one) if t != 1),
      *SECOND,
      *(t for t in real(other) if t != 1),
    ]
    dropped = max(0, len(words) - 18)
    expected = words[:1] + words[1 + dropped :]  # the prompt loses its left
    assert real(row) == expected
    assert np.all(row[len(expected) :] == 0)


def test_a_context_without_room_loses_only_the_left_of_its_prompt():
  full = jnp.full((8, 5), 7)
  narrow = dataclasses.replace(JOINT, context_length=16)  # 4 marks + 10 + 2
  contexts = [
    narrow.context(PROMPTS, full, OTHER),
    narrow.context(PROMPTS, OTHER, full),
  ]
  for row in range(8):
    words = [t for t in real(OTHER[row]) if t != 1]
    room = 16 - 4 - 5 - len(words)
    kept = real(PROMPTS[row])[-room:]
    ends = [
      [*FIRST, *[7] * 5, *SECOND, *words],
      [*FIRST, *words, *SECOND, *[7] * 5],
    ]
    for context, end in zip(contexts, ends):
      assert real(context[row]) == [*PREFIX, *kept, *end]


def test_a_context_that_cannot_hold_two_responses_is_refused():
  small = dataclasses.replace(JOINT, context_length=13)
  with pytest.raises(ValueError, match='context_length >= 14.*got 13'):
    small.context(PROMPTS, ONE, OTHER)


def test_padding_of_responses_changes_no_context():
  wide = dataclasses.replace(JOINT, context_length=22)
  np.testing.assert_array_equal(
    wide.context(PROMPTS, padded(ONE, 4), padded(OTHER, 4)),
    wide.context(PROMPTS, ONE, OTHER),
  )


# What a liking for the first place does


class LikesFirst(heads.PointwisePreferenceModel):
  """r = .9 for whatever is shown first: a pure position bias."""

  def log_odds(self, params, prompts, first, second):
    odds = jnp.full(prompts.shape[0], np.log(9.0))
    return odds, odds


def test_a_pure_position_bias_is_a_tie_and_never_a_preference():
  both = jnp.stack([ONE, OTHER], axis=1)
  responses = Responses(
    both, (both > 0).astype(jnp.float32), jnp.zeros(both.shape)
  )
  biased = models.PreferenceAnnotator(LikesFirst(JOINT.language_model))
  keys = jax.random.split(jax.random.key(0), len(PROMPTS))
  p_ab, p_ba = biased({}, PROMPTS, responses, keys).T
  np.testing.assert_allclose(p_ab, 0.9, rtol=1e-6)
  wins = estimators.sign_rule_wins(np.asarray(p_ab), np.asarray(p_ba))
  np.testing.assert_array_equal(wins, 0.5)
  keys = jax.random.split(jax.random.key(0), 2000)
  coins = labels.sign_label(jnp.full(2000, 0.9), jnp.full(2000, 0.9), keys)
  assert abs(np.mean(coins) - 0.5) < 0.056  # 5 sigma
  np.testing.assert_allclose(labels.mean_probability(p_ab, p_ba), 0.5)
