"""Laws that every algorithm keeps, asked of the tiny model.

A test of an algorithm reads its experiment (`run_of`), so that its gin part is
what is tested.
"""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import tiny

from dap import partitioning, train
from dap.algorithms import refresh, samplers, sources
from dap.annotators import models
from dap.checkpoints import load, points
from dap.commands import COMMANDS
from dap.commands import run as commands
from dap.data import arrays
from dap.training import (
  journals,
  loop,
  metrics,
  programs,
  rollouts,
  steps,
  stream,
)

PAIRS = tiny.pairs()
POLICY = tiny.POLICY.init(jax.random.key(1))
PARAMS = train.Params(POLICY, POLICY, tiny.JUDGE.init(jax.random.key(2)))
REQUIRED = ('MODEL_DIR', 'INITIAL_CHECKPOINT_PATH', 'ANNOTATOR_CHECKPOINT_PATH')


class Killed(Exception):
  """The process is gone."""


def run_of(config, *, run=(), **macros):
  """configs/embedded/CONFIG.gin as a run of 8 steps of 8 prompts, all tiny.

  Args:
    config: name of the file.
    run: other fields of the run.
    macros: of the file.
  """
  text = pathlib.Path(f'configs/embedded/{config}.gin').read_text()
  asked = 3 if 'annotators/proxy.gin' in text else 2
  macros = {**dict.fromkeys(REQUIRED[:asked], 'nowhere'), **macros}
  given = commands.configure(
    COMMANDS['train'],
    [f'configs/embedded/{config}.gin'],
    [(name, repr(value)) for name, value in macros.items()],
    COMMANDS,
  )['run']
  changes: dict[str, Any] = {}
  if given.algorithm.sampler is not None:
    changes['sampler'] = _tiny(given.algorithm.sampler)
  if given.algorithm.annotator is not None:
    changes['annotator'] = models.RewardAnnotator(tiny.JUDGE)
  algorithm = dataclasses.replace(given.algorithm, **changes)
  settings = {
    'num_steps': 8, 'save_steps': (4,), 'log_every': 1, 'batch_size': 8,
    'learning_rate': 1e-3, 'optimizer': tiny.ADAM,
  }  # fmt: skip
  return dataclasses.replace(
    given,
    algorithm=algorithm,
    model=given.model.with_shared(tiny.POLICY),
    **{**settings, **dict(run)},
  )


def _tiny(sampler):
  """The same, of short responses."""
  if isinstance(sampler, samplers.BesideData):
    return dataclasses.replace(sampler, sampler=_tiny(sampler.sampler))
  return dataclasses.replace(sampler, length=tiny.LENGTH)


def numbers_of(run, learning_rate, **changes):
  """The run with other numbers of its loss."""
  loss = run.algorithm.loss.with_numbers(changes)
  algorithm = dataclasses.replace(run.algorithm, loss=loss)
  return dataclasses.replace(
    run, algorithm=algorithm, learning_rate=learning_rate
  )


def fit(run, folder, kill_after=None, examples=PAIRS):
  """What `train.fit` does; dies before the update of that number."""
  params = PARAMS
  if run.algorithm.annotator is None:
    params = params._replace(annotator=None)
  made = programs.of(run, examples, params, partitioning.mesh((1, 1)))
  files = journals.RunJournal(
    run,
    folder,
    metrics.MetricsLog(folder),
    record_stream=run.algorithm.sampler is not None,
  )
  done = 0

  def update(*arguments):
    nonlocal done
    if done == kill_after:
      raise Killed
    done += 1
    return made.update(*arguments)

  try:
    return loop.loop(run, made._replace(update=update), files, 'test').learner
  except Killed:
    files.close()  # all that it wrote reaches the disk


class Done(NamedTuple):
  """A run that was recorded, for all tests of a file."""

  run: Any
  folder: pathlib.Path
  learner: Any


def done(run, folder):
  """Trains it."""
  return Done(run, folder, fit(run, folder))


def contents(folder):
  """What a run left, to the byte: metrics, stream, parameters."""
  files = [folder / 'metrics.jsonl', *sorted((folder / 'stream').glob('*'))]
  found = {path.name: path.read_bytes() for path in files}
  for step in points.steps(folder / 'checkpoints'):
    path = folder / 'checkpoints' / f'checkpoint_{step}'
    params = load.load_params(tiny.POLICY, path, partitioning.mesh((1, 1)))
    found[str(step)] = [x.tobytes() for x in jax.tree.leaves(params)]
  return found


