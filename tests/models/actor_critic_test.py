import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from dap.models import trained
from dap.models.actor_critic import ActorCritic
from dap.records import Prompts, Responses

MODEL = ActorCritic(tiny.POLICY)
START = MODEL.init(jax.random.key(0))
RANDOM = MODEL.join(
  START['policy'],
  jax.tree.map(
    lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape),
    START['value'],
  ),
)
PROMPTS = Prompts(jnp.arange(2), jnp.array([[5, 6, 7, 0], [8, 9, 10, 11]]))
TOKENS = jnp.array([[[3, 4, 1, 0], [5, 6, 7, 8]], [[1, 0, 0, 0], [9, 9, 1, 0]]])


@jax.jit
def outputs(params, tokens=TOKENS):
  numbers = jnp.zeros(tokens.shape)
  return MODEL.outputs(params, PROMPTS, Responses(tokens, numbers, numbers))


def test_log_probs_are_those_of_the_policy():
  found = outputs(RANDOM).log_probs
  expected = jax.jit(tiny.POLICY.log_probs)(
    RANDOM['policy'], PROMPTS.tokens, TOKENS
  )
  np.testing.assert_array_equal(found, expected)


def test_values_start_at_0_and_are_0_on_padding():
  np.testing.assert_array_equal(outputs(START).values, 0)
  values = outputs(RANDOM).values
  np.testing.assert_array_equal(values != 0, TOKENS > 0)


def test_a_value_is_before_its_token():
  before = outputs(RANDOM).values
  after = outputs(RANDOM, TOKENS.at[0, 1, 1].set(9)).values
  same = np.asarray(before == after)
  assert same[0, 1, :2].all() and not same[0, 1, 2:].any()
  assert same[0, 0].all() and same[1].all()


def test_values_cost_one_product_beside_those_of_the_policy():
  def products(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments)).count('dot_general')

  of_policy = products(
    tiny.POLICY.log_probs, START['policy'], PROMPTS.tokens, TOKENS
  )
  assert products(outputs, START, TOKENS) == of_policy + 1


def test_a_critic_that_starts_at_0_leaves_the_states_alone_at_first():
  def loss(params):
    return jnp.sum(jnp.square(outputs(params).values - 1.0))

  grads = jax.grad(loss)(START)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads['policy']))
  assert all(np.any(leaf) for leaf in jax.tree.leaves(grads['value']))


def test_others_read_the_policy_alone():
  assert isinstance(MODEL, trained.Trained)
  assert MODEL.shared == tiny.POLICY == trained.policy_of(MODEL)
  shared, rest = MODEL.split(RANDOM)
  assert MODEL.join(shared, rest) == RANDOM
  assert jax.tree.structure(shared) == jax.tree.structure(
    tiny.POLICY.init(jax.random.key(0))
  )
  other = dataclasses.replace(tiny.POLICY, vocabulary_size=None)
  assert MODEL.with_shared(other).shared == other
