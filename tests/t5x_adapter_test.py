"""Our policies and losses inside T5X's own programs."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap import losses, partitioning
from dap.algorithms import objectives
from dap.checkpoints import load
from dap.data import arrays, tasks
from dap.data.corpus import EmbeddedCorpus
from dap.errors import InputError
from dap.models import t5
from dap.models.policy import Policy
from dap.records import Pair
from dap.sampling import Greedy, InverseCdf

pytest.importorskip('t5x.models', reason='bash launch/install_t5x.sh adds it')

import seqio
import tensorflow as tf
from t5x import adafactor, checkpoints, infer, models, trainer, utils
from t5x import eval as evaluation
from t5x import partitioning as t5x_partitioning
from t5x.examples.t5 import network

import dap.t5x

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = EmbeddedCorpus(num_train=32, num_stress=20, num_test=12)
VOCABULARY = CORPUS.vocabulary()
LENGTHS = {'inputs': 40, 'targets': 22, 'rejected': 22}
RESPONSES = {'inputs': 40, 'targets': 22}
SIZES = {
  'vocab_size': VOCABULARY.size,
  'emb_dim': 32,
  'num_heads': 4,
  'head_dim': 8,
  'mlp_dim': 48,
  'num_encoder_layers': 1,
  'num_decoder_layers': 1,
}
POLICY = Policy(t5.T5Config(**SIZES), VOCABULARY.size)
AS_T5X = Policy(t5.T5Config(**SIZES))
TASK = 'dap_t5x_pairs'
MODULE = f"""
from dap.data import tasks
from dap.data.corpus import EmbeddedCorpus

corpus = {CORPUS!r}
tasks.add_task('{TASK}', corpus, corpus.vocabulary())
"""


@functools.cache
def task():
  return tasks.add_task(TASK, CORPUS, VOCABULARY)


def optimizer():
  return adafactor.Adafactor(
    decay_rate=0.8,
    logical_factor_rules=adafactor.standard_logical_factor_rules(),
  )


def partitioner():
  return t5x_partitioning.PjitPartitioner(
    num_partitions=1,
    logical_axis_rules=t5x_partitioning.standard_logical_axis_rules(),
  )


def policy_model(policy=POLICY, **arguments):
  vocabulary = tasks.seqio_vocabulary(VOCABULARY)
  return dap.t5x.PolicyModel(policy, vocabulary, vocabulary, **arguments)


def direct_model(loss, **arguments):
  vocabulary = tasks.seqio_vocabulary(VOCABULARY)
  return dap.t5x.DirectAlignmentModel(
    POLICY,
    loss,
    input_vocabulary=vocabulary,
    output_vocabulary=vocabulary,
    optimizer_def=optimizer(),
    **arguments,
  )


def state_of(model, seed=3):
  """A state of T5X's, made by T5X from the model, and how it lies."""
  initializer = utils.TrainStateInitializer(
    model.optimizer_def, model.get_initial_variables, {}, partitioner()
  )
  return initializer.from_scratch(jax.random.PRNGKey(seed)), initializer


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """A native checkpoint that T5X wrote of our policy, and its parameters."""
  folder = tmp_path_factory.mktemp('t5x')
  state, initializer = state_of(policy_model(optimizer_def=optimizer()))
  checkpoints.Checkpointer(
    initializer.global_train_state_shape, partitioner(), str(folder)
  ).save(state)
  return folder / 'checkpoint_0', state.params


def batch_of(name, lengths, converter, count=8, split='train'):
  dataset = seqio.get_mixture_or_task(name).get_dataset(
    dict(lengths), split, shuffle=False
  )
  rows = converter(dataset, dict(lengths)).batch(count)
  return jax.tree.map(jnp.asarray, next(rows.as_numpy_iterator()))


@pytest.fixture(scope='module')
def referenced(written):
  task()
  name = dap.t5x.task_with_reference(TASK, POLICY, str(written[0]), LENGTHS)
  converter = dap.t5x.ReferencedPairFeatureConverter()
  return name, batch_of(name, LENGTHS, converter)


def test_the_converter_gives_the_ids_of_our_arrays(tmp_path):
  prepared = arrays.prepare(
    CORPUS,
    'train',
    VOCABULARY,
    prompt_length=LENGTHS['inputs'],
    response_length=LENGTHS['targets'],
    cache_dir=str(tmp_path),
  )
  task()
  converter = dap.t5x.PairFeatureConverter()
  batch = batch_of(TASK, LENGTHS, converter, len(prepared))
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
    ({'inputs': [3], 'targets': [4]}, LENGTHS, 'rejected is not among'),
    (ROW | {'inputs': 'text'}, LENGTHS, 'inputs must be a row of int32'),
    (ROW, RESPONSES, 'TASK_FEATURE_LENGTHS'),
    (ROW, LENGTHS | {'rejected': 9}, 'the last two equal'),
  ],
)
def test_features_that_are_no_pairs_are_refused(features, lengths, words):
  with pytest.raises(InputError, match=words):
    dap.t5x.PairFeatureConverter()(rows(**features), lengths)


