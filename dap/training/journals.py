"""Layer 5. What a training leaves on disk: metrics, stream, checkpoints.

What stands there beyond the checkpoint that a restart goes on from is dropped
and written again, so that a training which was cut off ends with the same
bytes. A checkpoint says how far the other files were, and what was in them: one
is whole if they are.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import PyTree

from dap import errors, seals
from dap.algorithms.run import Run
from dap.checkpoints import metadata, points
from dap.checkpoints import state as checkpoints
from dap.records import Collected, Scalars, State
from dap.training import restart, stream
from dap.training.metrics import MetricsLog
from dap.training.restart import Template
from dap.training.steps import Metrics

_METRICS, _STREAM = 'metrics.jsonl', 'stream/records.bin'
# How far the files of a training are, by their names.
Beside = Mapping[str, seals.Seal]
# (finished steps, parameters that others read) -> None, after each checkpoint
Hook = Callable[[int, PyTree], None]


@runtime_checkable
class Journal(Protocol):
  """The files of a training, be it of one run or of a stack of them."""

  def restore(self, template: Template) -> State | None:
    """Where to go on from; None at the start. Drops what was cut off."""
    ...

  def record(self, collected: Collected) -> None:
    """Keeps the examples of a step, if they are to be kept."""
    ...

  def write(self, done: int, told: Sequence[Metrics], scalars: Scalars) -> None:
    """Keeps the metrics of the updates of the step that ended with `done`."""
    ...

  def save(self, state: State) -> None:
    """Makes a checkpoint, whole or absent."""
    ...

  def save_restart(self, state: State) -> None:
    """Makes a point that a restart can go on from, and nobody else reads."""
    ...

  def close(self) -> None:
    """All is written; restart points go."""
    ...


class RunJournal:
  """The files of one run: metrics.jsonl, `stream/` and `checkpoints/`."""

  def __init__(
    self,
    run: Run,
    model_dir: pathlib.Path,
    metrics: MetricsLog,
    *,
    record_stream: bool = False,
    digest: str = '',
    on_checkpoint: Hook | None = None,
    facts: Mapping[str, metadata.Json] | None = None,
  ):
    """Opens nothing yet.

    Args:
      run: the choices.
      model_dir: of this run alone.
      metrics: where numbers go.
      record_stream: keep every batch that was drawn.
      digest: names the configuration; a checkpoint of another is refused.
      on_checkpoint: called after each checkpoint, and again for the one that a
        restart goes on from.
      facts: that stand in each checkpoint, see `facts.of`.
    """
    self.run, self.root = run, model_dir / 'checkpoints'
    self._facts = dict(facts or {})
    self._stream = model_dir / 'stream' if record_stream else None
    self._metrics = metrics
    self._digest, self._hook = digest, on_checkpoint
    self._recorder: stream.Writer | None = None

  def restore(self, template: Template) -> State | None:
    """See `Journal`."""

    def read(folder: pathlib.Path) -> State:
      self.check(metadata.read(folder).get('beside', {}))
      return restart.restore(folder, self.run.model, template)[0]

    found = restart.go_on(self.root, self._digest, read)
    if found is None:
      self.truncate(0, {})
      return None
    folder, state = found
    self.truncate(state.step, metadata.read(folder).get('beside', {}))
    is_point = folder.name.startswith(points.POINT)
    if self._hook is not None and is_point:  # a kill may have come before it
      self._hook(state.step, self.run.model.split(state.learner.params)[0])
    return state

  def check(self, beside: Beside) -> None:
    """Holds metrics and stream against what they were.

    Raises:
      seals.Broken: what is to be kept of them is changed or missing.
    """
    if _METRICS in beside:
      self._metrics.check(beside[_METRICS])
    if self._stream is not None and _STREAM in beside:
      self._open().check(beside[_STREAM])

  def truncate(self, step: int, beside: Beside) -> None:
    """Drops what was written after `step` steps; opens the stream."""
    if _METRICS in beside:
      self._metrics.go_back(beside[_METRICS])
    else:
      self._metrics.truncate(step)
    if self._stream is not None:
      self._open().truncate(step)

  def _open(self) -> stream.Writer:
    if self._recorder is None:
      assert self._stream is not None
      self._recorder = stream.Writer(self._stream, self.run.seed)
    return self._recorder

  def record(self, collected: Collected) -> None:
    """See `Journal`; what is read from data is not kept."""
    if self._recorder is not None and collected.drawn is not None:
      self._recorder.append(jax.device_get(collected))

  def write(self, done: int, told: Sequence[Metrics], scalars: Scalars) -> None:
    """See `Journal`."""
    self.write_numbers(done, {**mean_of(told), **scalars})

  def write_numbers(self, done: int, numbers: Scalars) -> None:
    """One line of metrics.jsonl."""
    self._metrics.write(done, dict(numbers))

  def save(self, state: State) -> None:
    """See `Journal`."""
    shared, rest = self._parts(state)
    self.keep(state.step, shared, rest)
    if self._hook is not None:
      self._hook(state.step, shared)

  def save_restart(self, state: State) -> None:
    """See `Journal`."""
    self.keep(state.step, *self._parts(state), kind=points.RESTART)

  def _parts(self, state: State) -> tuple[PyTree, restart.Tree]:
    shared, _ = self.run.model.split(state.learner.params)
    roles = restart.kept_roles(self.run.algorithm)
    return shared, restart.rest_of(state, self.run.model, roles)

  def keep(
    self,
    step: int,
    params: PyTree,
    rest: restart.Tree,
    kind: str = points.POINT,
  ) -> None:
    """A checkpoint, after the batches and metrics that led to it."""
    checkpoints.save(
      self.root,
      step,
      params,
      rest,
      self._digest,
      kind=kind,
      beside=self.flush(),
      facts=self._facts,
    )

  def flush(self) -> dict[str, seals.Seal]:
    """Brings metrics and stream to disk, and says what they are by then."""
    beside = {_METRICS: self._metrics.flush()}
    if self._recorder is not None:
      beside[_STREAM] = self._recorder.flush()
    return beside

  def close(self) -> None:
    """See `Journal`."""
    if self._recorder is not None:
      self._recorder.close()
    points.drop_restarts(self.root)


class StackJournal:
  """The files of a stack: those of its members, and one to restart all."""

  def __init__(
    self,
    members: Mapping[str, RunJournal],
    root: pathlib.Path,
    digest: str,
    member: Callable[[PyTree, int], PyTree],
    member_of: Callable[[Collected, int], Collected],
  ):
    """Opens nothing yet.

    Args:
      members: the files of each run.
      root: has the checkpoints that the stack goes on from.
      digest: names the configuration.
      member: (stacked tree, number) -> the tree of that run.
      member_of: the same of the examples of a step.
    """
    self._members, self._root, self._digest = dict(members), root, digest
    self._member, self._member_of = member, member_of
    self._run = next(iter(members.values())).run

  def restore(self, template: Template) -> State | None:
    """See `Journal`."""
    model = self._run.model
    shared, _ = model.split(template.learner.params)

    def read(folder: pathlib.Path) -> State:
      beside = metadata.read(folder).get('beside', {})
      for name, journal in self._members.items():
        journal.check(_of_member(beside, name))
      return restart.restore(folder, model, template, params=shared)[0]

    found = restart.go_on(self._root, self._digest, read)
    beside = {}
    if found is not None:
      beside = metadata.read(found[0]).get('beside', {})
    for name, journal in self._members.items():
      own = _of_member(beside, name)
      journal.truncate(found[1].step if found else 0, own)
    return found[1] if found else None

  def record(self, collected: Collected) -> None:
    """See `Journal`."""
    if collected.drawn is None:
      return
    collected = jax.device_get(collected)
    for index, journal in enumerate(self._members.values()):
      journal.record(self._member_of(collected, index))

  def write(self, done: int, told: Sequence[Metrics], scalars: Scalars) -> None:
    """See `Journal`; every number has one of each member."""
    numbers = {**mean_of(told), **scalars}
    for index, (name, journal) in enumerate(self._members.items()):
      own = {k: np.asarray(v)[index] for k, v in numbers.items()}
      try:
        journal.write_numbers(done, own)
      except errors.InputError as error:
        raise errors.InputError(f'{name}: {error}') from error

  def save(self, state: State) -> None:
    """See `Journal`; the members' parameters come first."""
    shared, _ = self._run.model.split(state.learner.params)
    for index, journal in enumerate(self._members.values()):
      journal.keep(state.step, self._member(shared, index), {})
    self._keep(state, points.POINT)

  def save_restart(self, state: State) -> None:
    """See `Journal`."""
    self._keep(state, points.RESTART)

  def _keep(self, state: State, kind: str) -> None:
    model = self._run.model
    shared, _ = model.split(state.learner.params)
    roles = restart.kept_roles(self._run.algorithm)
    rest = restart.rest_of(state, model, roles) | {'params': shared}
    # Parameters of older checkpoints stay for ever; here the members have them.
    only = {'updates': state.learner.updates}
    beside = {
      f'{name}/{file}': seal
      for name, journal in self._members.items()
      for file, seal in journal.flush().items()
    }
    checkpoints.save(
      self._root,
      state.step,
      only,
      rest,
      self._digest,
      kind=kind,
      beside=beside,
    )

  def close(self) -> None:
    """See `Journal`."""
    for journal in self._members.values():
      journal.close()
    points.drop_restarts(self._root)


def _of_member(beside: Beside, name: str) -> dict[str, seals.Seal]:
  """What is said of the files of one run of a stack."""
  start = f'{name}/'
  return {
    each[len(start) :]: seal
    for each, seal in beside.items()
    if each.startswith(start)
  }


def mean_of(told: Sequence[Metrics]) -> dict[str, np.ndarray]:
  """Metrics of a step: the mean over its updates; of one, its own bits."""
  each = jax.device_get(list(told))
  if len(each) == 1:
    return dict(each[0])
  return {
    name: np.asarray(np.mean([metrics[name] for metrics in each], axis=0))
    for name in each[0]
  }
