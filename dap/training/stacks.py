"""Layer 5. A group: runs that differ in numbers alone, as one vmapped program.

The states of a group are stacked along a first axis and trained by the loop of
one run. The runs share seed, order of rows and random keys, so each draws from
its policy what its single run would; batches of a data set are shared too.
`vmap` computes sums in another order: a member equals its single run to
rounding, a group that was cut off equals an undisturbed one bit for bit.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from dap import errors, partitioning
from dap.algorithms.run import Run
from dap.checkpoints import state as checkpoints
from dap.data.pairs import Pairs
from dap.records import PreferenceBatch, TrainState
from dap.training import collectors, journals, loop, steps

# Which parts of a batch have the axis of members: of a data set none, of a
# rollout all but the prompts.
SHARED = None
SAMPLED = PreferenceBatch._make((None, 0, 0, 0, 0))


def check(runs: Mapping[str, Run]) -> None:
  """Refuses runs that one program cannot train.

  Raises:
    errors.InputError: names two runs that differ in more than numbers.
  """
  if not runs:
    raise errors.InputError('A group needs at least one run, got none.')
  (first, shared), *others = ((n, _shared(r)) for n, r in runs.items())
  for name, other in others:
    if different := [
      field.name
      for field in dataclasses.fields(Run)
      if getattr(other, field.name) != getattr(shared, field.name)
    ]:
      raise errors.InputError(
        'The runs of a group may differ in learning rate and in scalars of the'
        f' loss alone; {first} and {name} differ in {", ".join(different)}.'
        ' Train them one by one.'
      )


def fit(
  runs: Mapping[str, Run],
  pairs: Pairs,
  params: loop.Params,
  folder: pathlib.Path,
  *,
  mesh: jax.sharding.Mesh | None = None,
  digest: str = '',
  record_stream: bool = False,
  label: str = 'group',
) -> TrainState:
  """Trains all runs at once, or goes on with a training that was cut off.

  Writes under `folder/<name>` what `train.fit` writes of a run, but for what a
  restart needs: that of all runs is one checkpoint in `folder/restart`, written
  after their own. A kill between two of those therefore repeats all of them.

  Args:
    runs: by name; they differ in learning rate and scalars of the loss alone.
    pairs: examples, or the prompts that responses are sampled for.
    params: where all start, what anchors, what annotates.
    folder: of this group alone.
    mesh: of devices; the first device when None.
    digest: names the configuration; a checkpoint of another is refused.
    record_stream: keep every on-policy batch of every run.
    label: of the progress bar.

  Returns:
    The states after the last step, stacked in the order of `runs`.

  Raises:
    errors.InputError: see `check` and `train.fit`.
  """
  mesh = partitioning.mesh((1, 1)) if mesh is None else mesh
  check(runs)
  shared = next(iter(runs.values()))
  loop.check(shared, pairs, mesh)
  programs = _programs(tuple(runs.values()), pairs, params, mesh)
  members = {
    name: loop.journal(
      run, pairs, folder / name, digest=digest, record_stream=record_stream
    )
    for name, run in runs.items()
  }
  files = GroupJournal(members, folder / 'restart', digest)
  return loop.loop(shared, programs, files, label)


class GroupJournal:
  """The files of a group: those of its members, and one to restart all."""

  def __init__(
    self,
    members: Mapping[str, journals.RunJournal],
    root: pathlib.Path,
    digest: str,
  ):
    """`root` has the checkpoints that the group goes on from."""
    self._members, self._root, self._digest = dict(members), root, digest

  def restore(self, template: TrainState) -> journals.Restart | None:
    """See `journals.Journal`."""
    folder = journals.newest(self._root, self._digest)
    step, begun = 0, None
    if folder is not None:
      rest = journals.restore_rest(folder, template, params=template.params)
      state = TrainState(rest['step'], rest['params'], rest['optimizer'])
      step = int(state.step[0])
      begun = journals.Restart(step, state, rest.get('behaviour'))
    for journal in self._members.values():
      journal.truncate(step)
    return begun

  def record(self, step: int, batch: Any, rollout: Any) -> None:
    """See `journals.Journal`."""
    if rollout is None:
      return
    batch, rollout = jax.device_get((batch, rollout))
    sampled = tuple(batch)[1:]
    for index, journal in enumerate(self._members.values()):
      own, own_rollout = _row((sampled, rollout), index)
      own = PreferenceBatch(batch.prompts, *own)
      journal.record(step, own, own_rollout)

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """See `journals.Journal`."""
    for index, (name, journal) in enumerate(self._members.items()):
      try:
        journal.write(step, {k: v[index] for k, v in values.items()})
      except errors.InputError as error:
        raise errors.InputError(f'{name}: {error}') from error

  def save(self, step: int, state: TrainState, behaviour: PyTree) -> None:
    """See `journals.Journal`; the members' parameters come first."""
    for index, journal in enumerate(self._members.values()):
      journal.keep(step, member(state.params, index), {})
    rest = journals.rest_of(state, behaviour) | {'params': state.params}
    # Parameters of older checkpoints stay for ever; here the members have them.
    only = {'step': state.step}
    checkpoints.save(self._root, step, only, rest, self._digest)

  def close(self) -> None:
    """See `journals.Journal`."""
    for journal in self._members.values():
      journal.close()


