"""Layer 5. What a frozen reference says of a Task's pairs, as its features."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import seqio
import t5x.utils as t5x_utils
import tensorflow as tf
from jaxtyping import PyTree

from dap import partitioning
from dap.checkpoints import load
from dap.data import arrays
from dap.errors import InputError
from dap.models.policy import Policy
from dap.stages import values
from dap.t5x import features
from dap.training import steps


def task_with_reference(
  task_name: str,
  policy: Policy,
  checkpoint_path: str,
  lengths: Mapping[str, int],
  module: str | None = None,
  batch_size: int = 32,
) -> str:
  """Registers the same pairs with the reference's log-probs of their tokens.

  A split is scored when it is first read, in one forward pass that takes the
  memory of the parameters besides the trainer's own; log-probs then stay in
  host memory, 8 bytes for each token of a response's length.

  Args:
    task_name: a registered seqio Task with `inputs`, `targets`, `rejected`, or
      a Mixture of such Tasks, whose rates are kept.
    policy: sizes of the reference.
    checkpoint_path: its parameters, of any layout that dap reads.
    lengths: TASK_FEATURE_LENGTHS.
    module: imported first, where the Task is registered; None for none.
    batch_size: pairs scored at once; devices must divide it.

  Returns:
    The name of the new Task or Mixture, the same for the same content.

  Raises:
    InputError: no such Task, features that are no pairs, no such checkpoint,
      or several processes.
  """
  given = _task_or_mixture(task_name, module)
  if jax.process_count() > 1:
    raise InputError(
      'Reference log-probs are computed by one process, and there are'
      f' {jax.process_count()}. Register a Task that brings the features'
      f' {" and ".join(features.REFERENCE)} itself.'
    )
  content = (load.fingerprint(checkpoint_path), dict(lengths), policy)
  suffix = values.digest(content)[:12]
  names = {}
  for task in seqio.get_subtasks(given):
    names[task] = f'{task.name}_with_reference_{suffix}'
    if names[task] not in seqio.TaskRegistry.names():
      score = functools.partial(
        _scored, task, policy, checkpoint_path, lengths, batch_size
      )
      _add_task(names[task], task, functools.cache(score))
  if isinstance(given, seqio.Task):
    return names[given]
  name = f'{task_name}_with_reference_{suffix}'
  if name not in seqio.MixtureRegistry.names():
    rates = [(names[task], given.get_rate(task)) for task in names]
    seqio.MixtureRegistry.add(name, rates)
  return name


def _add_task(
  name: str, task: seqio.Task, columns: Callable[[str], PyTree[np.ndarray]]
) -> None:
  """The Task `name` of the splits and vocabularies of `task`."""

  def dataset(split: str, shuffle_files: bool = False, seed: int | None = None):
    del shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices(columns(split))

  # seqio's annotation asks for another protocol than its own check does.
  source: Any = seqio.FunctionDataSource(dataset, splits=tuple(task.splits))
  scores = seqio.Feature(
    seqio.PassThroughVocabulary(1), add_eos=False, dtype=tf.float32
  )
  seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[],
    output_features={
      **task.output_features,
      **dict.fromkeys(features.REFERENCE, scores),
    },
  )


def _scored(
  task: seqio.Task,
  policy: Policy,
  checkpoint_path: str,
  lengths: Mapping[str, int],
  batch_size: int,
  split: str,
) -> dict[str, np.ndarray]:
  """Tokens and reference log-probs of all pairs of a split."""
  tokens = _tokens(task, split, lengths)
  mesh = partitioning.mesh()
  params = load.load_params(policy, checkpoint_path, mesh)
  return tokens | _log_probs(policy, params, tokens, mesh, batch_size)


def task_vocabulary(
  task_name: str, module: str | None = None
) -> seqio.Vocabulary:
  """The vocabulary of a Task's responses, for models that train on it.

  Args:
    task_name: a registered seqio Task or Mixture.
    module: imported first, where the Task is registered; None for none.
  """
  task = _task_or_mixture(task_name, module)
  return task.output_features['targets'].vocabulary


def task_num_ids(task_name: str, module: str | None = None) -> int:
  """How many ids the vocabulary of a Task has: all that a policy may say.

  Arguments are those of `task_vocabulary`.
  """
  return task_vocabulary(task_name, module).vocab_size


def _task_or_mixture(
  name: str, module: str | None
) -> seqio.Task | seqio.Mixture:
  if module:
    t5x_utils.import_module(module)
  known = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
  if name not in known:
    raise InputError(
      f'No seqio Task or Mixture {name!r} is registered. Bind'
      ' MIXTURE_OR_TASK_MODULE to a module on PYTHONPATH that registers it, as'
      ' dap.data.mixtures does the public sets, or with'
      ' dap.data.tasks.add_task.'
    )
  return seqio.get_mixture_or_task(name)


def _tokens(
  task: seqio.Task, split: str, lengths: Mapping[str, int]
) -> dict[str, np.ndarray]:
  """All pairs of a split in order, padded with 0, by name of the Task."""
  dataset = task.get_dataset(dict(lengths), split, shuffle=False)
  converted = features.PairFeatureConverter()(dataset, dict(lengths))
  names = {
    'inputs': 'encoder_input_tokens',
    'targets': 'decoder_target_tokens',
    'rejected': 'rejected_decoder_target_tokens',
  }
  rows = list(converted.as_numpy_iterator())
  if not rows:
    raise InputError(f'The Task {task.name} has no pairs in {split!r}.')
  return {key: np.stack([row[n] for row in rows]) for key, n in names.items()}


def _log_probs(
  policy: Policy,
  params: PyTree,
  tokens: dict[str, np.ndarray],
  mesh: jax.sharding.Mesh,
  batch_size: int,
) -> dict[str, np.ndarray]:
  """Nats of each token of both responses of all pairs."""
  score = steps.log_probs_program(policy, mesh)
  sharding = partitioning.by_example(mesh)
  parts = []
  count = len(tokens['inputs'])
  for rows, _ in arrays.epoch_batches(count, batch_size):
    pair = [tokens[key][rows] for key in ('targets', 'rejected')]
    prompts, both = arrays.global_batch(
      (tokens['inputs'][rows], np.stack(pair, axis=1)), sharding
    )
    both = jax.device_get(score(params, prompts, both))
    parts.append((both[:, 0], both[:, 1]))
  return {
    name: np.concatenate(side)[:count]
    for name, side in zip(features.REFERENCE, zip(*parts, strict=True))
  }
