"""Layer 5. A stack: runs that differ in numbers alone, as one vmapped program.

The learners of a stack lie along a first axis and are trained by the loop of
one run. The runs share seed, order of rows and random keys, so each draws from
its policy what its single run would; batches of a data set are shared too.
`vmap` computes sums in another order: a member equals its single run to
rounding, a stack that was cut off equals an undisturbed one bit for bit.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TypeVar

import jax
from jaxtyping import Array, Int

from dap import errors, partitioning
from dap.algorithms.run import Run
from dap.records import Collected, Learner
from dap.training import facts, loop, programs, stack_programs
from dap.training.collectors import Examples
from dap.training.journals import RunJournal, StackJournal
from dap.training.metrics import MetricsLog
from dap.training.pace import Pace
from dap.training.programs import Params

T = TypeVar('T')


def check(runs: Mapping[str, Run]) -> None:
  """Refuses runs that one program cannot train.

  Raises:
    errors.InputError: names two runs that differ in more than numbers.
  """
  if not runs:
    raise errors.InputError('A group needs at least one run, got none.')
  (first, shared), *others = runs.items()
  for name, other in others:
    alike = _alike(other, shared)
    if different := [
      field.name
      for field in dataclasses.fields(Run)
      if getattr(alike, field.name) != getattr(shared, field.name)
    ]:
      raise errors.InputError(
        'The runs of a group may differ in learning rate and in scalars of the'
        f' loss alone; {first} and {name} differ in {", ".join(different)}.'
        ' Train them one by one.'
      )
  if shared.algorithm.control is not None:
    raise errors.InputError(
      'A group of runs shares its numbers, and a control gives each its own.'
      ' Train them one by one.'
    )
  if shared.algorithm.host_annotator is not None:
    raise errors.InputError(
      'A group of runs cannot ask an annotator on the host. Train them one by'
      ' one.'
    )


def fit(
  runs: Mapping[str, Run],
  examples: Examples,
  params: Params,
  folder: pathlib.Path,
  *,
  mesh: jax.sharding.Mesh | None = None,
  digest: str = '',
  record_stream: bool = False,
  label: str = 'group',
  pace: Pace | None = None,
) -> Learner:
  """Trains all runs at once, or goes on with a training that was cut off.

  Writes under `folder/<name>` what `train.fit` writes of a run, but for what a
  restart needs: that of all runs is one checkpoint in `folder/restart`, written
  after their own. A kill between two of those therefore repeats all of them.

  Args:
    runs: by name; they differ in learning rate and scalars of the loss alone.
    examples: to train on, or whose prompts responses are sampled for.
    params: where all start, what anchors, what annotates.
    folder: of this stack alone.
    mesh: of devices; the first device when None.
    digest: names the configuration; a checkpoint of another is refused.
    record_stream: keep every on-policy batch of every run.
    label: of the progress bar.
    pace: see `train.fit`.

  Returns:
    The learners after the last step, stacked in the order of `runs`.

  Raises:
    errors.InputError: see `check` and `train.fit`.
  """
  mesh = partitioning.mesh((1, 1)) if mesh is None else mesh
  check(runs)
  shared = next(iter(runs.values()))
  programs.check(shared, examples, mesh)
  members = {
    name: RunJournal(
      run,
      folder / name,
      MetricsLog(folder / name),
      record_stream=record_stream and run.algorithm.sampler is not None,
      digest=digest,
      facts=facts.of(run, examples),
    )
    for name, run in runs.items()
  }
  files = StackJournal(members, folder / 'restart', digest, member, member_of)
  kind = stack_programs.stacked(tuple(runs.values()), mesh)
  made = programs.of(shared, examples, params, mesh, kind=kind)
  return loop.loop(shared, made, files, label, pace or Pace()).learner


@jax.jit
def member(stacked: T, index: Int[Array, ''] | int) -> T:
  """The parameters of one member."""
  return jax.tree.map(lambda leaf: leaf[index], stacked)


def member_of(collected: Collected, index: int) -> Collected:
  """The examples of one member, from arrays on the host."""
  batch = collected.batch
  own = jax.tree.map(lambda leaf: leaf[index], batch._replace(prompts=None))
  return collected._replace(
    batch=own._replace(prompts=batch.prompts),
    drawn=jax.tree.map(lambda leaf: leaf[index], collected.drawn),
  )


def _alike(run: Run, other: Run) -> Run:
  """The run with the other's numbers, where it takes numbers of those names."""
  mine, theirs = run.algorithm.loss, other.algorithm.loss
  if mine.numbers.keys() == theirs.numbers.keys():
    loss = dataclasses.replace(mine, scalars=theirs.scalars)
    algorithm = dataclasses.replace(run.algorithm, loss=loss)
    run = dataclasses.replace(run, algorithm=algorithm)
  return dataclasses.replace(run, learning_rate=other.learning_rate)
