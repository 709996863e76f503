"""Layer 5. The one loop: supervised, preference-model, offline and online.

    for step in range(state.step, num_steps):
      batch = collect(step, behaviour)      # read it, or roll the policy out
      state, metrics = update(state, batch, scalars(step))
      behaviour = refresh(state)

All that changes numbers is in a `Run`; a restart from a checkpoint repeats the
rest of the run bit for bit, its metrics and its recorded stream included.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dap import errors, partitioning, progress
from dap.algorithms.run import Run
from dap.data.pairs import Pairs
from dap.records import TrainState
from dap.training import collectors, steps, stream
from dap.training.journals import Hook, Journal, Restart, RunJournal
from dap.training.metrics import MetricsLog


class Params(NamedTuple):
  """Parameters that a run starts from or looks at.

  `reference` anchors the loss; `annotator` labels samples. Either may be None
  where the algorithm has no use for it.
  """

  initial: PyTree
  reference: PyTree = None
  annotator: PyTree = None


def check_mesh(run: Run, mesh: partitioning.AnyMesh) -> None:
  """Refuses a batch that the mesh cannot split evenly.

  Raises:
    errors.InputError: says what does not fit and what to change.
  """
  data = mesh.shape['data']
  part = run.batch_size // run.num_microbatches
  if part % data:
    raise errors.InputError(
      f'A batch of {run.batch_size} in {run.num_microbatches} microbatches'
      f' needs to be divisible by the {data} devices of the data axis, got'
      f' {part} rows. Change BATCH_SIZE or the mesh.'
    )


def check(run: Run, pairs: Pairs, mesh: jax.sharding.Mesh) -> None:
  """Refuses a run that cannot work, before any work.

  Raises:
    errors.InputError: says what does not fit and what to change.
  """
  check_mesh(run, mesh)
  if len(pairs) < run.batch_size:
    raise errors.InputError(
      f'A batch of {run.batch_size} needs as many examples, the data set has'
      f' {len(pairs)}. Lower BATCH_SIZE or give more data.'
    )


def fit(
  run: Run,
  pairs: Pairs,
  params: Params,
  model_dir: pathlib.Path,
  *,
  mesh: jax.sharding.Mesh | None = None,
  digest: str = '',
  record_stream: bool = False,
  on_checkpoint: Hook | None = None,
  log: MetricsLog | None = None,
  label: str = 'train',
) -> TrainState:
  """Trains, or goes on with a training that was cut off.

  Writes `checkpoints/`, `metrics.jsonl` and, if asked, `stream/` under
  `model_dir`. What stands there beyond the newest checkpoint is trained again.

  Args:
    run: the choices.
    pairs: examples, or the prompts that responses are sampled for.
    params: where to start, what anchors, what annotates.
    model_dir: of this run alone.
    mesh: of devices; the first device when None.
    digest: names the configuration; a checkpoint of another is refused.
    record_stream: keep every on-policy batch.
    on_checkpoint: called with (step, parameters) after each checkpoint, and
      again for the one that a restart goes on from.
    log: where metrics go beside `metrics.jsonl`.
    label: of the progress bar.

  Returns:
    The state after the last step.

  Raises:
    errors.InputError: see `check`; a checkpoint of another configuration; a
      disk that cannot be written; a loss that is no number.
  """
  mesh = partitioning.mesh((1, 1)) if mesh is None else mesh
  check(run, pairs, mesh)
  programs = _programs(run, pairs, params, mesh)
  files = journal(
    run,
    pairs,
    model_dir,
    digest=digest,
    record_stream=record_stream,
    on_checkpoint=on_checkpoint,
    log=log,
  )
  return loop(run, programs, files, label)


class Programs(NamedTuple):
  """What the loop calls; the state may be one run's or a stack of several.

  `start` makes the state before the first update, placed as `template`, its
  shapes and shardings, says. `collect` takes (step, behaviour policy) and gives
  the batch and what a rollout remembers, `update` the next state and metrics,
  `scalars` the traced numbers of a step.
  """

  start: Callable[[], TrainState]
  template: TrainState
  collect: collectors.Collector
  update: steps.Update
  scalars: Callable[[int], steps.Scalars]


def loop(
  run: Run, programs: Programs, files: Journal, label: str
) -> TrainState:
  """All updates that are not done yet; `run` is what all runs share."""
  begun = files.restore(programs.template)
  begun = Restart(0, programs.start()) if begun is None else begun
  _, state, behaviour = begun
  with progress.track(label, run.num_steps, start=begun.step) as tick:
    for step in range(begun.step, run.num_steps):
      if run.algorithm.refresh(step):
        behaviour = _behaviour(run, state)
      batch, rollout = programs.collect(
        step, state.params if behaviour is None else behaviour
      )
      files.record(step, batch, rollout)
      scalars = programs.scalars(step)
      state, values = programs.update(state, batch, scalars)
      done = step + 1
      if done % run.log_every == 0 or done == run.num_steps:
        files.write(done, {**jax.device_get(values), **scalars})
      if done in run.save_steps or done == run.num_steps:
        files.save(done, state, behaviour)
      tick(done)
  files.close()
  return state


def journal(
  run: Run,
  pairs: Pairs,
  model_dir: pathlib.Path,
  *,
  digest: str,
  record_stream: bool,
  on_checkpoint: Hook | None = None,
  log: MetricsLog | None = None,
) -> RunJournal:
  """The files of a run; the arguments as of `fit`."""

  def recorder() -> stream.Writer:
    length = run.algorithm.sampler.length
    dtype = stream.layout(pairs.prompts.shape[1], length)
    return stream.Writer(model_dir / 'stream', run.batch_size, dtype)

  return RunJournal(
    model_dir,
    log or MetricsLog(model_dir),
    recorder if record_stream and run.algorithm.samples else None,
    run.seed,
    digest,
    on_checkpoint,
  )


def _programs(
  run: Run, pairs: Pairs, params: Params, mesh: jax.sharding.Mesh
) -> Programs:
  placed = steps.state_sharding(run.model, run.optimizer, mesh)
  params = place(params, placed, run, mesh)

  def start() -> TrainState:
    # A copy: the update donates its state, and the caller keeps its arrays.
    initial = jax.tree.map(lambda leaf: jnp.array(leaf), params.initial)
    return jax.device_put(steps.new_state(initial, run.optimizer), placed)

  return Programs(
    start,
    template(run, placed),
    collectors.collector(run, pairs, params.reference, params.annotator, mesh),
    steps.update_program(
      run.objective, run.optimizer, mesh, run.num_microbatches
    ),
    run.scalars,
  )


def place(
  params: Params, placed: TrainState, run: Run, mesh: jax.sharding.Mesh
) -> Params:
  """Puts reference and annotator on the mesh once."""
  annotator = None
  if run.algorithm.samples:
    annotator = jax.device_put(
      params.annotator, run.algorithm.annotator.sharding(mesh)
    )
  reference = params.reference
  if reference is not None:
    reference = jax.device_put(reference, placed.params)
  return Params(params.initial, reference, annotator)


def template(run: Run, placed: TrainState) -> TrainState:
  """Shapes and dtypes of a run's state, with these shardings."""
  shapes = jax.eval_shape(
    lambda key: steps.new_state(run.model.init(key), run.optimizer),
    jax.random.key(0),
  )
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
    placed,
  )


def _behaviour(run: Run, state: TrainState) -> PyTree:
  """A copy to sample from; None says: the policy itself, no copy."""
  if not run.algorithm.samples or run.algorithm.refresh(1):
    return None
  return jax.tree.map(jnp.copy, state.params)
