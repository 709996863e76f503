"""A tiny policy and Task inside T5X, for the tests of dap/t5x.

Importing this skips a test file where T5X is not installed.
"""

import functools
import tempfile

import flax
import jax
import jax.numpy as jnp
import pytest

from dap.data import tasks
from dap.data.corpus import EmbeddedCorpus
from dap.models import t5
from dap.models.policy import Policy
from dap.sampling import Greedy

pytest.importorskip('t5x.models', reason='bash launch/install_t5x.sh adds it')

import seqio
from t5x import adafactor, checkpoints, utils
from t5x import partitioning as t5x_partitioning

import dap.t5x

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
T5 = t5.T5(t5.T5Config(**SIZES))
POLICY = Policy(T5, VOCABULARY.size)
AS_T5X = Policy(T5)
TASK = 'dap_t5x_pairs'


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


@functools.cache
def written():
  """A native checkpoint that T5X wrote of our policy, and its parameters."""
  folder = tempfile.TemporaryDirectory()
  state, initializer = state_of(policy_model(optimizer_def=optimizer()))
  checkpoints.Checkpointer(
    initializer.global_train_state_shape, partitioner(), folder.name
  ).save(state)
  _folders.append(folder)
  return f'{folder.name}/checkpoint_0', flax.core.unfreeze(state.params)


_folders = []  # removed at exit


def batch_of(name, lengths, converter, count=8, split='train'):
  dataset = seqio.get_mixture_or_task(name).get_dataset(
    dict(lengths), split, shuffle=False
  )
  rows = converter(dataset, dict(lengths)).batch(count)
  return jax.tree.map(jnp.asarray, next(rows.as_numpy_iterator()))


@functools.cache
def referenced():
  """The Task with what that checkpoint says of it, and eight of its pairs."""
  task()
  name = dap.t5x.task_with_reference(TASK, POLICY, written()[0], LENGTHS)
  converter = dap.t5x.ReferencedPairFeatureConverter()
  return name, batch_of(name, LENGTHS, converter)


def greedy(params, batch):
  return POLICY.sample(
    params,
    batch['encoder_input_tokens'],
    jax.random.split(jax.random.key(0), len(batch['encoder_input_tokens'])),
    num_samples=1,
    length=RESPONSES['targets'],
    choose=Greedy(),
  ).tokens[:, 0]
