"""Layer 5. What a training leaves on disk: metrics, stream, checkpoints.

What stands there beyond the checkpoint that a restart goes on from is dropped
and written again, so that a training which was cut off ends with the same
bytes.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import PyTree

from dap import errors
from dap.checkpoints import state as checkpoints
from dap.records import TrainState
from dap.training import stream
from dap.training.metrics import MetricsLog

# (finished updates, parameters) -> None, after each checkpoint
Hook = Callable[[int, PyTree], None]


class Restart(NamedTuple):
  """Where a training goes on from.

  `behaviour` is a copy to sample from; None says: the policy itself.
  """

  step: int
  state: TrainState
  behaviour: PyTree = None


@runtime_checkable
class Journal(Protocol):
  """The files of a training, be it of one run or of a group."""

  def restore(self, template: TrainState) -> Restart | None:
    """Where to go on from; None at the start. Drops what was cut off.

    Args:
      template: shapes, dtypes and shardings of the state.
    """
    ...

  def record(self, step: int, batch: Any, rollout: Any) -> None:
    """Keeps a batch, on the devices still, if it is to be kept."""
    ...

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Keeps the metrics and scalars of the update that ended with `step`."""
    ...

  def save(self, step: int, state: TrainState, behaviour: PyTree) -> None:
    """Makes a checkpoint, whole or absent."""
    ...

  def close(self) -> None:
    """All is written."""
    ...


class RunJournal:
  """The files of one run: metrics.jsonl, `stream/` and `checkpoints/`."""

  def __init__(
    self,
    model_dir: pathlib.Path,
    metrics: MetricsLog,
    recorder: Callable[[], stream.Writer] | None = None,
    seed: int = 0,
    digest: str = '',
    on_checkpoint: Hook | None = None,
  ):
    """Opens nothing yet.

    Args:
      model_dir: of this run alone.
      metrics: where numbers go.
      recorder: opens the stream to record; None records none.
      seed: of the run, for the stream.
      digest: names the configuration; a checkpoint of another is refused.
      on_checkpoint: called after each checkpoint, and again for the one that a
        restart goes on from.
    """
    self.root = model_dir / 'checkpoints'
    self._metrics, self._open, self._seed = metrics, recorder, seed
    self._digest, self._hook = digest, on_checkpoint
    self._recorder: stream.Writer | None = None

  def restore(self, template: TrainState) -> Restart | None:
    """See `Journal`."""
    folder = newest(self.root, self._digest)
    if folder is None:
      self.truncate(0)
      return None
    params = checkpoints.restore_params(folder, template.params)
    rest = restore_rest(folder, template)
    state = TrainState(rest['step'], params, rest['optimizer'])
    step = int(state.step)
    self.truncate(step)
    if self._hook is not None:
      self._hook(step, params)  # a kill may have come before it
    return Restart(step, state, rest.get('behaviour'))

  def truncate(self, step: int) -> None:
    """Drops what was written after `step` updates; opens the stream."""
    self._metrics.truncate(step)
    if self._open is not None:
      self._recorder = self._open()
      self._recorder.truncate(step)

  def record(self, step: int, batch: Any, rollout: Any) -> None:
    """See `Journal`."""
    if self._recorder is not None:
      batch, rollout = jax.device_get((batch, rollout))
      self._recorder.append(step, step, self._seed, batch, rollout)

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """See `Journal`."""
    self._metrics.write(step, dict(values))

  def save(self, step: int, state: TrainState, behaviour: PyTree) -> None:
    """See `Journal`."""
    self.keep(step, state.params, rest_of(state, behaviour))
    if self._hook is not None:
      self._hook(step, state.params)

  def keep(self, step: int, params: PyTree, rest: Mapping[str, Any]) -> None:
    """A checkpoint, after the batches that led to it."""
    if self._recorder is not None:
      self._recorder.flush()
    checkpoints.save(self.root, step, params, rest, self._digest)

  def close(self) -> None:
    """See `Journal`."""
    if self._recorder is not None:
      self._recorder.close()


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


def rest_of(state: TrainState, behaviour: PyTree) -> dict[str, Any]:
  """What a restart needs beside the parameters."""
  rest = {'optimizer': state.optimizer, 'step': state.step}
  return rest if behaviour is None else {**rest, 'behaviour': behaviour}


def restore_rest(
  folder: pathlib.Path, template: TrainState, **more: PyTree
) -> dict[str, Any]:
  """What `rest_of` gave, and `more` by its templates."""
  names = checkpoints.metadata(folder)['rest']
  copied = any(name.startswith('behaviour') for name in names)
  wanted = rest_of(template, template.params if copied else None)
  return checkpoints.restore_rest(folder, {**wanted, **more})
