"""Layer 5. Where the batch of a step comes from: data, a stream, a rollout."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from dap import errors, partitioning
from dap.data.pairs import Pairs
from dap.records import Pair, PreferenceBatch
from dap.training import steps

# (step, behaviour policy) -> (batch on the mesh, what a rollout remembers)
Collector = Callable[
  [int, PyTree], tuple[PreferenceBatch, steps.Rollout | None]
]


def collector(
  run: Any,
  pairs: Pairs,
  reference: PyTree,
  annotator: PyTree,
  mesh: jax.sharding.Mesh,
  rollout_program: Callable[..., Any] = steps.rollout_program,
) -> Collector:
  """Reads batches of pairs, or rolls the behaviour policy out on prompts.

  Args:
    run: a `train.Run`.
    pairs: examples, or the prompts to answer.
    reference: parameters on the mesh; None where the loss reads none.
    annotator: parameters on the mesh; None where nothing is sampled.
    mesh: of devices.
    rollout_program: as `steps.rollout_program`.
  """
  examples = partitioning.by_example(mesh)
  order = run.algorithm.sampler.order

  def rows(step):
    return order(len(pairs), run.batch_size, run.seed, step)

  if not run.algorithm.samples:
    if run.algorithm.loss.reads_reference and pairs.reference_chosen is None:
      pairs = with_reference(run.model, pairs, reference, mesh, run.batch_size)
    return lambda step, _: (
      jax.device_put(pairs.batch(rows(step)), examples),
      None,
    )
  algorithm = run.algorithm
  program = rollout_program(
    run.model, algorithm.sampler, algorithm.annotator, algorithm.pairing, mesh
  )
  root = jax.device_put(jax.random.key(run.seed), partitioning.replicated(mesh))

  def collect(step, behaviour):
    prompts = jax.device_put(pairs.batch(rows(step)).prompts, examples)
    return program(
      behaviour, reference, annotator, prompts, root, np.int32(step)
    )

  return collect


def with_reference(
  policy: Any,
  pairs: Pairs,
  reference: PyTree,
  mesh: jax.sharding.Mesh,
  batch_size: int,
) -> Pairs:
  """The pairs with the reference's log-probs, computed once for all epochs.

  Raises:
    errors.InputError: there is no reference.
  """
  if reference is None:
    raise errors.InputError(
      'This loss needs a reference policy. Give its checkpoint as'
      ' INITIAL_CHECKPOINT_PATH (and REFERENCE_CHECKPOINT_PATH if it differs).'
    )
  program = steps.reference_program(policy, mesh)
  examples = partitioning.by_example(mesh)
  parts = []
  for start in range(0, len(pairs), batch_size):
    batch = pairs.batch(np.arange(start, start + batch_size) % len(pairs))
    placed = jax.device_put((batch.prompts.tokens, batch.responses), examples)
    parts.append(jax.device_get(program(reference, *placed)))
  columns = (np.concatenate(column)[: len(pairs)] for column in zip(*parts))
  return pairs.with_reference(Pair(*columns))
