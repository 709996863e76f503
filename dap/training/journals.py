"""Layer 5. What a training leaves on disk: metrics, stream, checkpoints.

What stands there beyond the checkpoint that a restart goes on from is dropped
and written again, so that a training which was cut off ends with the same
bytes.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import PyTree

from dap import errors
from dap.algorithms.run import Run
from dap.checkpoints import state as checkpoints
from dap.records import Collected, Scalars, State
from dap.training import restart, stream
from dap.training.metrics import MetricsLog
from dap.training.restart import Template
from dap.training.steps import Metrics

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

  def close(self) -> None:
    """All is written."""
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
    facts: Mapping[str, checkpoints.Json] | None = None,
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
    folder = newest(self.root, self._digest)
    if folder is None:
      self.truncate(0)
      return None
    state, _ = restart.restore(folder, self.run.model, template)
    self.truncate(state.step)
    if self._hook is not None:  # a kill may have come before it
      self._hook(state.step, self.run.model.split(state.learner.params)[0])
    return state

  def truncate(self, step: int) -> None:
    """Drops what was written after `step` steps; opens the stream."""
    self._metrics.truncate(step)
    if self._stream is not None:
      self._recorder = stream.Writer(self._stream, self.run.seed)
      self._recorder.truncate(step)

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
    shared, _ = self.run.model.split(state.learner.params)
    roles = restart.kept_roles(self.run.algorithm)
    rest = restart.rest_of(state, self.run.model, roles)
    self.keep(state.step, shared, rest)
    if self._hook is not None:
      self._hook(state.step, shared)

  def keep(self, step: int, params: PyTree, rest: restart.Tree) -> None:
    """A checkpoint, after the batches that led to it."""
    if self._recorder is not None:
      self._recorder.flush()
    checkpoints.save(
      self.root, step, params, rest, self._digest, facts=self._facts
    )

  def close(self) -> None:
    """See `Journal`."""
    if self._recorder is not None:
      self._recorder.close()


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
    folder = newest(self._root, self._digest)
    state = None
    if folder is not None:
      model = self._run.model
      shared, _ = model.split(template.learner.params)
      state, _ = restart.restore(folder, model, template, params=shared)
    for journal in self._members.values():
      journal.truncate(state.step if state else 0)
    return state

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
    model = self._run.model
    shared, _ = model.split(state.learner.params)
    for index, journal in enumerate(self._members.values()):
      journal.keep(state.step, self._member(shared, index), {})
    roles = restart.kept_roles(self._run.algorithm)
    rest = restart.rest_of(state, model, roles) | {'params': shared}
    # Parameters of older checkpoints stay for ever; here the members have them.
    only = {'updates': state.learner.updates}
    checkpoints.save(self._root, state.step, only, rest, self._digest)

  def close(self) -> None:
    """See `Journal`."""
    for journal in self._members.values():
      journal.close()


def mean_of(told: Sequence[Metrics]) -> dict[str, np.ndarray]:
  """Metrics of a step: the mean over its updates; of one, its own bits."""
  each = jax.device_get(list(told))
  if len(each) == 1:
    return dict(each[0])
  return {
    name: np.asarray(np.mean([metrics[name] for metrics in each], axis=0))
    for name in each[0]
  }


def newest(root: pathlib.Path, digest: str) -> pathlib.Path | None:
  """The newest checkpoint that a restart can go on from; None when none.

  Raises:
    errors.InputError: another configuration wrote it.
  """
  step = checkpoints.newest(root)
  if step is None:
    return None
  folder = root / f'checkpoint_{step}'
  written = checkpoints.metadata(folder)['digest']
  if written != digest:
    raise errors.InputError(
      f'{root.parent} holds the run of another configuration (digest {written},'
      f' this one {digest}). Give another MODEL_DIR, or remove that folder.'
    )
  return folder
