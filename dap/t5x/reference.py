"""Layer 4. What a frozen reference says of a Task's pairs, as its features."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import seqio
import t5x.utils as t5x_utils
import tensorflow as tf
from jaxtyping import PyTree

from dap import partitioning, steps
from dap.checkpoints import load
from dap.data import arrays
from dap.errors import InputError
from dap.models.policy import Policy
from dap.records import Pair
from dap.t5x import features


def task_with_reference(
  task_name: str,
  policy: Policy,
  checkpoint_path: str,
  lengths: Mapping[str, int],
  module: str | None = None,
  batch_size: int = 32,
) -> str:
  """Registers a Task of the same pairs with the reference's log-probs.

  A split is scored when it is first read, in one forward pass that takes the
  memory of the parameters besides the trainer's own; log-probs then stay in
  host memory, 8 bytes for each token of a response's length.

  Args:
    task_name: a registered seqio Task with `inputs`, `targets`, `rejected`.
    policy: sizes of the reference.
    checkpoint_path: its parameters, of any layout that dap reads.
    lengths: TASK_FEATURE_LENGTHS.
    module: imported first, where the Task is registered; None for none.
    batch_size: pairs scored at once; devices must divide it.

  Returns:
    The name of the new Task, the same for the same content.

  Raises:
    InputError: no such Task, features that are no pairs, no such checkpoint,
      or several processes.
  """
  task = _task(task_name, module)
  if jax.process_count() > 1:
    raise InputError(
      'Reference log-probs are computed by one process, and there are'
      f' {jax.process_count()}. Register a Task that brings the features'
      f' {" and ".join(features.REFERENCE)} itself.'
    )
  content = [load.fingerprint(checkpoint_path), dict(lengths), vars(policy)]
  text = json.dumps(content, sort_keys=True, default=_content)
  digest = hashlib.sha256(text.encode()).hexdigest()
  name = f'{task_name}_with_reference_{digest[:12]}'
  if name in seqio.TaskRegistry.names():
    return name

  @functools.cache
  def columns(split: str) -> Any:
    tokens = _tokens(task, split, lengths)
    mesh = partitioning.mesh()
    params = load.load_params(policy, checkpoint_path, mesh)
    log_probs = _log_probs(policy, params, tokens, mesh, batch_size)
    return tokens | log_probs

  def dataset(split: str, shuffle_files: bool = False, seed: Any = None):
    del shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices(columns(split))

  source: Any = seqio.FunctionDataSource(dataset, splits=tuple(task.splits))
  scores = seqio.Feature(
    seqio.PassThroughVocabulary(1), add_eos=False, dtype=tf.float32
  )
  seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[],
    output_features=task.output_features
    | dict.fromkeys(features.REFERENCE, scores),
  )
  return name


def _content(value: Any) -> Any:
  """A configuration by its fields, a function by its name."""
  return getattr(value, '__qualname__', None) or vars(value)


def task_vocabulary(
  task_name: str, module: str | None = None
) -> seqio.Vocabulary:
  """The vocabulary of a Task's responses, for models that train on it.

  Args:
    task_name: a registered seqio Task.
    module: imported first, where the Task is registered; None for none.
  """
  return _task(task_name, module).output_features['targets'].vocabulary


def _task(name: str, module: str | None) -> Any:
  if module:
    t5x_utils.import_module(module)
  if name not in seqio.TaskRegistry.names():
    raise InputError(
      f'No seqio Task {name!r} is registered. Bind MIXTURE_OR_TASK_MODULE to a'
      ' module that registers it (dap.data.tasks.add_task) and is on'
      ' PYTHONPATH; give the Tasks of a Mixture one by one.'
    )
  return seqio.TaskRegistry.get(name)


def _tokens(
  task: Any, split: str, lengths: Mapping[str, int]
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
  score = steps.reference_program(policy, mesh)
  sharding = partitioning.by_example(mesh)
  parts = []
  count = len(tokens['inputs'])
  for rows, _ in arrays.epoch_batches(count, batch_size):
    prompts, *pair = arrays.global_batch(
      tuple(tokens[key][rows] for key in ('inputs', 'targets', 'rejected')),
      sharding,
    )
    parts.append(jax.device_get(score(params, prompts, Pair(*pair))))
  return {
    name: np.concatenate(side)[:count]
    for name, side in zip(features.REFERENCE, zip(*parts, strict=True))
  }
