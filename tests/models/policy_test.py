import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap.errors import InputError
from dap.models import dropping, t5
from dap.models.actor_critic import ActorCritic
from dap.models.policy import Policy, with_num_ids
from dap.records import Pair
from dap.sampling.choose import Greedy, InverseCdf

CONFIG = t5.T5Config(32, 16, 2, 8, 24, 1, 1)
POLICY = Policy(t5.T5(CONFIG), 30)
PARAMS = POLICY.init(jax.random.key(0))
REFERENCE = POLICY.init(jax.random.key(1))
PROMPTS = jnp.array([[5, 6, 7, 0], [8, 9, 10, 11]])
RESPONSES = jnp.array(
  [[[3, 4, 1, 0], [5, 6, 7, 8]], [[1, 0, 0, 0], [9, 9, 1, 0]]]
)
KEYS = jax.random.split(jax.random.key(2), 2)
log_probs_of = jax.jit(Policy.log_probs, static_argnums=0)


@jax.jit
def plain_logits(params, prompts, responses):
  """Logits by T5X's own path, one response a row."""
  rows = prompts.repeat(responses.shape[1], axis=0)
  targets = responses.reshape(-1, responses.shape[-1])
  inputs = t5.shift_right(targets)
  model = t5.Transformer(CONFIG)
  logits = model.apply({'params': params}, rows, inputs, jnp.ones_like(inputs))
  logits = logits.reshape(*responses.shape, -1)
  return logits.at[..., 0].set(-jnp.inf).at[..., 30:].set(-jnp.inf)


def test_log_probs_are_those_of_the_allowed_tokens_and_zero_on_padding():
  log_probs = log_probs_of(POLICY, PARAMS, PROMPTS, RESPONSES)
  expected = jax.nn.log_softmax(plain_logits(PARAMS, PROMPTS, RESPONSES))
  expected = jnp.take_along_axis(expected, RESPONSES[..., None], -1)[..., 0]
  expected = jnp.where(RESPONSES > 0, expected, 0)
  np.testing.assert_allclose(log_probs, expected, atol=1e-5)
  assert log_probs.dtype == jnp.float32


def test_pair_log_probs_are_the_two_rows():
  pair = Pair(RESPONSES[:, 0], RESPONSES[:, 1])
  both = log_probs_of(POLICY, PARAMS, PROMPTS, RESPONSES)
  ours = jax.jit(POLICY.pair_log_probs)(PARAMS, PROMPTS, pair)
  np.testing.assert_allclose(ours.chosen, both[:, 0], atol=1e-5)
  np.testing.assert_allclose(ours.rejected, both[:, 1], atol=1e-5)


def test_kl_is_the_exact_sum_over_allowed_tokens():
  kl = POLICY.kl(PARAMS, REFERENCE, PROMPTS, RESPONSES)
  p, q = (
    np.asarray(jax.nn.log_softmax(plain_logits(x, PROMPTS, RESPONSES)))[
      ..., 1:30
    ]
    for x in (PARAMS, REFERENCE)
  )
  expected = (np.exp(p) * (p - q)).sum(-1)
  expected = np.where(RESPONSES > 0, expected, 0)
  np.testing.assert_allclose(kl, expected, atol=1e-5)
  assert (kl >= 0).all()


def test_kl_to_itself_is_zero():
  kl = POLICY.kl(PARAMS, PARAMS, PROMPTS, RESPONSES)
  np.testing.assert_array_equal(kl, jnp.zeros_like(kl))


@pytest.mark.parametrize('choose', [InverseCdf(), Greedy()], ids=str)
@pytest.mark.parametrize('tied', [False, True])
def test_log_probs_of_samples_are_those_of_teacher_forcing(choose, tied):
  config = dataclasses.replace(CONFIG, logits_via_embedding=tied)
  policy = Policy(t5.T5(config), 30)
  sample = jax.jit(
    policy.sample, static_argnames=('num_samples', 'length', 'choose')
  )
  responses = sample(
    PARAMS, PROMPTS, KEYS, num_samples=3, length=6, choose=choose
  )
  assert (
    (responses.tokens < 30) & (responses.mask == (responses.tokens > 0))
  ).all()
  log_probs = log_probs_of(policy, PARAMS, PROMPTS, responses.tokens)
  np.testing.assert_allclose(responses.log_probs, log_probs, atol=1e-5)


def test_tokens_that_are_not_allowed_have_no_gradient():
  def total(params):
    return log_probs_of(POLICY, params, PROMPTS, RESPONSES).sum()

  gradient = jax.jit(jax.grad(total))(PARAMS)['decoder']['logits_dense'][
    'kernel'
  ]
  assert (gradient[:, 30:] == 0).all()
  assert (gradient[:, 0] == 0).all()
  assert (gradient[:, 1:30] != 0).any()


def test_none_allows_every_token():
  assert Policy(t5.T5(CONFIG)).allowed is None
  free = log_probs_of(Policy(t5.T5(CONFIG)), PARAMS, PROMPTS, RESPONSES)
  assert (free <= log_probs_of(POLICY, PARAMS, PROMPTS, RESPONSES)).all()


def test_dropout_needs_a_key():
  config = dataclasses.replace(CONFIG, dropout_rate=0.3)
  policy = Policy(t5.T5(config), 30)
  plain = log_probs_of(POLICY, PARAMS, PROMPTS, RESPONSES)
  same = log_probs_of(policy, PARAMS, PROMPTS, RESPONSES)
  np.testing.assert_array_equal(plain, same)
  key = jax.random.key(0)
  dropped = dropping.dropping(policy, key)
  other = dropped.log_probs(PARAMS, PROMPTS, RESPONSES)
  assert (other != plain)[RESPONSES > 0].all()


def test_a_run_is_limited_to_the_ids_of_its_vocabulary():
  free = Policy(tiny.T5)
  run = tiny.run(tiny.ONLINE, free)
  limited = with_num_ids(run, 20)
  assert limited.model == Policy(tiny.T5, 20)
  assert dataclasses.replace(limited, model=free) == run  # and nothing else
  nested = {'a': (free, [1, free]), 'b': tiny.POLICY}
  with pytest.raises(InputError, match='pieces of the vocabulary, 20; .* 24'):
    with_num_ids(nested, 20)
  found = with_num_ids(nested, 24)
  assert found == {'a': (tiny.POLICY, [1, tiny.POLICY]), 'b': tiny.POLICY}
  fewer = Policy(tiny.T5, 10)
  assert with_num_ids(fewer, 24) is fewer
  critic = tiny.run(tiny.ONLINE, ActorCritic(free))
  inner = with_num_ids(critic, 20).model.shared
  assert inner.vocabulary_size == 20
