import ast
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy_decoder

from dap import costs, memory
from dap.models import heads, policy, protocols
from dap.models.policy import Policy
from dap.sampling.choose import InverseCdf

FAMILIES = {'t5': tiny.T5, 'decoder': toy_decoder.Decoder(tiny.VOCAB)}
PAIRS = tiny.pairs(8)
PROMPTS, ONE, OTHER = map(
  jnp.asarray, (PAIRS.prompts, PAIRS.chosen, PAIRS.rejected)
)


def padded(tokens):
  return jnp.pad(tokens, ((0, 0), (0, 3)))


@pytest.mark.parametrize('name', FAMILIES)
def test_a_family_meets_what_models_are_written_over(name):
  family = FAMILIES[name]
  assert isinstance(family, protocols.LanguageModel)
  assert hash(family) == hash(family.with_depth(family.depth))
  for model in (
    Policy(family),
    heads.PointwisePreferenceModel(family),
    heads.JointPreferenceModel(family, 20, (19,), (20,), 17, 18),
  ):
    assert isinstance(model, protocols.Reader)
    assert isinstance(model, protocols.Comparer) == hasattr(model, 'log_odds')
    assert isinstance(model, protocols.Scorer) == hasattr(model, 'scores')
    assert isinstance(model, protocols.Headed) == hasattr(model, 'head')


@pytest.mark.parametrize('module', [policy, heads, protocols, costs, memory])
def test_what_is_written_over_the_protocol_knows_no_family(module):
  names = {
    alias.name
    for node in ast.walk(ast.parse(inspect.getsource(module)))
    if isinstance(node, ast.Import | ast.ImportFrom)
    for alias in node.names
  }
  modules = {
    node.module
    for node in ast.walk(ast.parse(inspect.getsource(module)))
    if isinstance(node, ast.ImportFrom)
  }
  assert not [
    x for x in names | modules if x.rpartition('.')[2].startswith('t5')
  ]


@pytest.mark.parametrize('name', FAMILIES)
def test_log_probs_of_samples_are_those_of_scoring(name):
  model = Policy(FAMILIES[name], tiny.VOCAB - 2)
  params = model.init(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), len(PROMPTS))
  sample = jax.jit(
    model.sample, static_argnames=('num_samples', 'length', 'choose')
  )
  drawn = sample(
    params, PROMPTS, keys, num_samples=3, length=6, choose=InverseCdf()
  )
  scored = jax.jit(model.log_probs)(params, PROMPTS, drawn.tokens)
  np.testing.assert_allclose(drawn.log_probs, scored, atol=1e-5)
  assert np.all(drawn.tokens < tiny.VOCAB - 2) and np.any(scored < -0.1)


@pytest.mark.parametrize('name', FAMILIES)
def test_kl_is_none_to_itself_and_some_to_another(name):
  model = Policy(FAMILIES[name], tiny.VOCAB)
  params, other = (model.init(jax.random.key(seed)) for seed in (0, 1))
  responses = jnp.stack([ONE, OTHER], axis=1)
  kl = jax.jit(model.kl)
  np.testing.assert_array_equal(kl(params, params, PROMPTS, responses), 0)
  apart = kl(params, other, PROMPTS, responses)
  assert np.all(np.where(responses > 0, apart > 0, apart == 0))


@pytest.mark.parametrize('name', FAMILIES)
def test_padding_of_a_prompt_changes_no_log_prob(name):
  model = Policy(FAMILIES[name], tiny.VOCAB)
  params, responses = model.init(jax.random.key(0)), ONE[:, None]
  score = jax.jit(model.log_probs)
  np.testing.assert_allclose(
    score(params, padded(PROMPTS), responses),
    score(params, PROMPTS, responses),
    atol=1e-5,
  )


@pytest.mark.parametrize('head', [heads.LastTokenScore(), heads.PooledScore(8)])
def test_preference_models_compare_over_a_decoder_alone(head):
  family = FAMILIES['decoder']
  for model in (
    heads.PointwisePreferenceModel(family, head),
    heads.JointPreferenceModel(family, 20, (19,), (20,), 17, 18),
  ):
    params = model.init(jax.random.key(0))
    first, second = model.log_odds(params, PROMPTS, ONE, OTHER)
    swapped, _ = model.log_odds(params, PROMPTS, OTHER, ONE)
    np.testing.assert_allclose(swapped, second, atol=1e-5)
    assert np.sum(np.abs(first) > 0.1) >= 4  # it has opinions


def test_costs_are_asked_of_any_family():
  model = Policy(FAMILIES['decoder'])
  # 6 of the prompt, 2 x 5 of the responses and as much of their heads.
  assert model.pair_operations(6, 5) == 6 + 2 * (5 + 5)
  assert model.answer_operations(6, 5) == 6 + 5 + 5
  # Of 7 tokens, 4 x 49 are split over two devices and 4 x 7 x 8 are not.
  assert model.widest_bytes(7, 2, 2) == 4 * 49 / 2 + 4 * 7 * 8
  read = costs.decoding_bytes(model.language_model, 6, 5)
  assert read == (5 * 4 * tiny.VOCAB * 8, 5 * 6 * 64, 5 * 5 * 64)
