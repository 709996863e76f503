import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import errors
from dap.algorithms import algorithm, samplers
from dap.records import Prompts
from dap.sampling.choose import InverseCdf
from dap.sampling.logits import Temperature
from dap.training import steps

PARAMS = tiny.POLICY.init(jax.random.key(0))
PROMPTS = jnp.asarray(tiny.pairs(8).prompts)


def sampled(sampler, rows):
  keys = steps.row_keys(jax.random.key(3), 8)
  sample = jax.jit(functools.partial(sampler, tiny.POLICY))
  prompts = Prompts(jnp.asarray(rows), PROMPTS[rows])
  return sample(PARAMS, prompts, keys[rows])


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


def test_sampling_without_an_annotator_is_refused():
  with pytest.raises(errors.InputError, match='gin/annotators/'):
    algorithm.Algorithm(tiny.ipo(0.1), sampler=samplers.FromPolicy(4))
  dataclasses.replace(tiny.ONLINE, loss=tiny.ipo(0.7))  # has one


@pytest.mark.parametrize('change', [{'length': 0}, {'num_samples': 0}])
def test_a_sampler_of_nothing_is_refused(change):
  with pytest.raises(errors.InputError, match='>= 1, got 0'):
    samplers.FromPolicy(**{'length': 4, **change})
