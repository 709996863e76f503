"""The truth as a preference model says of ids what the corpus says of texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dap.annotators.hidden_utility import HiddenUtility, utilities
from dap.data import corpus_utility as truth
from dap.data.corpus import EmbeddedCorpus

CORPUS = EmbeddedCorpus(seed=3, num_train=400, num_stress=400, num_test=64)
VOCABULARY = CORPUS.vocabulary()
MODEL = HiddenUtility(tiny.JUDGE.language_model)
SCORED = jax.jit(utilities)


def ids(texts, length, end):
  """[texts, length]; a text that fills the row has no end."""
  rows = np.zeros((len(texts), length), np.int32)
  for row, words in zip(rows, texts):
    found = [*VOCABULARY.encode(words), *([1] if end else [])][:length]
    row[: len(found)] = found
  return jnp.asarray(rows)


def of_texts(posts, tokens):
  tokens = np.asarray(tokens)
  texts = [VOCABULARY.decode(row) for row in tokens]
  return truth.utilities(posts, texts, np.any(tokens == 1, axis=1).tolist())


@pytest.mark.parametrize('split', ['train', 'stress', 'test'])
def test_it_is_the_utility_of_the_texts(split):
  pairs = CORPUS.load(split)
  posts = [pair['prompt'] for pair in pairs]
  sides = [
    ids([pair[side] for pair in pairs], 22, end=True)
    for side in ('chosen', 'rejected')
  ]
  found = SCORED(ids(posts, 40, end=False), jnp.stack(sides, axis=1))
  for side, tokens in enumerate(sides):
    expected = of_texts(posts, tokens)
    np.testing.assert_allclose(found[:, side], expected, atol=1e-6)


@settings(deadline=None, derandomize=True, max_examples=6)
@given(st.integers(0, 2**16))
def test_any_tokens_can_be_scored(seed):
  posts = [pair['prompt'] for pair in CORPUS.load('train')[:32]]
  rng = np.random.default_rng(seed)
  tokens = rng.integers(1, VOCABULARY.size, (32, 22)).astype(np.int32)
  tokens[rng.random(tokens.shape) < 0.02] = 1
  tokens[np.cumsum(tokens == 1, axis=1) - (tokens == 1) > 0] = 0
  found = SCORED(ids(posts, 40, end=True), tokens[:, None])
  expected = of_texts(posts, tokens)
  np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)


def test_a_prompt_that_was_cut_has_no_utility():
  posts = [pair['prompt'] for pair in CORPUS.load('train')[:32]]
  tokens = ids(['argued with boss about rent'] * 32, 22, end=True)
  found = SCORED(ids(posts, 12, end=False), tokens[:, None])
  assert np.isnan(found).all()


def test_equal_responses_tie_whatever_the_temperature():
  post = CORPUS.load('train')[0]
  prompts = ids([post['prompt']], 40, end=False)
  tokens = ids([post['chosen']], 22, end=True)
  first, second = MODEL.log_odds(
    {'log_scale': jnp.asarray(0.7)}, prompts, tokens, tokens
  )
  assert first == second == 0


def test_the_temperature_scales_the_odds_and_changes_no_sign():
  pairs = CORPUS.load('stress')[:64]
  prompts = ids([pair['prompt'] for pair in pairs], 40, end=False)
  sides = [
    ids([p[side] for p in pairs], 22, end=True)
    for side in ('chosen', 'rejected')
  ]
  odds = lambda scale: np.asarray(
    MODEL.log_odds({'log_scale': jnp.asarray(np.log(scale))}, prompts, *sides)
  )
  np.testing.assert_allclose(odds(2.0), 2 * odds(1.0), rtol=1e-5)
  np.testing.assert_array_equal(odds(1.0)[0], -odds(1.0)[1])
