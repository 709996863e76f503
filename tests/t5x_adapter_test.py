"""Our models and features for T5X, beside dap's own functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap import losses, partitioning
from dap.algorithms import objectives
from dap.checkpoints import load
from dap.data import arrays, tasks
from dap.errors import InputError
from dap.models.policy import Policy
from dap.records import Pair
from dap.sampling import InverseCdf

pytest.importorskip('t5x.models', reason='bash launch/install_t5x.sh adds it')

import seqio
import t5x_tiny as tiny
import tensorflow as tf
from t5x import models
from t5x.examples.t5 import network

import dap.t5x


def test_the_converter_gives_the_ids_of_our_arrays(tmp_path):
  prepared = arrays.prepare(
    tiny.CORPUS,
    'train',
    tiny.VOCABULARY,
    prompt_length=tiny.LENGTHS['inputs'],
    response_length=tiny.LENGTHS['targets'],
    cache_dir=str(tmp_path),
  )
  tiny.task()
  converter = dap.t5x.PairFeatureConverter()
  batch = tiny.batch_of(tiny.TASK, tiny.LENGTHS, converter, len(prepared))
  pairs = {
    '': prepared.responses['chosen'],
    'rejected_': prepared.responses['rejected'],
  }
  assert len(prepared) == 32
  np.testing.assert_array_equal(batch['encoder_input_tokens'], prepared.prompts)
  for prefix, ids in pairs.items():
    found = {
      name: batch[f'{prefix}decoder_{name}']
      for name in ('target_tokens', 'input_tokens', 'loss_weights')
    }
    np.testing.assert_array_equal(found['target_tokens'], ids)
    np.testing.assert_array_equal(found['loss_weights'], ids > 0)
    np.testing.assert_array_equal(found['input_tokens'][:, 0], 0)
    np.testing.assert_array_equal(
      found['input_tokens'][:, 1:],
      np.where(ids[:, 1:] > 0, ids[:, :-1], found['input_tokens'][:, 1:]),
    )


def rows(**features):
  return tf.data.Dataset.from_tensors(
    {name: tf.constant(value) for name, value in features.items()}
  )


ROW = {'inputs': [3], 'targets': [4, 1], 'rejected': [5, 1]}


@pytest.mark.parametrize(
  ('features', 'lengths', 'words'),
  [
    ({'inputs': [3], 'targets': [4]}, tiny.LENGTHS, 'rejected is not among'),
    (ROW | {'inputs': 'text'}, tiny.LENGTHS, 'inputs must be a row of int32'),
    (ROW, tiny.RESPONSES, 'TASK_FEATURE_LENGTHS'),
    (ROW, tiny.LENGTHS | {'rejected': 9}, 'the last two equal'),
  ],
)
def test_features_that_are_no_pairs_are_refused(features, lengths, words):
  with pytest.raises(InputError, match=words):
    dap.t5x.PairFeatureConverter()(rows(**features), lengths)


def test_a_pair_without_reference_names_what_records_it():
  converter = dap.t5x.ReferencedPairFeatureConverter()
  with pytest.raises(InputError, match='dap.t5x.task_with_reference'):
    converter(rows(**ROW), tiny.LENGTHS)


def test_packing_and_unfit_vocabularies_are_refused():
  with pytest.raises(InputError, match=r'DatasetConfig.pack = False'):
    dap.t5x.PairFeatureConverter(pack=True)
  with pytest.raises(InputError, match=f'it has 99, .* {tiny.VOCABULARY.size}'):
    tiny.policy_model(Policy(tiny.POLICY.language_model, 99))
  with pytest.raises(InputError, match='label_smoothing = 0'):
    tiny.policy_model(label_smoothing=0.1)
  with pytest.raises(InputError, match='MIXTURE_OR_TASK_MODULE'):
    dap.t5x.task_vocabulary('no_such_task')


def test_a_checkpoint_of_t5x_is_read_as_our_parameters():
  path, params = tiny.written()
  loaded = load.load_params(tiny.POLICY, path, partitioning.mesh())
  jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_reference_features_are_the_log_probs_of_the_checkpoint():
  name, batch = tiny.referenced()
  pair = dap.t5x.preference_batch(batch)
  expected = jax.jit(tiny.POLICY.log_probs)(
    tiny.written()[1], pair.prompts.tokens, pair.responses.tokens
  )
  np.testing.assert_allclose(pair.columns['reference'], expected, atol=1e-5)
  again = dap.t5x.task_with_reference(
    tiny.TASK, tiny.POLICY, tiny.written()[0], tiny.LENGTHS
  )
  assert again == name
  assert dap.t5x.task_vocabulary(name) == tasks.seqio_vocabulary(
    tiny.VOCABULARY
  )


def test_a_mixture_is_recorded_task_by_task_at_its_rates():
  tiny.task()
  seqio.MixtureRegistry.add('dap_t5x_mixture', [(tiny.TASK, 3.0)])
  name = dap.t5x.task_with_reference(
    'dap_t5x_mixture', tiny.POLICY, tiny.written()[0], tiny.LENGTHS
  )
  mixture = seqio.get_mixture_or_task(name)
  (part,) = mixture.tasks
  assert mixture.get_rate(part) == 3.0
  converter = dap.t5x.ReferencedPairFeatureConverter()
  batch = tiny.batch_of(name, tiny.LENGTHS, converter, 4)
  assert batch['reference_chosen'].shape == (4, tiny.LENGTHS['targets'])
  assert np.all(batch['reference_chosen'] <= 0)


@pytest.mark.parametrize(
  ('loss', 'function', 'factor'),
  [
    (objectives.Loss(losses.ipo_loss, {'beta': 0.1}), losses.ipo_loss, None),
    (objectives.Loss(losses.dpo_loss, {'beta': 0.1}), losses.dpo_loss, None),
    (objectives.Loss(losses.ipo_loss, {'beta': 0.1}), losses.ipo_loss, 16.0),
    (objectives.Loss(losses.best_of_two_loss), losses.best_of_two_loss, None),
  ],
  ids=['ipo', 'dpo', 'ipo halved', 'best of two'],
)
def test_loss_and_gradients_are_ours(loss, function, factor):
  model = tiny.direct_model(loss, loss_normalizing_factor=factor)
  params = tiny.POLICY.init(jax.random.key(7))
  found = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
  (value, metrics), gradient = found(params, tiny.referenced()[1])

  batch = dap.t5x.preference_batch(tiny.referenced()[1])
  prompts, tokens = batch.prompts.tokens, batch.responses.tokens

  def ours(params):
    seen = {
      'policy': tiny.POLICY.log_probs(params, prompts, tokens),
      'reference': batch.columns['reference'],
      'mask': (tokens > 0).astype(jnp.float32),
    }
    pairs = {name: Pair(x[:, 0], x[:, 1]) for name, x in seen.items()}
    asked = (pairs[name] for name in objectives.reads(function))
    each = function(*asked, **dict(loss.scalars))
    return jnp.mean(each) * (8 / factor if factor else 1)

  expected, slopes = jax.jit(jax.value_and_grad(ours))(params)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(
    metrics['loss'].compute() * (8 / factor if factor else 1), value, rtol=1e-6
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    gradient,
    slopes,
  )


def test_a_row_without_tokens_weighs_nothing():
  model = tiny.direct_model(objectives.Loss(losses.ipo_loss, {'beta': 0.1}))
  params = tiny.POLICY.init(jax.random.key(7))
  padded = jax.tree.map(
    lambda x: jnp.concatenate([x, jnp.zeros_like(x)]), tiny.referenced()[1]
  )
  loss = jax.jit(lambda batch: model.loss_fn(params, batch)[0])
  np.testing.assert_allclose(
    loss(padded), loss(tiny.referenced()[1]), rtol=1e-6
  )


def test_scores_are_t5x_s_own_where_every_id_is_allowed():
  tiny.task()
  converter = seqio.EncDecFeatureConverter(pack=False)
  batch = tiny.batch_of(tiny.TASK, tiny.RESPONSES, converter)
  config = network.T5Config(
    **tiny.SIZES, mlp_activations=('gelu', 'linear'), dropout_rate=0.0
  )
  vocabulary = tasks.seqio_vocabulary(tiny.VOCABULARY)
  theirs = models.EncoderDecoderModel(
    network.Transformer(config), vocabulary, vocabulary, None
  )
  ours = tiny.policy_model(tiny.AS_T5X)
  with jax.numpy_rank_promotion('allow'):
    np.testing.assert_allclose(
      jax.jit(ours.score_batch)(tiny.written()[1], batch),
      jax.jit(theirs.score_batch)(tiny.written()[1], batch),
      rtol=1e-5,
    )
    np.testing.assert_allclose(
      jax.jit(ours.loss_fn)(tiny.written()[1], batch, None)[0],
      jax.jit(theirs.loss_fn)(tiny.written()[1], batch, None)[0],
      rtol=1e-5,
    )
  with_parts = functools.partial(ours.score_batch, return_intermediates=True)
  _, kept = jax.eval_shape(with_parts, tiny.written()[1], batch)
  assert set(kept['decoder']) == {
    'target_tokens',
    'loss_weights',
    'token_scores',
  }


def test_samples_come_in_the_shapes_and_order_of_t5x():
  tiny.task()
  converter = seqio.EncDecFeatureConverter(pack=False)
  batch = tiny.batch_of(tiny.TASK, tiny.RESPONSES, converter)
  model = tiny.policy_model(choose=InverseCdf())

  def predict(**arguments):
    predict = functools.partial(model.predict_batch_with_aux, **arguments)
    return jax.jit(predict)(tiny.written()[1], batch, jax.random.PRNGKey(1))

  tokens, aux = predict(num_decodes=3, return_all_decodes=True)
  assert tokens.shape == (8, 3, 22) and aux['scores'].shape == (8, 3)
  assert np.all(np.diff(aux['scores'], axis=1) >= 0)
  scores = jax.jit(tiny.POLICY.log_probs)(
    tiny.written()[1], batch['encoder_input_tokens'], tokens
  )
  np.testing.assert_allclose(scores.sum(-1), aux['scores'], rtol=1e-5)
  best, aux_of_best = predict(num_decodes=3)
  np.testing.assert_array_equal(best, tokens[:, -1])
  np.testing.assert_array_equal(aux_of_best['scores'], aux['scores'][:, -1])
  with pytest.raises(InputError, match=r'PolicyModel.choose'):
    predict(decoder_params={'topk': 5})
