import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap.models import t5

CONFIG = t5.T5Config(32, 16, 2, 8, 24, 1, 2)
PARAMS = t5.init_params(CONFIG, jax.random.key(0))
PROMPTS = jnp.array([[5, 6, 7, 0], [8, 9, 10, 11], [12, 0, 0, 0]])
RESPONSES = jax.random.randint(jax.random.key(1), (3, 2, 5), 3, 32)


def call(method, *args, config=CONFIG, **kwargs):
  return t5.apply(config, PARAMS, method, *args, **kwargs)


@functools.partial(jax.jit, static_argnames=('config', 'deterministic'))
def hidden(prompts, responses, config=CONFIG, **kwargs):
  encoded = call('encode', prompts, config=config, **kwargs)
  return call(
    'decode_hidden', encoded, prompts, responses, config=config, **kwargs
  )


def test_shift_right_puts_zero_first():
  tokens = jnp.array([[4, 5, 1]])
  np.testing.assert_array_equal(t5.shift_right(tokens), [[0, 4, 5]])


def test_responses_that_share_an_encoding_are_as_if_alone():
  together = hidden(PROMPTS, RESPONSES)
  for number in range(2):
    alone = hidden(PROMPTS, RESPONSES[:, number : number + 1])
    np.testing.assert_allclose(together[:, number], alone[:, 0], atol=1e-5)


def test_padding_of_the_prompt_changes_nothing():
  wider = jnp.pad(PROMPTS, ((0, 0), (0, 3)))
  np.testing.assert_allclose(
    hidden(wider, RESPONSES), hidden(PROMPTS, RESPONSES), atol=1e-5
  )


def test_a_state_depends_on_earlier_tokens_only():
  other = RESPONSES.at[:, :, 2].add(-2)
  before, after = hidden(PROMPTS, RESPONSES), hidden(PROMPTS, other)
  np.testing.assert_array_equal(before[:, :, :3], after[:, :, :3])
  assert (before[:, :, 3:] != after[:, :, 3:]).any(-1).all()


def test_reading_is_decoding_without_the_shift():
  encoded = call('encode', PROMPTS)
  read = call('read', encoded, PROMPTS, t5.shift_right(RESPONSES))
  np.testing.assert_allclose(read, hidden(PROMPTS, RESPONSES), atol=1e-5)


@pytest.mark.parametrize('num_samples', [1, 2])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_cached_steps_give_the_states_of_teacher_forcing(num_samples, dtype):
  config = dataclasses.replace(CONFIG, dtype=dtype)
  responses = RESPONSES[:, :num_samples]
  taught = hidden(PROMPTS, responses, config)
  encoded = call('encode', PROMPTS, config=config)
  cache = call(
    'prefill',
    encoded,
    PROMPTS,
    num_samples=num_samples,
    length=5,
    config=config,
  )
  inputs = jnp.moveaxis(t5.shift_right(responses), -1, 0)

  def step(cache, column):
    states, cache = call('decode_step', cache, *column, config=config)
    return cache, states

  _, states = jax.lax.scan(step, cache, (inputs, jnp.arange(5)))
  states = jnp.moveaxis(states, 0, 2)
  assert states.dtype == taught.dtype == dtype
  np.testing.assert_allclose(
    states.astype(jnp.float32),
    taught.astype(jnp.float32),
    atol=1e-5 if dtype == 'float32' else 0.1,
  )


def test_dropout_acts_only_when_asked_for():
  config = dataclasses.replace(CONFIG, dropout_rate=0.3)
  plain = hidden(PROMPTS, RESPONSES)
  np.testing.assert_array_equal(hidden(PROMPTS, RESPONSES, config), plain)
  dropped = [
    hidden(
      PROMPTS,
      RESPONSES,
      config,
      deterministic=False,
      rngs={'dropout': jax.random.key(seed)},
    )
    for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(dropped[0], dropped[1])
  assert (dropped[0] != dropped[2]).mean() > 0.9
  assert (dropped[0] != plain).mean() > 0.9


def test_equal_configurations_are_one_value():
  again = t5.T5Config(32, 16, 2, 8, 24, 1, 2)
  assert again == CONFIG
  assert hash(again) == hash(CONFIG)
