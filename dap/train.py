"""Layer 4. The one loop: supervised, preference-model, offline and online.

    for step in range(state.step, num_steps):
      batch = collect(step, behaviour)      # read it, or roll the policy out
      state, metrics = update(state, batch, scalars(step))
      behaviour = refresh(state)

All that changes numbers is in a `Run`; a restart from a checkpoint repeats the
rest of the run bit for bit, its metrics and its recorded stream included.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dap import errors, optimizers, partitioning, progress, steps, stream
from dap.algorithms.algorithm import Algorithm
from dap.checkpoints import state as checkpoints
from dap.collectors import collector
from dap.data.pairs import Pairs
from dap.metrics import MetricsLog
from dap.records import TrainState

# (finished updates, parameters) -> None, after each checkpoint
Hook = Callable[[int, PyTree], None]


@dataclasses.dataclass(frozen=True)
class Run:
  """All choices that change the numbers of a training.

  Attributes:
    model: a `Policy` or a preference model.
    algorithm: the tuple of slots.
    optimizer: without its learning rate.
    learning_rate: peak, traced.
    num_steps: updates.
    batch_size: pairs (or prompts) of an update, over all devices.
    schedule: multiplies the learning rate.
    seed: of the order of examples, of samples and of ties.
    num_microbatches: parts that a batch is split into to save memory.
    save_steps: steps with a checkpoint; the last step always has one.
    log_every: steps between lines of metrics.
  """

  model: Any
  algorithm: Algorithm
  optimizer: optimizers.Optimizer
  learning_rate: float
  num_steps: int
  batch_size: int
  schedule: optimizers.Schedule = optimizers.Constant()
  seed: int = 0
  num_microbatches: int = 1
  save_steps: tuple[int, ...] = ()
  log_every: int = 10

  def __post_init__(self):
    for name in ('num_steps', 'batch_size', 'num_microbatches', 'log_every'):
      if getattr(self, name) < 1:
        raise errors.InputError(
          f'A run needs {name} >= 1, got {getattr(self, name)}.'
        )
    if not self.learning_rate > 0:
      raise errors.InputError(
        f'A run needs learning_rate > 0, got {self.learning_rate}.'
      )
    if self.batch_size % self.num_microbatches:
      raise errors.InputError(
        f'batch_size {self.batch_size} must be divisible by num_microbatches'
        f' {self.num_microbatches}.'
      )
    if late := [s for s in self.save_steps if not 0 < s <= self.num_steps]:
      raise errors.InputError(
        f'save_steps must be in 1..{self.num_steps}, got {late}. Lower them,'
        ' or train for more steps.'
      )

  @property
  def objective(self) -> steps.Objective:
    """What an update minimises."""
    loss = self.algorithm.loss
    return loss.objective(self.model, loss.function)

  def scalars(self, step: int) -> dict[str, np.float32]:
    """The traced numbers of an update."""
    rate = self.learning_rate * self.schedule(step)
    numbers = {'learning_rate': rate, **dict(self.algorithm.loss.scalars)}
    return {name: np.float32(value) for name, value in numbers.items()}


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
  placed = steps.state_sharding(run.model, run.optimizer, mesh)
  params = _place(params, placed, run, mesh)
  collect = collector(run, pairs, params.reference, params.annotator, mesh)
  update = steps.update_program(
    run.objective, run.optimizer, mesh, run.num_microbatches
  )
  loop = _restore_or_start(run, params, placed, model_dir, digest)
  metrics = log or MetricsLog(model_dir)
  metrics.truncate(loop.step)
  recorder = None
  if record_stream and run.algorithm.samples:
    recorder = _recorder(run, pairs, model_dir)
    recorder.truncate(loop.step)
  state, behaviour = loop.state, loop.behaviour
  if loop.step and on_checkpoint is not None:
    on_checkpoint(loop.step, state.params)  # a kill may have come before it
  with progress.track(label, run.num_steps, start=loop.step) as tick:
    for step in range(loop.step, run.num_steps):
      if run.algorithm.refresh(step):
        behaviour = _behaviour(run, state)
      batch, rollout = collect(
        step, state.params if behaviour is None else behaviour
      )
      if recorder is not None:
        recorder.append(step, step, run.seed, *jax.device_get((batch, rollout)))
      scalars = run.scalars(step)
      state, values = update(state, batch, scalars)
      done = step + 1
      if done % run.log_every == 0 or done == run.num_steps:
        metrics.write(done, {**jax.device_get(values), **scalars})
      if done in run.save_steps or done == run.num_steps:
        if recorder is not None:
          recorder.flush()
        _save(model_dir, state, behaviour, digest)
        if on_checkpoint is not None:
          on_checkpoint(done, state.params)
      tick(done)
  if recorder is not None:
    recorder.close()
  return state


class _Loop(NamedTuple):
  step: int
  state: TrainState
  behaviour: PyTree


def _place(
  params: Params, placed: TrainState, run: Run, mesh: jax.sharding.Mesh
) -> Params:
  """Puts all parameters on the mesh once."""
  annotator = None
  if run.algorithm.samples:
    annotator = jax.device_put(
      params.annotator, run.algorithm.annotator.sharding(mesh)
    )
  reference = params.reference
  if reference is not None:
    reference = jax.device_put(reference, placed.params)
  return Params(params.initial, reference, annotator)


def _behaviour(run: Run, state: TrainState) -> PyTree:
  """A copy to sample from; None says: the policy itself, no copy."""
  if not run.algorithm.samples or run.algorithm.refresh(1):
    return None
  return jax.tree.map(jnp.copy, state.params)


def _restore_or_start(
  run: Run,
  params: Params,
  placed: TrainState,
  model_dir: pathlib.Path,
  digest: str,
) -> _Loop:
  root = model_dir / 'checkpoints'
  step = checkpoints.newest(root)
  if step is None:
    # A copy: the update donates its state, and the caller keeps its arrays.
    initial = jax.tree.map(lambda leaf: jnp.array(leaf), params.initial)
    state = steps.new_state(initial, run.optimizer)
    return _Loop(0, jax.device_put(state, placed), None)
  folder = root / f'checkpoint_{step}'
  written = checkpoints.metadata(folder)['digest']
  if written != digest:
    raise errors.InputError(
      f'{model_dir} holds the run of another configuration (digest {written},'
      f' this one {digest}). Give another MODEL_DIR, or remove that folder.'
    )
  shapes = jax.eval_shape(
    lambda key: steps.new_state(run.model.init(key), run.optimizer),
    jax.random.key(0),
  )
  template = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
    placed,
  )
  restored = checkpoints.restore_params(folder, template.params)
  rest = {'optimizer': template.optimizer, 'step': template.step}
  if any(n.startswith('behaviour') for n in _rest_names(folder)):
    rest['behaviour'] = template.params
  tree = checkpoints.restore_rest(folder, rest)
  state = TrainState(tree['step'], restored, tree['optimizer'])
  return _Loop(step, state, tree.get('behaviour'))


def _rest_names(folder: pathlib.Path) -> list[str]:
  return list(checkpoints.metadata(folder)['rest'])


def _save(
  model_dir: pathlib.Path, state: TrainState, behaviour: PyTree, digest: str
) -> None:
  rest = {'optimizer': state.optimizer, 'step': state.step}
  if behaviour is not None:
    rest['behaviour'] = behaviour
  checkpoints.save(
    model_dir / 'checkpoints', int(state.step), state.params, rest, digest
  )


def _recorder(run: Run, pairs: Pairs, model_dir: pathlib.Path) -> stream.Writer:
  dtype = stream.layout(pairs.prompts.shape[1], run.algorithm.sampler.length)
  return stream.Writer(model_dir / 'stream', run.batch_size, dtype)
