"""Sampling of whole responses, with a toy recurrent model as the decoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dap import losses, sampling

VOCAB, WIDTH, LENGTH, BATCH = 11, 6, 9, 32
DRAW = sampling.InverseCdf()


def parameters(seed=0):
  keys = jax.random.split(jax.random.key(seed), 3)
  shapes = (VOCAB, WIDTH), (WIDTH, WIDTH), (WIDTH, VOCAB)
  return tuple(jax.random.normal(k, s) for k, s in zip(keys, shapes))


def forward(params, state, tokens):
  embedding, recurrent, head = params
  state = jnp.tanh(embedding[tokens] + state @ recurrent)
  # Padding cannot be drawn.
  return (state @ head).at[..., 0].set(-jnp.inf), state


def prompts():
  return jax.random.normal(jax.random.key(7), (BATCH, WIDTH))


def keys(seed=3):
  return jax.random.split(jax.random.key(seed), BATCH)


@functools.partial(jax.jit, static_argnames=('num_samples', 'choose', 'eos_id'))
def respond(params, prompts, keys, *, num_samples, choose, eos_id=1):
  shape = (prompts.shape[0], num_samples, WIDTH)
  return sampling.sample(
    lambda state, tokens, _: forward(params, state, tokens),
    jnp.broadcast_to(prompts[:, None], shape),
    keys,
    num_samples=num_samples,
    length=LENGTH,
    choose=choose,
    eos_id=eos_id,
  )


def respond_to_prompts(choose=DRAW, **options):
  return respond(
    parameters(), prompts(), keys(), num_samples=3, choose=choose, **options
  )


def teacher_forced(params, prompts, tokens):
  """Logits of the same model, without the sampler's loop."""
  shifted = jnp.pad(tokens, ((0, 0), (0, 0), (1, 0)))[..., :-1]
  state = jnp.broadcast_to(
    prompts[:, None], (*tokens.shape[:2], prompts.shape[1])
  )
  logits = []
  for t in range(tokens.shape[2]):
    each, state = forward(params, state, shifted[..., t])
    logits.append(each)
  return jnp.stack(logits, axis=2)


def test_sampled_log_probs_are_those_of_teacher_forcing():
  responses = respond_to_prompts()
  logits = teacher_forced(parameters(), prompts(), responses.tokens)
  scored = losses.token_log_probs(logits, responses.tokens, responses.mask)
  np.testing.assert_allclose(scored, responses.log_probs, atol=1e-5)


def test_the_end_counts_once_and_padding_follows():
  responses = respond_to_prompts()
  tokens, mask, log_probs = (np.asarray(x) for x in responses)
  ended = 0
  for row, inside, scores in zip(*(x.reshape(-1, LENGTH) for x in
                                   (tokens, mask, log_probs))):  # fmt: skip
    count = int(inside.sum())
    assert np.all(inside[:count] == 1) and np.all(inside[count:] == 0)
    assert np.all(row[:count] > 0) and np.all(scores[:count] < 0)
    assert not np.any(row[count:]) and not np.any(scores[count:])
    if count < LENGTH:
      assert row[count - 1] == 1
    assert np.sum(row == 1) <= 1
    ended += row[count - 1] == 1
  assert 0 < ended < BATCH * 3  # some ended, and some were cut


def test_a_response_that_is_cut_has_no_end():
  responses = respond_to_prompts(eos_id=99)
  assert np.all(np.asarray(responses.mask) == 1)
  assert not np.any(np.asarray(responses.tokens) == 99)


def test_the_loop_ends_with_the_last_response():
  positions = []

  def step(cache, tokens, position):
    jax.debug.callback(lambda p: positions.append(int(p)), position)
    # The first token is 5, the second the end.
    wanted = jnp.where(position == 0, 5, 1)
    logits = jnp.where(jnp.arange(VOCAB) == wanted, 0.0, -jnp.inf)
    return jnp.broadcast_to(logits, (*tokens.shape, VOCAB)), cache

  responses = sampling.sample(
    step,
    (),
    jax.random.split(jax.random.key(0), 2),
    num_samples=2,
    length=50,
    choose=DRAW,
  )
  jax.effects_barrier()
  assert sorted(positions) == [0, 1]
  np.testing.assert_array_equal(
    responses.tokens[..., :4], np.full((2, 2, 4), [5, 1, 0, 0])
  )


def test_a_row_depends_on_its_own_key_and_prompt_alone():
  half = BATCH // 2
  others = respond(
    parameters(),
    prompts().at[:half].set(0.0),
    keys().at[:half].set(keys(5)[:half]),
    num_samples=3,
    choose=DRAW,
  )
  full, other = np.asarray(respond_to_prompts().tokens), others.tokens
  np.testing.assert_array_equal(full[half:], other[half:])
  assert np.any(full[:half] != other[:half])


@pytest.mark.skipif(jax.device_count() < 4, reason='needs four devices')
def test_rows_over_four_devices_give_the_responses_of_one():
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  rows = NamedSharding(mesh, PartitionSpec('data'))
  one = respond_to_prompts()
  four = respond(
    jax.device_put(parameters(), NamedSharding(mesh, PartitionSpec())),
    jax.device_put(prompts(), rows),
    jax.device_put(keys(), rows),
    num_samples=3,
    choose=DRAW,
  )
  np.testing.assert_array_equal(one.tokens, four.tokens)
  np.testing.assert_allclose(one.log_probs, four.log_probs, atol=1e-5)


def test_samples_of_a_prompt_differ_and_greedy_ones_do_not():
  tokens = np.asarray(respond_to_prompts().tokens)
  assert np.any(tokens[:, 0] != tokens[:, 1])
  greedy = np.asarray(respond_to_prompts(choose=sampling.Greedy()).tokens)
  np.testing.assert_array_equal(greedy[:, 0], greedy[:, 1])


def test_responses_have_the_shapes_and_types_of_the_record():
  responses = respond_to_prompts()
  assert responses.tokens.dtype == jnp.int32
  assert responses.mask.dtype == responses.log_probs.dtype == jnp.float32
  assert {x.shape for x in responses} == {(BATCH, 3, LENGTH)}