def test_a_pair_without_reference_names_what_records_it():
  converter = dap.t5x.ReferencedPairFeatureConverter()
  with pytest.raises(InputError, match='dap.t5x.task_with_reference'):
    converter(rows(**ROW), LENGTHS)


def test_packing_and_unfit_vocabularies_are_refused():
  with pytest.raises(InputError, match=r'DatasetConfig.pack = False'):
    dap.t5x.PairFeatureConverter(pack=True)
  with pytest.raises(InputError, match=f'it has 99, .* {VOCABULARY.size}'):
    policy_model(Policy(POLICY.config, 99))
  with pytest.raises(InputError, match='label_smoothing = 0'):
    policy_model(label_smoothing=0.1)
  with pytest.raises(InputError, match='MIXTURE_OR_TASK_MODULE'):
    dap.t5x.task_vocabulary('no_such_task')


def test_a_checkpoint_of_t5x_is_read_as_our_parameters(written):
  path, params = written
  loaded = load.load_params(POLICY, str(path), partitioning.mesh())
  jax.tree.map(
    np.testing.assert_array_equal, loaded, flax.core.unfreeze(params)
  )


def test_reference_features_are_the_log_probs_of_the_checkpoint(
  written, referenced
):
  name, batch = referenced
  pair = dap.t5x.preference_batch(batch)
  expected = POLICY.pair_log_probs(
    dict(written[1]), pair.prompts.tokens, pair.responses
  )
  for side, ours in zip(pair.reference_log_probs, expected, strict=True):
    np.testing.assert_allclose(side, ours, atol=1e-5)
  again = dap.t5x.task_with_reference(TASK, POLICY, str(written[0]), LENGTHS)
  assert again == name
  assert dap.t5x.task_vocabulary(name) == tasks.seqio_vocabulary(VOCABULARY)


def test_a_mixture_is_recorded_task_by_task_at_its_rates(written):
  task()
  seqio.MixtureRegistry.add('dap_t5x_mixture', [(TASK, 3.0)])
  name = dap.t5x.task_with_reference(
    'dap_t5x_mixture', POLICY, str(written[0]), LENGTHS
  )
  mixture = seqio.get_mixture_or_task(name)
  (part,) = mixture.tasks
  assert mixture.get_rate(part) == 3.0
  converter = dap.t5x.ReferencedPairFeatureConverter()
  batch = batch_of(name, LENGTHS, converter, 4)
  assert batch['reference_chosen'].shape == (4, LENGTHS['targets'])
  assert np.all(batch['reference_chosen'] <= 0)


@pytest.mark.parametrize(
  ('loss', 'function', 'factor'),
  [
    (objectives.ipo(0.1), losses.ipo_loss, None),
    (objectives.dpo(0.1), losses.dpo_loss, None),
    (objectives.ipo(0.1), losses.ipo_loss, 16.0),
    (objectives.best_of_two(), losses.best_of_two_loss, None),
  ],
  ids=['ipo', 'dpo', 'ipo halved', 'best of two'],
)
def test_loss_and_gradients_are_ours(referenced, loss, function, factor):
  model = direct_model(loss, loss_normalizing_factor=factor)
  params = POLICY.init(jax.random.key(7))
  found = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
  (value, metrics), gradient = found(params, referenced[1])

  batch = dap.t5x.preference_batch(referenced[1])
  prompts, pair = batch.prompts.tokens, batch.responses

  def ours(params):
    mask = Pair(*((side > 0).astype(jnp.float32) for side in pair))
    each = function(
      POLICY.pair_log_probs(params, prompts, pair),
      batch.reference_log_probs,
      mask,
      **dict(loss.scalars),
    )
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


def test_a_row_without_tokens_weighs_nothing(referenced):
  model = direct_model(objectives.ipo(0.1))
  params = POLICY.init(jax.random.key(7))
  padded = jax.tree.map(
    lambda x: jnp.concatenate([x, jnp.zeros_like(x)]), referenced[1]
  )
  loss = jax.jit(lambda batch: model.loss_fn(params, batch)[0])
  np.testing.assert_allclose(loss(padded), loss(referenced[1]), rtol=1e-6)


