"""Layer 8. `dap train`: one training from gin files, readable as it goes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree

from dap import (
  costs,
  disks,
  errors,
  files,
  kept,
  memory,
  partitioning,
  progress,
)
from dap.algorithms.run import Run
from dap.algorithms.sources import FromDataset
from dap.checkpoints import load
from dap.commands import continued
from dap.commands.readable import Readable
from dap.data import sources
from dap.data import vocabulary as vocabulary_lib
from dap.data.datasets import PairData
from dap.data.vocabulary import Vocabulary
from dap.evaluation import sample as sampling
from dap.losses.ranges import Count, Size
from dap.models import dropping, policy
from dap.training import facts, loop, metrics, programs, recorded, stream
from dap.training.collectors import Examples
from dap.training.journals import Hook
from dap.training.programs import Params
from dap.training.running import IN_STEP, Collect


def train(
  *,
  model_dir: str,
  run: Run,
  data: PairData,
  split: str = 'train',
  initial_checkpoint_path: str = '',
  reference_checkpoint_path: str = '',
  annotator_checkpoint_path: str | tuple[str, ...] = '',
  stream_path: str = '',
  record_stream: bool = False,
  mesh: tuple[Size, Size] = (1, 1),
  num_shown: Count = 4,
  collect: Collect = IN_STEP,
) -> None:
  """Trains, or goes on with a training that was stopped, or to more steps.

  Writes checkpoints, metrics.jsonl, TensorBoard events, readable samples at
  each checkpoint and, if asked, the recorded stream under `model_dir`.

  Args:
    model_dir: folder of this run.
    run: model, algorithm, optimizer and sizes.
    data: pairs to train on, or whose prompts are answered.
    split: of the data.
    initial_checkpoint_path: where parameters start; drawn anew when empty.
    reference_checkpoint_path: what anchors the loss; the start when empty.
    annotator_checkpoint_path: preference model that labels samples; of a model
      with members a path for each.
    stream_path: recorded stream to train on in place of the data.
    record_stream: keep every on-policy batch.
    mesh: devices along (data, model).
    num_shown: held-out prompts whose samples are written at each checkpoint.
    collect: how rollouts are run, which changes no number.
  """
  folder, devices = Path(model_dir), partitioning.mesh(mesh)
  programs.check_mesh(run, devices)
  starts = _Starts(
    initial_checkpoint_path,
    reference_checkpoint_path,
    annotator_checkpoint_path,
  )
  params = _params(run, devices, starts)
  data = data.following(load.prompts_end(starts.initial))
  cache = folder / 'cache'
  run, vocabulary = prepared(run, data, cache)
  pairs, arrays = _pairs(data, split, stream_path, vocabulary, cache)
  load.check_prompts(facts.prompts_end(pairs), starts.paths)
  for said in (_no_dropout(run), _no_repetition(run, pairs)):
    if said:
      progress.say(said)
  shown = _shown(run, data, vocabulary, cache, num_shown)
  described = continued.described(
    run,
    data=data,
    split=split,
    record_stream=record_stream,
    **starts.fingerprints(),
    stream=stream.fingerprint(stream_path),
    arrays=arrays,
  )
  with _kept(described, run, folder) as kept:
    loop.fit(
      run,
      pairs,
      params,
      folder,
      mesh=devices,
      digest=continued.name(described),
      record_stream=record_stream,
      on_checkpoint=shown and _sample_writer(run, shown, folder, devices, kept),
      log=metrics.MetricsLog(folder, metrics.tensorboard(folder)),
      label=folder.name,
      collect=collect,
      decode=vocabulary.decode,
    )
  progress.say(f'The checkpoints are in {folder / "checkpoints"}')


class _Starts(NamedTuple):
  """Paths of checkpoints that a training starts from; '' where none is."""

  initial: str
  reference: str
  annotator: str | tuple[str, ...]

  @property
  def paths(self) -> tuple[str, ...]:
    """All of them."""
    judges = self.annotator
    several = (judges,) if isinstance(judges, str) else judges
    return self.initial, self.reference, *several

  def fingerprints(self) -> dict[str, str]:
    """Of their content, as the description of a training has them."""
    return {
      f'{name}_checkpoint': load.fingerprint(path)
      for name, path in self._asdict().items()
    }


@contextlib.contextmanager
def _kept(
  described: continued.Description, run: Run, folder: Path
) -> Iterator[Readable]:
  """Keeps what is trained in its folder; seals all that people read of it."""
  kept = Readable(folder)
  if continued.keep(described, run, folder):
    kept.seal('configuration.json')
  yield kept
  kept.close()


def dry_run(
  *,
  model_dir: str,
  run: Run,
  data: PairData,
  mesh: tuple[int, int] = (1, 1),
  measure: bool = False,
  **others: object,
) -> None:
  """Prints parameters, time and memory; reads no data and trains nothing.

  Memory is counted from sizes; with `measure` the compiler says it.
  """
  del others
  devices = partitioning.mesh(mesh)
  programs.check_mesh(run, devices)
  if not hasattr(data.vocabulary, 'train'):  # one that is trained is not known
    vocabulary_lib.fits(data.vocabulary, run.model.language_model.vocab_size)
  lengths = data.prompt_length, data.response_length
  print(f'parameters: {costs.num_parameters(run.model):,}')
  if said := _no_dropout(run):
    print(said)
  print(_time_line(run, *lengths))
  print(f'would write to: {model_dir}', flush=True)
  line = _measured_memory_line if measure else _counted_memory_line
  print(line(run, devices, *lengths))


def _no_dropout(run: Run) -> str:
  """A sentence for a run whose model has a rate that does not act."""
  rate = dropping.rate_of(run.model)
  if run.drops or not rate:
    return ''
  return (
    f'Dropout ({rate:g}) does not act in this training: its loss compares with'
    ' what was said before (by a reference, a critic or the policy that'
    ' sampled), and values that are dropped on one side compare nothing.'
  )


def _time_line(run: Run, prompt_length: int, response_length: int) -> str:
  rate = costs.matmul_rate()
  expected = costs.seconds(run, prompt_length, response_length, rate)
  return (
    f'time: about {progress.duration(expected)} for {run.num_steps} steps, or'
    f' half or twice that (at half of the {rate / 1e9:.0f} GFLOP/s measured'
    ' here)'
  )


def _measured_memory_line(
  run: Run, mesh: Mesh, prompt: int, length: int
) -> str:
  needed = costs.memory(costs.compiled_update(run, mesh, prompt, length))
  size = 'not told' if needed is None else disks.readable_size(needed)
  return (
    f"memory of the update: {size} on each of {mesh.size} devices (XLA's"
    ' analysis)'
  )


def _counted_memory_line(run: Run, mesh: Mesh, prompt: int, length: int) -> str:
  shape = tuple(mesh.devices.shape)
  needed = memory.estimate(run, shape, prompt, length, kept.counted)
  update = disks.readable_size(needed.state + needed.update)
  return (
    f'memory of the update: about {update} on each of {mesh.size} devices,'
    f' {disks.readable_size(needed.total)} with all that is held beside it'
    ' (counted, may be half or twice that; --dry_run --measure compiles it and'
    ' prints what XLA says)'
  )


def prepared(run: Run, data: PairData, cache: Path) -> tuple[Run, Vocabulary]:
  """The run with its policy's vocabulary filled in, and the vocabulary.

  Raises:
    errors.InputError: the vocabulary does not fit the model.
  """
  vocabulary = data.trained_vocabulary(cache)
  vocabulary_lib.fits(vocabulary, run.model.language_model.vocab_size)
  run = policy.with_num_ids(run, vocabulary.size)
  return run, vocabulary


def _pairs(
  data: PairData,
  split: str,
  stream_path: str,
  vocabulary: Vocabulary,
  cache: Path,
) -> tuple[Examples, str]:
  """What is trained on, and a hash of the arrays that were made of texts."""
  if stream_path:
    return stream.read(Path(stream_path)), ''
  if split not in sources.SPLITS:
    raise errors.InputError(
      f'A split is one of {", ".join(sources.SPLITS)}, got {split!r}.'
    )
  found = data.prepare(split, vocabulary, cache)
  progress.say(found.report)
  return found.pairs(), found.content


def _no_repetition(run: Run, examples: Examples) -> str:
  source = run.algorithm.source
  if not isinstance(source, FromDataset):
    return ''
  return recorded.no_repetition(source.order, run.batch_size, examples)


def _shown(
  run: Run, data: PairData, vocabulary: Vocabulary, cache: Path, count: int
) -> sampling.Shown | None:
  """Held-out prompts to answer at each checkpoint; None where nothing is."""
  if count < 1 or 'log_probs' not in run.model.gives:  # it writes nothing
    return None
  return sampling.shown(data, vocabulary, cache, count)


def _params(run: Run, mesh: Mesh, starts: _Starts) -> Params:
  model, algorithm = run.model.shared, run.algorithm
  initial, reference, annotator = starts
  anchored = algorithm.needs_reference
  if anchored:
    load.require(initial, 'a policy to start from', 'INITIAL_CHECKPOINT_PATH')
  start = (
    load.start_params(model, initial, mesh, seed=run.seed)
    if initial
    else model.init(jax.random.key(run.seed))
  )
  anchor = None
  if anchored:
    anchor = load.load_params(model, reference, mesh) if reference else start
  judge = None
  if algorithm.sampler is not None and algorithm.annotator is not None:
    load.require(annotator, 'a preference model', 'ANNOTATOR_CHECKPOINT_PATH')
    judge = load.member_params(algorithm.annotator.model, annotator, mesh)
  return Params(start, anchor, judge)


def _sample_writer(
  run: Run, shown: sampling.Shown, folder: Path, mesh: Mesh, kept: Readable
) -> Hook:
  def write(step: int, params: PyTree) -> None:
    name = f'samples/step_{step}.txt'
    if not kept.has(name):  # a restart asks again for what stood before it
      text = sampling.text(run.model, params, shown, mesh)
      files.write_atomically(folder / name, text)
      kept.seal(name)

  return write
