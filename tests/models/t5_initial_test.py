import dataclasses

import jax
import numpy as np
import pytest
import t5x_parity as parity
from flax import traverse_util

from dap.models import t5, t5_initial

EXPECTED = parity.TREE['params']
CONFIG = t5.T5Config(1000, 64, 4, 16, 128, 1, 1)


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def test_names_shapes_and_logical_axes_are_t5x_s():
  params = flat(t5.init_params(parity.CONFIG, jax.random.key(0)))
  axes = flat(t5.logical_axes(parity.CONFIG))
  assert params.keys() == axes.keys() == EXPECTED.keys()
  for name, known in EXPECTED.items():
    assert list(params[name].shape) == known['shape'], name
    assert list(axes[name]) == known['logical_axes'], name
    assert params[name].dtype == known['dtype'], name


def test_initial_statistics_are_t5x_s():
  keys = jax.random.split(jax.random.key(0), 8)
  draws = [flat(t5.init_params(parity.CONFIG, key)) for key in keys]
  for name, known in EXPECTED.items():
    values = np.concatenate([draw[name].ravel() for draw in draws])
    size = len(values) / 8  # of the array whose statistics T5X recorded
    deviation = values.std()
    # Both estimate one deviation, with a relative error of 1 / sqrt(2 size).
    slack = 4 * max(known['std0'], deviation) / np.sqrt(2 * size)
    assert abs(deviation - known['std0']) <= slack, name
    slack = 4 * known['std0'] / np.sqrt(size)
    assert abs(values.mean() - known['mean0']) <= slack, name


def test_parameters_are_drawn_independently():
  params = flat(t5.init_params(CONFIG, jax.random.key(0)))
  kernels = [x.ravel() for x in params.values() if x.size == 64 * 64]
  correlations = np.corrcoef(kernels) - np.eye(len(kernels))
  assert np.abs(correlations).max() < 0.1


def test_another_key_gives_other_values():
  first, second = (
    t5.init_params(CONFIG, jax.random.key(seed)) for seed in range(2)
  )
  same = jax.tree.map(lambda x, y: bool((x == y).all()), first, second)
  assert all(('norm' in name) == value for name, value in flat(same).items())


def test_query_from_key_aligns_cross_attention_alone_at_t5x_s_scale():
  config = dataclasses.replace(
    CONFIG, cross_query_init=t5_initial.query_from_key
  )
  plain = flat(t5.init_params(CONFIG, jax.random.key(0)))
  tied = flat(t5.init_params(config, jax.random.key(0)))
  changed = {name for name in plain if (plain[name] != tied[name]).any()}
  query = 'decoder/layers_0/encoder_decoder_attention/query/kernel'
  assert changed == {query}
  key = tied[query.replace('query', 'key')]
  np.testing.assert_allclose(tied[query] / key, 1 / 4, rtol=0.1)  # 1/sqrt(16)


@pytest.mark.parametrize('activations', [('relu',), ('gelu', 'linear')])
def test_parameter_counts_of_each_stack(activations):
  config = dataclasses.replace(CONFIG, mlp_activations=activations)
  params = t5.init_params(config, jax.random.key(0))
  mlp = 64 * 128 * (len(activations) + 1)
  attention = 4 * 64 * 64
  # A relative-position table of 4 heads x 32 buckets; norms of 64.
  assert count(params['encoder']) == attention + mlp + 3 * 64 + 4 * 32
  assert count(params['decoder']) == (
    2 * attention + mlp + 4 * 64 + 4 * 32 + 64 * 1000
  )
  assert count(params['token_embedder']) == 64 * 1000


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


def test_tied_logits_have_no_kernel_of_their_own():
  config = dataclasses.replace(CONFIG, logits_via_embedding=True)
  assert 'logits_dense' not in t5.logical_axes(config)['decoder']
