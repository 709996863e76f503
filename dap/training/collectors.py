"""Layer 5. Where a step's examples come from: data, a stream, a rollout."""

import functools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import PyTree

from dap import errors, partitioning
from dap.algorithms import objectives
from dap.algorithms.refresh import Never
from dap.algorithms.run import Run
from dap.algorithms.signals import Signal
from dap.data.pairs import Pairs
from dap.models.trained import Policy, Trained
from dap.records import Batch, Collected, Pair, Prompts, RoleParams, State
from dap.training import rollouts, steps
from dap.training.rollouts import Collector


@runtime_checkable
class Examples(Protocol):
  """Rows to train on, or whose prompts are answered: `Pairs`, or a stream."""

  def __len__(self) -> int: ...

  @property
  def known(self) -> tuple[str, ...]:
    """Columns that the rows have already."""
    ...

  @property
  def scored(self) -> bool:
    """Whether an annotator scored the responses."""
    ...

  @property
  def prompt_length(self) -> int:
    """Tokens of a prompt."""
    ...

  def batch(self, rows: np.ndarray) -> Batch:
    """These rows, on the host."""
    ...


def rows_of(run: Run, examples: Examples) -> Callable[[int], np.ndarray]:
  """The rows of each step."""
  source = run.algorithm.source
  return lambda step: source.rows(len(examples), run.batch_size, run.seed, step)


def prompts_of(
  run: Run, examples: Examples, mesh: jax.sharding.Mesh
) -> Callable[[int], Prompts]:
  """The prompts of each step, on the mesh; with the data's answers if asked."""
  rows, placed = rows_of(run, examples), partitioning.by_example(mesh)
  sampler = run.algorithm.sampler
  answered = sampler is not None and sampler.num_data > 0

  def prompts(step: int) -> Prompts:
    batch = examples.batch(rows(step))
    answers = batch.responses if answered else None
    return jax.device_put(batch.prompts._replace(answers=answers), placed)

  return prompts


# (model, signals, parameters, batch) -> batch, as a program
SignalProgram = Callable[[RoleParams, Batch], Batch]


@functools.cache
def signal_program(
  model: Trained,
  signals: tuple[Signal, ...],
  given: tuple[str, ...],
  mesh: partitioning.AnyMesh,
) -> SignalProgram:
  """`rollouts.with_columns`, jitted; nothing to do where there is no signal."""
  if not signals:
    return lambda params, batch: batch
  places = rollouts.layout(model, None, given, mesh)
  return jax.jit(
    functools.partial(rollouts.with_columns, model, signals),
    in_shardings=(places.params, places.examples),
    out_shardings=places.examples,
  )


def read(
  run: Run,
  examples: Examples,
  reference: PyTree,
  mesh: jax.sharding.Mesh,
  program: Callable[..., SignalProgram] = signal_program,
) -> Collector:
  """Reads batches, with the columns that the loss asks for.

  What depends on the rows and on a reference that stays is computed once for
  all epochs, the rest at each step.

  Args:
    run: whose algorithm samples nothing.
    examples: to read.
    reference: parameters on the mesh; None where nothing reads them.
    mesh: of devices.
    program: as `signal_program`; a stack has one of its own for each step.

  Raises:
    errors.InputError: a column needs a reference, or scores, and there is none.
  """
  algorithm, rows = run.algorithm, rows_of(run, examples)
  if algorithm.reads_scores and not examples.scored:
    raise errors.InputError(
      f'{objectives.name_of(algorithm.loss.function)}, or a signal that it'
      ' reads, reads the scores of responses, which this data set has not.'
      ' Train on a recorded stream (STREAM_PATH), or sample and ask an'
      ' annotator.'
    )
  lacking = [s for s in algorithm.columns if s.name not in examples.known]
  if any(each.owner == 'reference' for each in lacking):
    require_reference(reference)
  once, later = _kept(lacking, examples.known, algorithm.reference == Never())
  columns = {}
  if once:
    columns = _columns(run, once, examples, reference, mesh)
  placed = partitioning.by_example(mesh)
  given = ('policy',) if reference is None else ('policy', 'reference')
  compute = program(run.model, later, given, mesh)

  def collect(state: State) -> tuple[State, Collected]:
    taken = rows(state.step)
    batch = examples.batch(taken)
    more = {name: column[taken] for name, column in columns.items()}
    batch = batch._replace(columns={**batch.columns, **more})
    batch = jax.device_put(batch, placed)
    params = rollouts.role_params(state)
    batch = compute(params._replace(behaviour=None, annotator=None), batch)
    return state, Collected(state.step, state.step, batch)

  return collect


def require_reference(reference: PyTree) -> None:
  """Refuses to go on without a reference policy.

  Raises:
    errors.InputError: there is none.
  """
  if reference is None:
    raise errors.InputError(
      'This loss needs a reference policy. Give its checkpoint as'
      ' INITIAL_CHECKPOINT_PATH (and REFERENCE_CHECKPOINT_PATH if it differs).'
    )


def _kept(
  signals: list[Signal], known: tuple[str, ...], reference_stays: bool
) -> tuple[tuple[Signal, ...], tuple[Signal, ...]]:
  """(those that hold for all epochs, those of a step), in order.

  A signal over the whole batch, such as whitening, has nobody's parameters, and
  would see other rows: only what a frozen reference says of a row is kept.
  """
  once = tuple(
    each
    for each in signals
    if reference_stays
    and each.owner == 'reference'
    and {*each.reads} <= {*known}
  )
  return once, tuple(each for each in signals if each not in once)


def _columns(
  run: Run,
  signals: tuple[Signal, ...],
  examples: Examples,
  reference: PyTree,
  mesh: jax.sharding.Mesh,
) -> dict[str, np.ndarray]:
  """Columns of all rows, in their order."""
  program = signal_program(run.model, signals, ('reference',), mesh)
  params = RoleParams(None, reference=reference)
  placed = partitioning.by_example(mesh)
  names = [each.name for each in signals]

  def computed(rows: np.ndarray):
    batch = jax.device_put(examples.batch(rows), placed)
    columns = jax.device_get(program(params, batch).columns)
    return [columns[name] for name in names]

  parts = in_batches(computed, len(examples), run.batch_size)
  return dict(zip(names, parts, strict=True))


def in_batches(
  function: Callable[[np.ndarray], list[np.ndarray]],
  count: int,
  batch_size: int,
) -> list[np.ndarray]:
  """Calls with rows in batches of one size; joins the results.

  The last batch is filled with rows from the start, whose results are dropped.
  """
  parts = [
    function(np.arange(start, start + batch_size) % count)
    for start in range(0, count, batch_size)
  ]
  return [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]


def with_reference(
  policy: Policy,
  pairs: Pairs,
  reference: PyTree,
  mesh: jax.sharding.Mesh,
  batch_size: int,
) -> Pairs:
  """The pairs with the reference's log-probs, nats.

  Raises:
    errors.InputError: there is no reference.
  """
  require_reference(reference)
  program = steps.log_probs_program(policy, mesh)
  examples = partitioning.by_example(mesh)

  def scored(rows: np.ndarray):
    batch = pairs.batch(rows)
    placed = jax.device_put(
      (batch.prompts.tokens, batch.responses.tokens), examples
    )
    return [jax.device_get(program(reference, *placed))]

  (both,) = in_batches(scored, len(pairs), batch_size)
  return pairs.with_reference(Pair(both[:, 0], both[:, 1]))