def rows(done):
  """What it recorded."""
  return stream.read_rows(done.folder / 'stream')


def lines(done):
  """Its metrics, a line for each step."""
  text = (done.folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def same(one, other):
  """Whether two trees have equal leaves."""
  leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  return all(np.array_equal(a, b) for a, b in leaves)


def repeats(done, folder):
  """Trained again, it leaves the same bytes."""
  assert same(done.learner, fit(done.run, folder))
  assert contents(folder) == contents(done.folder)


def survives_kills(done, folder, kills):
  """So it does after a kill before the update of each of these numbers.

  They count from the checkpoint that the killed training went on from.
  """
  for kill in kills:
    assert fit(done.run, folder, kill) is None
  assert same(done.learner, fit(done.run, folder))
  assert contents(folder) == contents(done.folder)


def one_program_serves(runs, folder):
  """One compilation of update and rollout, for runs that differ in numbers.

  The first compiles at most once (another test may have made its program), the
  others never. A run that samples nothing has no rollout.
  """
  programs = _programs(runs[0])
  made = lambda: [program._cache_size() for program in programs]
  before, after = made(), None
  for index, run in enumerate(runs):
    fit(run, folder / str(index))
    assert _programs(run) == programs
    after = after or made()
    assert made() == after
  assert all(0 <= b - a <= 1 for a, b in zip(before, after, strict=True))
  assert all(after)


def _programs(run):
  """Update and, of a run that samples, rollout."""
  mesh = partitioning.mesh((1, 1))
  update = steps.update_program(run.objective, run.optimizer, mesh, 1)
  if run.algorithm.sampler is None:
    return [update]
  given = ['policy', 'behaviour', 'reference', 'annotator']
  if run.algorithm.behaviour == refresh.Current():
    given.remove('behaviour')
  if not run.algorithm.needs_reference:
    given.remove('reference')
  if run.algorithm.annotator is None:
    given.remove('annotator')
  if run.algorithm.control is not None:
    given.append('control')
  rollout = rollouts.compile_one(
    rollouts.rollout,
    rollouts.shape_of(run.model, run.algorithm),
    tuple(given),
    ('rows', 'shared', 'shared'),
    mesh,
  )
  return [update, rollout]


def replay_repeats(done, folder):
  """Training on the recorded stream, in order, repeats the run to the bit."""
  recorded = stream.read(done.folder / 'stream')
  offline = dataclasses.replace(
    done.run.algorithm,
    source=sources.FromDataset(arrays.in_order),
    sampler=None,
    annotator=None,
    behaviour=refresh.Current(),
    reference=refresh.Never(),
  )
  # An update of the run read all examples of a step: several of a prompt.
  size = len(recorded) // done.run.num_steps
  replay = dataclasses.replace(done.run, algorithm=offline, batch_size=size)
  assert same(done.learner, fit(replay, folder, examples=recorded))
  on, off = (x / 'metrics.jsonl' for x in (done.folder, folder))
  if done.run.algorithm.control is None:
    assert on.read_bytes() == off.read_bytes()
    return
  # A stream has what the numbers of a control made, and not the numbers.
  controlled = done.run.algorithm.control.start()
  told = [json.loads(line) for line in on.read_text().splitlines()]
  told = [{k: v for k, v in x.items() if k not in controlled} for x in told]
  assert told == [json.loads(line) for line in off.read_text().splitlines()]


def data_stand_first(done):
  """Responses of the data are the first candidates, and are not counted."""
  sampler, found = done.run.algorithm.sampler, rows(done)
  of_data = found['candidates'] < sampler.num_data
  np.testing.assert_array_equal(np.sum(of_data, axis=1), sampler.num_data)
  for side, tokens in zip(
    sampler.sides, (PAIRS.chosen, PAIRS.rejected), strict=False
  ):
    given = found['responses'][found['candidates'] == side]
    np.testing.assert_array_equal(given, tokens[found['prompt_id']])
  prompts = done.run.num_steps * done.run.batch_size
  each = (sampler.num_samples - sampler.num_data) * tiny.LENGTH
  assert 0 < np.sum(found['sampled_tokens']) <= prompts * each