@jax.jit
def member(stacked: PyTree, index: Int[Array, ''] | int) -> PyTree:
  """The part of one member of a stack."""
  return _row(stacked, index)


def stacked_sharding(sharding: PyTree) -> PyTree:
  """Shardings of a stack: every device has its part of all members."""
  return jax.tree.map(
    lambda each: NamedSharding(each.mesh, PartitionSpec(None, *each.spec)),
    sharding,
  )


@functools.cache
def update_program(
  objective: steps.Objective,
  optimizer: Any,
  mesh: jax.sharding.Mesh,
  num_microbatches: int,
  batch_axes: PreferenceBatch | None,
) -> steps.Update:
  """`steps.update_program` of a stack; `batch_axes` is SHARED or SAMPLED.

  Scalars and metrics have one number for each member.
  """
  step = steps.update_step(objective, optimizer, num_microbatches)
  placed = stacked_sharding(
    steps.state_sharding(objective.model, optimizer, mesh)
  )
  replicated = partitioning.replicated(mesh)
  return jax.jit(
    jax.vmap(step, in_axes=(0, batch_axes, 0)),
    in_shardings=(placed, _batch_sharding(mesh, batch_axes), replicated),
    out_shardings=(placed, replicated),
    donate_argnums=0,
  )


@functools.cache
def rollout_program(
  policy: Any, sampler: Any, annotator: Any, pairing: Any, mesh: Any
) -> Any:
  """`steps.rollout_program` of a stack of behaviour policies.

  All answer the same prompts with the same random keys.
  """
  rollout = steps.rollout_step(policy, sampler, annotator, pairing)
  placed = partitioning.param_sharding(policy.logical_axes(), mesh)
  replicated = partitioning.replicated(mesh)
  return jax.jit(
    jax.vmap(
      rollout,
      in_axes=(0, None, None, None, None, None),
      out_axes=(SAMPLED, 0),
    ),
    in_shardings=(
      stacked_sharding(placed),
      placed,
      annotator.sharding(mesh),
      partitioning.by_example(mesh),
      replicated,
      replicated,
    ),
    out_shardings=(
      _batch_sharding(mesh, SAMPLED),
      stacked_sharding(partitioning.by_example(mesh)),
    ),
  )


def _programs(
  runs: tuple[Run, ...],
  pairs: Pairs,
  params: loop.Params,
  mesh: jax.sharding.Mesh,
) -> loop.Programs:
  shared, count = runs[0], len(runs)
  single = steps.state_sharding(shared.model, shared.optimizer, mesh)
  placed = stacked_sharding(single)
  params = loop.place(params, single, shared, mesh)

  def start() -> TrainState:
    state = steps.new_state(params.initial, shared.optimizer)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), state)
    return jax.device_put(stack, placed)

  def scalars(step: int) -> dict[str, np.ndarray]:
    each = [run.scalars(step) for run in runs]
    return {name: np.stack([one[name] for one in each]) for name in each[0]}

  axes = SAMPLED if shared.algorithm.samples else SHARED
  return loop.Programs(
    start,
    _stacked_template(loop.template(shared, single), count),
    collectors.collector(
      shared, pairs, params.reference, params.annotator, mesh, rollout_program
    ),
    update_program(
      shared.objective, shared.optimizer, mesh, shared.num_microbatches, axes
    ),
    scalars,
  )


def _stacked_template(template: TrainState, count: int) -> TrainState:
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      (count, *leaf.shape),
      leaf.dtype,
      sharding=stacked_sharding(leaf.sharding),
    ),
    template,
  )


def _batch_sharding(
  mesh: jax.sharding.Mesh, axes: PreferenceBatch | None
) -> Any:
  examples = partitioning.by_example(mesh)
  if axes is None:
    return examples
  stack = stacked_sharding(examples)
  return PreferenceBatch._make(
    examples if axis is None else stack for axis in axes
  )


def _row(tree: PyTree, index: Any) -> PyTree:
  return jax.tree.map(lambda leaf: leaf[index], tree)


def _shared(run: Run) -> Run:
  """The run without the numbers that may differ."""
  loss = run.algorithm.loss
  names = {name: 0.0 for name, _ in loss.scalars}
  loss = dataclasses.replace(loss, scalars=names)
  algorithm = dataclasses.replace(run.algorithm, loss=loss)
  return dataclasses.replace(run, algorithm=algorithm, learning_rate=1.0)
