"""Layer 7. A few real steps of a training's programs, to tell its time by."""

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from dap import costs, files, partitioning
from dap.algorithms.run import Run
from dap.data.pairs import Pairs
from dap.stages import pool
from dap.stages.artefacts import Stage
from dap.training import programs

_REPETITIONS = 5
_LONGEST = 1.0  # seconds of steps after which no more are made


class Timed(NamedTuple):
  """What a step takes here: seconds, and bytes of the update on each device."""

  seconds: float
  memory: int | None


@dataclasses.dataclass(frozen=True)
class Timing:
  """Programs to time.

  Attributes:
    run: whose update, and rollout where it samples, are called.
    prompt_length: tokens.
    response_length: tokens.
    mesh: devices along (data, model).
  """

  run: Run
  prompt_length: int
  response_length: int
  mesh: tuple[int, int] = (1, 1)


def measure(
  timings: Mapping[str, Timing], num_workers: int, devices_each: int = 1
) -> dict[str, Timed]:
  """Times programs by name, as a study's own workers would run them.

  As many at once as there are workers, each on its core, in a folder that is
  gone afterwards.
  """
  made = [
    Stage(f'time_{name}', time_steps, timing)
    for name, timing in timings.items()
  ]
  with tempfile.TemporaryDirectory() as root:
    folders = pool.run_stages(
      made, root=root, num_workers=num_workers, devices_each=devices_each
    )
    found = [files.read_json(folder / 'timed.json') for folder in folders]
  return {name: Timed(**each) for name, each in zip(timings, found)}


def time_steps(config: Timing, inputs: Mapping[str, Path], work: Path) -> None:
  """Makes some steps on random tokens and writes what they took.

  Samples are of the initial policy, which seldom ends before the last token.
  """
  del inputs
  run, mesh = config.run, partitioning.mesh(config.mesh)
  initial = run.model.shared.init(jax.random.key(0))
  annotator = run.algorithm.annotator
  judge = annotator and annotator.model.init(jax.random.key(1))
  params = programs.Params(initial, initial, judge)
  made = programs.of(run, _pairs(config), params, mesh)
  box = [made.start()]

  def step():
    state, collected = made.collect(made.refresh(box[0]))
    for batch in made.passes(0, collected.batch):
      scalars = made.scalars(0)
      learner, metrics = made.update(state.learner, batch, scalars)
      state = state._replace(learner=learner)
    box[0] = state
    return metrics

  compiled = costs.compiled_update(
    run, mesh, config.prompt_length, config.response_length
  )
  timed = Timed(_median(step), costs.memory(compiled))
  files.write_json(work / 'timed.json', timed._asdict())


def _median(call: Callable[[], object]) -> float:
  """Seconds of a call, after one that does not count."""
  jax.block_until_ready(call())
  taken: list[float] = []
  clock = _clock()
  while len(taken) < _REPETITIONS and sum(taken) < _LONGEST:
    start = clock()
    jax.block_until_ready(call())
    taken.append(clock() - start)
  return statistics.median(taken)


def _clock() -> Callable[[], float]:
  """CPU time where one thread does it all: other processes change it little."""
  alone = os.environ.get('NPROC') == '1' and jax.default_backend() == 'cpu'
  return time.process_time if alone else time.perf_counter


def _pairs(config: Timing) -> Pairs:
  """A batch of texts of the greatest length, of random tokens."""
  rng = np.random.default_rng(0)
  rows, vocab = (
    config.run.batch_size,
    config.run.model.language_model.vocab_size,
  )

  def tokens(length):
    return rng.integers(3, vocab, (rows, length)).astype(np.int32)

  nats = -np.ones((rows, config.response_length), np.float32)
  return Pairs(
    prompt_ids=np.arange(rows),
    prompts=tokens(config.prompt_length),
    chosen=tokens(config.response_length),
    rejected=tokens(config.response_length),
    reference_chosen=nats,
    reference_rejected=nats,
  )