@pytest.mark.parametrize('num_microbatches', [None, 2])
def test_five_steps_of_t5x_lower_the_loss(referenced, num_microbatches):
  model = direct_model(objectives.ipo(0.1), loss_normalizing_factor=8.0)
  state, initializer = state_of(model)
  with (
    jax.numpy_rank_promotion('allow'),
    trainer.Trainer(
      model=model,
      train_state=state,
      partitioner=partitioner(),
      eval_names=['pairs'],
      summary_dir=None,
      train_state_axes=initializer.train_state_axes,
      rng=jax.random.PRNGKey(0),
      learning_rate_fn=lambda step: 3e-3,
      num_microbatches=num_microbatches,
    ) as run,
  ):
    batch = jax.tree.map(np.asarray, referenced[1])
    values = [run.eval({'pairs': [batch]})['pairs']]
    for step in range(5):
      run.train(iter([batch]), 1, start_step=step).result()
      values.append(run.eval({'pairs': [batch]})['pairs'])
  found = [float(value['loss'].value) for value in values]
  np.testing.assert_allclose(found[0], 0.25, atol=1e-5)  # at the reference
  assert all(later < earlier for earlier, later in zip(found, found[1:])), found
  assert values[-1]['margin'].value > 0 and values[-1]['accuracy'].value > 0.5


def test_scores_are_t5x_s_own_where_every_id_is_allowed(written):
  task()
  converter = seqio.EncDecFeatureConverter(pack=False)
  batch = batch_of(TASK, RESPONSES, converter)
  config = network.T5Config(
    **SIZES, mlp_activations=('gelu', 'linear'), dropout_rate=0.0
  )
  vocabulary = tasks.seqio_vocabulary(VOCABULARY)
  theirs = models.EncoderDecoderModel(
    network.Transformer(config), vocabulary, vocabulary, None
  )
  ours = policy_model(AS_T5X)
  with jax.numpy_rank_promotion('allow'):
    np.testing.assert_allclose(
      jax.jit(ours.score_batch)(written[1], batch),
      jax.jit(theirs.score_batch)(written[1], batch),
      rtol=1e-5,
    )
    np.testing.assert_allclose(
      jax.jit(ours.loss_fn)(written[1], batch, None)[0],
      jax.jit(theirs.loss_fn)(written[1], batch, None)[0],
      rtol=1e-5,
    )
  _, kept = ours.score_batch(written[1], batch, return_intermediates=True)
  assert set(kept['decoder']) == {
    'target_tokens',
    'loss_weights',
    'token_scores',
  }


def test_samples_come_in_the_shapes_and_order_of_t5x(written):
  task()
  converter = seqio.EncDecFeatureConverter(pack=False)
  batch = batch_of(TASK, RESPONSES, converter)
  model = policy_model(choose=InverseCdf())
  predict = functools.partial(
    model.predict_batch_with_aux, written[1], batch, jax.random.PRNGKey(1)
  )
  tokens, aux = predict(num_decodes=3, return_all_decodes=True)
  assert tokens.shape == (8, 3, 22) and aux['scores'].shape == (8, 3)
  assert np.all(np.diff(aux['scores'], axis=1) >= 0)
  scores = POLICY.log_probs(
    dict(written[1]), batch['encoder_input_tokens'], tokens
  )
  np.testing.assert_allclose(scores.sum(-1), aux['scores'], rtol=1e-5)
  best, aux_of_best = predict(num_decodes=3)
  np.testing.assert_array_equal(best, tokens[:, -1])
  np.testing.assert_array_equal(aux_of_best['scores'], aux['scores'][:, -1])
  with pytest.raises(InputError, match=r'PolicyModel.choose'):
    predict(decoder_params={'topk': 5})


def greedy(params, batch):
  return POLICY.sample(
    params,
    batch['encoder_input_tokens'],
    jax.random.split(jax.random.key(0), len(batch['encoder_input_tokens'])),
    num_samples=1,
    length=RESPONSES['targets'],
    choose=Greedy(),
  ).tokens[:, 0]


def dataset_config(name):
  return utils.DatasetConfig(
    mixture_or_task_name=name,
    task_feature_lengths=RESPONSES,
    split='test',
    batch_size=8,
    shuffle=False,
    seed=0,
    pack=False,
  )


