"""Layer 5. The one loop: supervised, preference-model, offline and online.

    for step in range(state.step, num_steps):
      state = refresh(state)               # behaviour, reference, annotator
      state, collected = collect(state)    # read, or sample, annotate, pair
      for batch in passes(step, collected.batch):
        state.learner, metrics = update(state.learner, batch, scalars(step))

All that changes numbers is in a `Run`; a restart from a checkpoint repeats the
rest of the run bit for bit, its metrics and its recorded stream included. One
is kept at the run's own steps, in between as a `Pace` says, and at a signal.
"""

import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np

from dap import errors, partitioning, progress, stopping
from dap.algorithms import objectives
from dap.algorithms.run import Run
from dap.checkpoints.metadata import Json
from dap.records import Learner, State
from dap.training import facts as facts_lib
from dap.training import programs as programs_lib
from dap.training.collectors import Examples
from dap.training.journals import Hook, Journal, RunJournal
from dap.training.metrics import MetricsLog
from dap.training.pace import Pace
from dap.training.programs import Params, Programs
from dap.training.running import IN_STEP, AskHost, Collect


def fit(
  run: Run,
  examples: Examples,
  params: Params,
  model_dir: pathlib.Path,
  *,
  mesh: jax.sharding.Mesh | None = None,
  digest: str = '',
  record_stream: bool = False,
  on_checkpoint: Hook | None = None,
  log: MetricsLog | None = None,
  label: str = 'train',
  collect: Collect = IN_STEP,
  decode: Callable[[np.ndarray], str] | None = None,
  pace: Pace | None = None,
  facts: Mapping[str, Json] | None = None,
) -> Learner:
  """Trains, or goes on with a training that was cut off.

  Writes `checkpoints/`, `metrics.jsonl` and, if asked, `stream/` under
  `model_dir`. What stands there beyond the newest checkpoint is trained again.

  Args:
    run: the choices.
    examples: to train on, or whose prompts responses are sampled for.
    params: where to start, what anchors, what annotates.
    model_dir: of this run alone.
    mesh: of devices; the first device when None.
    digest: names the configuration; a checkpoint of another is refused.
    record_stream: keep every on-policy batch.
    on_checkpoint: called with (step, parameters) after each checkpoint, and
      again for the one that a restart goes on from.
    log: where metrics go beside `metrics.jsonl`.
    label: of the progress bar.
    collect: how rollouts are run, which changes no number.
    decode: token ids to text, for an annotator on the host.
    pace: of the points that a restart can go on from beside checkpoints.
    facts: that stand in each checkpoint beside those of `facts.of`.

  Returns:
    The learner after the last step.

  Raises:
    errors.InputError: see `programs.check`; a checkpoint of another
      configuration; a disk that cannot be written; a loss that is no number;
      files of the run that somebody changed.
    stopping.Stopped: a signal came; all steps are kept.
  """
  mesh = partitioning.mesh((1, 1)) if mesh is None else mesh
  programs_lib.check(run, examples, mesh)
  if run.algorithm.host_annotator is not None:
    collect = _asking(model_dir, decode)
  programs = programs_lib.of(run, examples, params, mesh, collect)
  files = RunJournal(
    run,
    model_dir,
    log or MetricsLog(model_dir),
    record_stream=record_stream and run.algorithm.sampler is not None,
    digest=digest,
    on_checkpoint=on_checkpoint,
    facts={**facts_lib.of(run, examples), **(facts or {})},
  )
  return loop(run, programs, files, label, pace or Pace()).learner


def _asking(
  folder: pathlib.Path, decode: Callable[[np.ndarray], str] | None
) -> AskHost:
  if decode is None:
    raise errors.InputError(
      'An annotator on the host reads texts: give train.fit the vocabulary,'
      ' decode=vocabulary.decode.'
    )
  return AskHost(folder, decode)


def loop(
  run: Run,
  programs: Programs,
  files: Journal,
  label: str,
  pace: Pace | None = None,
) -> State:
  """Every step that is not done yet: collect once, update as the passes say.

  Cut off anywhere, it ends with the bytes of a loop that was not.

  Args:
    run: the choices; what all runs of a stack share.
    programs: what a step calls.
    files: what is left on disk.
    label: of the progress bar.
    pace: of restart points; none are kept when None.

  Raises:
    stopping.Stopped: a signal came; the steps until then are kept.
  """
  state = files.restore(programs.template) or programs.start()
  shown = progress.track(label, run.num_steps, start=state.step)
  with shown as tick, stopping.at_step_ends() as stopped_by:
    if pace is not None:
      pace.begin(state.step)
    for step in range(state.step, run.num_steps):
      state = programs.refresh(state)
      state, collected = programs.collect(state)
      files.record(collected)
      scalars, told = programs.scalars(step), []
      for batch in programs.passes(step, collected.batch):
        learner, metrics = programs.update(state.learner, batch, scalars)
        state = state._replace(learner=learner)
        told.append(metrics)
      state = state._replace(step=step + 1)
      if run.logs(state.step):
        numbers = objectives.numbers_of(scalars)
        controlled = state.roles.control.params or {}
        files.write(state.step, told, {**numbers, **controlled})
      _keep(run, state, files, pace, bool(stopped_by()))
      tick(state.step)
      if (signum := stopped_by()) and state.step < run.num_steps:
        raise stopping.Stopped(
          signum, f'{label}: step {state.step} of {run.num_steps} is kept'
        )
  files.close()
  return state


def _keep(
  run: Run, state: State, files: Journal, pace: Pace | None, stops: bool
) -> None:
  """A checkpoint where the run has one, a restart point where one is due."""
  if run.saves(state.step):
    files.save(state)
  elif stops or (pace is not None and pace.due(state.step, run.num_steps)):
    files.save_restart(state)
  else:
    return
  if pace is not None:
    pace.begin(state.step)
