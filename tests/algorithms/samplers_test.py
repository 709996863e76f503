import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import errors
from dap.algorithms import algorithm, objectives, samplers
from dap.data import arrays
from dap.sampling.choose import InverseCdf
from dap.sampling.logits import Temperature
from dap.training import steps

PARAMS = tiny.POLICY.init(jax.random.key(0))
PROMPTS = jnp.asarray(tiny.pairs(8).prompts)


def sampled(sampler, rows):
  keys = steps.row_keys(jax.random.key(3), 8)
  sample = jax.jit(functools.partial(sampler, tiny.POLICY))
  return sample(PARAMS, PROMPTS[rows], keys[rows])


def test_a_prompt_has_two_responses_that_do_not_depend_on_the_batch():
  sampler = samplers.FromPolicy(tiny.LENGTH)
  whole = sampled(sampler, np.arange(8))
  assert whole.tokens.shape == (8, 2, tiny.LENGTH)
  assert np.any(whole.tokens[:, 0] != whole.tokens[:, 1])
  part = sampled(sampler, np.array([5, 2]))
  np.testing.assert_array_equal(part.tokens, whole.tokens[np.array([5, 2])])
  # Log-probs of what was sampled are those that training computes.
  log_probs = jax.jit(tiny.POLICY.log_probs)(PARAMS, PROMPTS, whole.tokens)
  np.testing.assert_allclose(whole.log_probs, log_probs, atol=1e-4)


def test_the_number_of_samples_and_the_choice_of_tokens_are_arguments():
  cold = InverseCdf((Temperature(1e-4),))
  sampler = samplers.FromPolicy(tiny.LENGTH, num_samples=3, choose=cold)
  tokens = sampled(sampler, np.arange(8)).tokens
  assert tokens.shape == (8, 3, tiny.LENGTH)
  np.testing.assert_array_equal(tokens[:, 0], tokens[:, 2])  # as good as greedy


def test_a_batch_is_a_function_of_seed_and_step():
  order = samplers.FromDataset().order
  np.testing.assert_array_equal(order(64, 8, 3, 5), order(64, 8, 3, 5))
  assert np.any(order(64, 8, 3, 5) != order(64, 8, 4, 5))
  epoch = np.concatenate([order(64, 8, 3, step) for step in range(8)])
  np.testing.assert_array_equal(np.sort(epoch), np.arange(64))


def test_an_algorithm_that_samples_says_so():
  assert tiny.ONLINE.samples and not tiny.OFFLINE.samples


def test_sampling_without_an_annotator_is_refused():
  with pytest.raises(errors.InputError, match='gin/annotators/'):
    algorithm.Algorithm(objectives.ipo(), samplers.FromPolicy(4))
  dataclasses.replace(tiny.ONLINE, loss=objectives.dpo())  # has one


def test_shuffled_batches_move_whole_batches_within_their_windows():
  order = samplers.ShuffledBatches(3)
  epoch = np.stack([order(32, 4, 7, step) for step in range(8)])
  np.testing.assert_array_equal(np.sort(epoch.reshape(-1)), np.arange(32))
  np.testing.assert_array_equal(np.diff(epoch, axis=1), 1)  # kept together
  places = epoch[:, 0] // 4
  for window in (places[:3], places[3:6], places[6:]):
    assert set(window) == set(range(min(window), min(window) + len(window)))
  assert np.any(places != np.arange(8))


def test_a_window_of_one_batch_is_the_stream_itself_for_whole_batches():
  order = samplers.ShuffledBatches(1)
  for step in range(10):
    np.testing.assert_array_equal(
      order(32, 4, 7, step), arrays.in_order(32, 4, 7, step)
    )


@pytest.mark.parametrize(
  'order', [samplers.ShuffledWindows, samplers.ShuffledBatches]
)
def test_a_window_of_no_batches_is_refused(order):
  with pytest.raises(errors.InputError, match='needs batches >= 1, got 0'):
    order(0)
