"""Our models inside T5X's programs: its trainer, infer, eval, and commands."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from dap import losses, partitioning
from dap.algorithms import objectives
from dap.checkpoints import load

pytest.importorskip('t5x.models', reason='bash launch/install_t5x.sh adds it')

import seqio
import t5x_tiny as tiny
from t5x import eval as evaluation
from t5x import infer, trainer, utils

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODULE = f"""
from dap.data import tasks
from dap.data.corpus import EmbeddedCorpus

corpus = {tiny.CORPUS!r}
tasks.add_task('{tiny.TASK}', corpus, corpus.vocabulary())
"""


@pytest.mark.parametrize('num_microbatches', [None, 2])
def test_five_steps_of_t5x_lower_the_loss(num_microbatches):
  model = tiny.direct_model(
    objectives.Loss(losses.ipo_loss, {'beta': 0.1}), loss_normalizing_factor=8.0
  )
  state, initializer = tiny.state_of(model)
  with (
    trainer.Trainer(
      model=model,
      train_state=state,
      partitioner=tiny.partitioner(),
      eval_names=['pairs'],
      summary_dir=None,
      train_state_axes=initializer.train_state_axes,
      rng=jax.random.PRNGKey(0),
      learning_rate_fn=lambda step: 3e-3,
      num_microbatches=num_microbatches,
    ) as run,
  ):
    batch = jax.tree.map(np.asarray, tiny.referenced()[1])
    values = [run.eval({'pairs': [batch]})['pairs']]
    for step in range(5):
      run.train(iter([batch]), 1, start_step=step).result()
      values.append(run.eval({'pairs': [batch]})['pairs'])
  found = [float(value['loss'].value) for value in values]
  np.testing.assert_allclose(found[0], 0.25, atol=1e-5)  # at the reference
  assert all(later < earlier for earlier, later in zip(found, found[1:])), found
  assert values[-1]['margin'].value > 0 and values[-1]['accuracy'].value > 0.5


def dataset_config(name):
  return utils.DatasetConfig(
    mixture_or_task_name=name,
    task_feature_lengths=tiny.RESPONSES,
    split='test',
    batch_size=8,
    shuffle=False,
    seed=0,
    pack=False,
  )


def test_infer_gives_our_greedy_tokens_and_scores(tmp_path):
  tiny.task()
  batch = tiny.batch_of(
    tiny.TASK,
    tiny.RESPONSES,
    seqio.EncDecFeatureConverter(pack=False),
    12,
    'test',
  )
  lines = {}
  for mode in ('predict', 'score'):
    infer.infer(
      mode=mode,
      model=tiny.policy_model(),
      dataset_cfg=dataset_config(tiny.TASK),
      restore_checkpoint_cfg=utils.RestoreCheckpointConfig(
        path=tiny.written()[0], mode='specific'
      ),
      partitioner=tiny.partitioner(),
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
  params = tiny.written()[1]
  assert [line['prediction_tokens'] for line in lines['predict']] == [
    [int(i) for i in row[row > 0]]
    for row in np.asarray(tiny.greedy(params, batch))
  ]
  ours = jax.jit(tiny.POLICY.log_probs)(
    params,
    batch['encoder_input_tokens'],
    batch['decoder_target_tokens'][:, None],
  ).sum((1, 2))
  found = [line['score'] for line in lines['score']]
  np.testing.assert_allclose(found, ours, rtol=1e-5)


def test_eval_scores_and_decodes(tmp_path):
  name = 'dap_t5x_pairs_with_metrics'
  seqio.TaskRegistry.add(
    name,
    source=tiny.task().source,
    preprocessors=tiny.task().preprocessors,
    output_features=tiny.task().output_features,
    metric_fns=[
      lambda targets, predictions: {'words': len(predictions[0].split())},
      lambda targets, scores: {'mean_score': float(np.mean(scores))},
    ],
  )
  (tmp_path / 'inference_eval').mkdir()  # the logger makes none
  evaluation.evaluate(
    model=tiny.policy_model(),
    dataset_cfg=dataset_config(name),
    restore_checkpoint_cfg=utils.RestoreCheckpointConfig(
      path=tiny.written()[0], mode='specific'
    ),
    partitioner=tiny.partitioner(),
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
    'MIXTURE_OR_TASK_NAME': tiny.TASK,
    'MIXTURE_OR_TASK_MODULE': 'made_up_pairs',
    'VOCABULARY_SIZE': tiny.VOCABULARY.size,
    'BATCH_SIZE': 8,
    **bindings,
  }
  words = [sys.executable, '-m', 't5x.main', f'--run_mode={mode}']
  words += [f'--gin_file=configs/t5x/{config}.gin']
  words += ['--gin_file=gin/models/t5_1_1_tiny.gin']
  words += [f'--gin.{name}={value!r}' for name, value in bindings.items()]
  words += [f'--gin.t5.T5Config.{name}={n}' for name, n in tiny.SIZES.items()]
  done = subprocess.run(
    words,
    cwd=ROOT,
    env=os.environ
    | {
      'PYTHONPATH': str(folder),
      'XLA_FLAGS': '',
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]


def test_the_gin_files_train_and_infer(tmp_path):
  (tmp_path / 'made_up_pairs.py').write_text(MODULE)
  main(
    'train',
    'offline_ipo',
    tmp_path,
    MODEL_DIR=str(tmp_path / 'out'),
    INITIAL_CHECKPOINT_PATH=tiny.written()[0],
    TASK_FEATURE_LENGTHS=tiny.LENGTHS,
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
    TASK_FEATURE_LENGTHS=tiny.RESPONSES,
  )
  (path,) = (tmp_path / 'inferred').glob('*-predict.jsonl-*-of-00001')
  found = [json.loads(line)['prediction'] for line in path.open()]
  tiny.task()
  batch = tiny.batch_of(
    tiny.TASK,
    tiny.RESPONSES,
    seqio.EncDecFeatureConverter(pack=False),
    12,
    'test',
  )
  params = load.load_params(tiny.POLICY, str(trained), partitioning.mesh())
  assert found == [
    tiny.VOCABULARY.decode([int(i) for i in row if i > 0])
    for row in np.asarray(tiny.greedy(params, batch))
  ]