def test_infer_gives_our_greedy_tokens_and_scores(written, tmp_path):
  task()
  batch = batch_of(
    TASK, RESPONSES, seqio.EncDecFeatureConverter(pack=False), 12, 'test'
  )
  lines = {}
  for mode in ('predict', 'score'):
    with jax.numpy_rank_promotion('allow'):
      infer.infer(
        mode=mode,
        model=policy_model(),
        dataset_cfg=dataset_config(TASK),
        restore_checkpoint_cfg=utils.RestoreCheckpointConfig(
          path=str(written[0]), mode='specific'
        ),
        partitioner=partitioner(),
        output_dir=str(tmp_path),
        checkpoint_period=10,
        checkpoint_ds_iter=False,
        write_fn=functools.partial(
          infer.write_inferences_to_file, output_ids=True
        ),
        summarize_config_fn=lambda **_: None,
      )
    (path,) = tmp_path.glob(f'*-{mode}.jsonl-*-of-00001')
    lines[mode] = [json.loads(line) for line in path.open()]
  params = dict(written[1])
  assert [line['prediction_tokens'] for line in lines['predict']] == [
    [int(i) for i in row[row > 0]] for row in np.asarray(greedy(params, batch))
  ]
  ours = POLICY.log_probs(
    params,
    batch['encoder_input_tokens'],
    batch['decoder_target_tokens'][:, None],
  ).sum((1, 2))
  found = [line['score'] for line in lines['score']]
  np.testing.assert_allclose(found, ours, rtol=1e-5)


def test_eval_scores_and_decodes(written, tmp_path):
  name = 'dap_t5x_pairs_with_metrics'
  seqio.TaskRegistry.add(
    name,
    source=task().source,
    preprocessors=task().preprocessors,
    output_features=task().output_features,
    metric_fns=[
      lambda targets, predictions: {'words': len(predictions[0].split())},
      lambda targets, scores: {'mean_score': float(np.mean(scores))},
    ],
  )
  (tmp_path / 'inference_eval').mkdir()  # the logger makes none
  with jax.numpy_rank_promotion('allow'):
    evaluation.evaluate(
      model=policy_model(),
      dataset_cfg=dataset_config(name),
      restore_checkpoint_cfg=utils.RestoreCheckpointConfig(
        path=str(written[0]), mode='specific'
      ),
      partitioner=partitioner(),
      output_dir=str(tmp_path),
      inference_evaluator_cls=functools.partial(
        seqio.Evaluator, logger_cls=[seqio.JSONLogger]
      ),
      summarize_config_fn=lambda **_: None,
    )
  (path,) = tmp_path.rglob('*metrics.jsonl')
  metrics = json.loads(path.read_text())
  assert metrics['words'] > 0 and metrics['mean_score'] < 0


def main(mode, config, folder, **bindings):
  """The words that docs/t5x.md types, on a tiny model."""
  bindings = {
    'MIXTURE_OR_TASK_NAME': TASK,
    'MIXTURE_OR_TASK_MODULE': 'made_up_pairs',
    'VOCABULARY_SIZE': VOCABULARY.size,
    'BATCH_SIZE': 8,
    **bindings,
  }
  words = [sys.executable, '-m', 't5x.main', f'--run_mode={mode}']
  words += [f'--gin_file=configs/t5x/{config}.gin']
  words += ['--gin_file=gin/models/t5_1_1_tiny.gin']
  words += [f'--gin.{name}={value!r}' for name, value in bindings.items()]
  # Tiny as above; T5X promotes ranks and wants no fake devices.
  words += [f'--gin.t5.T5Config.{name}={n}' for name, n in SIZES.items()]
  done = subprocess.run(
    words,
    cwd=ROOT,
    env=os.environ
    | {
      'PYTHONPATH': str(folder),
      'JAX_NUMPY_RANK_PROMOTION': 'allow',
      'XLA_FLAGS': '',
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]


def test_the_gin_files_train_and_infer(written, tmp_path):
  (tmp_path / 'made_up_pairs.py').write_text(MODULE)
  main(
    'train',
    'offline_ipo',
    tmp_path,
    MODEL_DIR=str(tmp_path / 'out'),
    INITIAL_CHECKPOINT_PATH=str(written[0]),
    TASK_FEATURE_LENGTHS=LENGTHS,
    TRAIN_STEPS=4,
    CHECKPOINT_PERIOD=2,
    EVAL_PERIOD=2,
    EVAL_STEPS=1,
  )
  trained = tmp_path / 'out' / 'checkpoint_4'
  main(
    'infer',
    'infer',
    tmp_path,
    CHECKPOINT_PATH=str(trained),
    INFER_OUTPUT_DIR=str(tmp_path / 'inferred'),
    TASK_FEATURE_LENGTHS=RESPONSES,
  )
  (path,) = (tmp_path / 'inferred').glob('*-predict.jsonl-*-of-00001')
  found = [json.loads(line)['prediction'] for line in path.open()]
  task()
  batch = batch_of(
    TASK, RESPONSES, seqio.EncDecFeatureConverter(pack=False), 12, 'test'
  )
  params = load.load_params(POLICY, str(trained), partitioning.mesh())
  assert found == [
    VOCABULARY.decode([int(i) for i in row if i > 0])
    for row in np.asarray(greedy(params, batch))
  ]
