"""Laws of the loop that hold for every collector."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toys

from dap import errors, files, losses, partitioning, train
from dap.algorithms import (
  algorithm,
  pairings,
  refresh,
  samplers,
  sources,
)
from dap.algorithms.objectives import Loss
from dap.annotators import host
from dap.annotators import models as annotators
from dap.data import arrays
from dap.training import loop, programs, rollouts, running, steps, stream
from dap.training.journals import RunJournal
from dap.training.metrics import MetricsLog

START = toys.START
PARAMS = train.Params(START, START, toys.WORTH)
PAIRS = tiny.pairs()
ONLINE = dataclasses.replace(
  tiny.ONLINE, annotator=annotators.PreferenceAnnotator(toys.JUDGE)
)
LAGGED = dataclasses.replace(ONLINE, behaviour=refresh.Lagged(1))
RULED = dataclasses.replace(
  ONLINE, annotator=None, host_annotator=host.Rule(host.shorter)
)


def decode(tokens):
  return ' '.join(str(token) for token in tokens if token > 1)


class Killed(Exception):
  pass


class Doom:
  """Kills before the call whose number it is given."""

  def __init__(self, at=None):
    self.at, self.calls = at, 0

  def __call__(self, function):
    @functools.wraps(function)
    def called(*arguments, **named):
      if self.calls == self.at:
        raise Killed
      self.calls += 1
      return function(*arguments, **named)

    return called


class DoomedFiles:
  """A journal, each of whose calls may be the last."""

  def __init__(self, files, doom):
    for name in (
      'restore',
      'record',
      'write',
      'save',
      'save_restart',
      'close',
    ):
      setattr(self, name, doom(getattr(files, name)))


@functools.cache
def made_for(run, collect):
  """Programs keep nothing between runs, so that all of a kind share them."""
  mesh = partitioning.mesh((1, 1))
  return programs.of(run, PAIRS, PARAMS, mesh, collect)


def run_of(which, model=toys.POLICY, **changes):
  settings = {'num_steps': 3, 'log_every': 1, **changes}
  return tiny.run(which, model, **settings)


def fit(which, folder, collect=running.IN_STEP, doom=None, model=toys.POLICY):
  run = run_of(which, model, save_steps=(1,))
  if which.host_annotator is not None:
    collect = running.AskHost(folder, decode)
  made = made_for(run, collect)
  journal = RunJournal(
    run,
    folder,
    MetricsLog(folder),
    record_stream=which.sampler is not None,
  )
  if doom is not None:
    made = made._replace(
      start=doom(made.start),
      refresh=doom(made.refresh),
      collect=doom(made.collect),
      update=doom(made.update),
    )
    journal = DoomedFiles(journal, doom)
  return loop.loop(run, made, journal, 'train').learner


def left_behind(learner, folder):
  """The bytes of all that a training leaves."""
  names = ('metrics.jsonl', 'stream/records.bin', 'answers.jsonl')
  found = {n: (folder / n).read_bytes() for n in names if (folder / n).exists()}
  return found | {
    jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
    for path, leaf in jax.tree_util.tree_leaves_with_path(learner)
  }


KINDS = {
  'read': (tiny.OFFLINE, running.IN_STEP),
  'fused': (
    dataclasses.replace(
      ONLINE, behaviour=refresh.Every(2), reference=refresh.Ema(0.5)
    ),
    running.IN_STEP,
  ),
  'ahead': (LAGGED, running.Ahead()),
  'split': (LAGGED, running.Split()),
  'host': (RULED, running.IN_STEP),
}


# Slots of their own, all of them fused: minibatches and a critic, groups, roles
# that follow, several examples of a prompt, the data's responses.
NAMES = ['ppo', 'rloo', 'iterative_dpo', 'rso', 'rrhf']


@pytest.mark.parametrize('kind', [*KINDS, *NAMES])
def test_a_kill_between_any_two_calls_changes_no_byte(tmp_path, kind):
  model = toys.POLICY
  if kind in KINDS:
    which, collect = KINDS[kind]
  else:
    run, collect = toys.of_experiment(kind, every=2), running.IN_STEP
    which, model = run.algorithm, run.model
  counted = Doom()
  learner = fit(which, tmp_path / 'whole', collect, counted, model)
  whole = left_behind(learner, tmp_path / 'whole')
  assert counted.calls > 15
  for at in range(counted.calls):
    folder = tmp_path / str(at)
    with pytest.raises(Killed):
      fit(which, folder, collect, Doom(at), model)
    learner = fit(which, folder, collect, None, model)
    assert left_behind(learner, folder) == whole, f'killed before call {at}'


def same(first, second):
  return left_behind(*first) == left_behind(*second)


def test_rollouts_ahead_are_a_lag_of_one(tmp_path):
  lagged = fit(LAGGED, tmp_path / 'lagged')
  ahead = fit(LAGGED, tmp_path / 'ahead', running.Ahead())
  assert same((lagged, tmp_path / 'lagged'), (ahead, tmp_path / 'ahead'))
  on_policy = fit(ONLINE, tmp_path / 'now')
  assert not same((lagged, tmp_path / 'lagged'), (on_policy, tmp_path / 'now'))
  rows = stream.read_rows(tmp_path / 'ahead' / 'stream')
  np.testing.assert_array_equal(
    rows['policy_step'], np.maximum(rows['step'] - 1, 0)
  )


def test_a_rollout_in_two_programs_is_that_of_one(tmp_path):
  one = fit(ONLINE, tmp_path / 'one')
  two = fit(ONLINE, tmp_path / 'two', running.Split())
  assert same((one, tmp_path / 'one'), (two, tmp_path / 'two'))


def test_rollouts_ahead_need_a_lag_of_one(tmp_path):
  with pytest.raises(errors.InputError, match='gin/refresh/lagged.gin'):
    fit(ONLINE, tmp_path, running.Ahead())


def test_a_run_ahead_goes_on_ahead(tmp_path):
  with pytest.raises(Killed):
    fit(LAGGED, tmp_path, running.Ahead(), Doom(14))
  with pytest.raises(errors.InputError, match='Go on with gin/rollouts/ahead'):
    fit(LAGGED, tmp_path)


def test_the_stream_says_whose_policy_sampled(tmp_path):
  stale = dataclasses.replace(ONLINE, behaviour=refresh.Every(2))
  fit(stale, tmp_path)
  rows = stream.read_rows(tmp_path / 'stream')
  assert {*zip(rows['step'].tolist(), rows['policy_step'].tolist())} == {
    (0, 0), (1, 0), (2, 2),
  }  # fmt: skip


class Counting:
  """A rule that counts what it is asked."""

  def __init__(self):
    self.asked = 0

  def ask(self, prompts, responses):
    self.asked += len(prompts)
    return host.Rule(host.shorter).ask(prompts, responses)


def test_nobody_is_asked_twice(tmp_path):
  rule = Counting()
  prompts, groups = ['a', 'b', 'a'], [['x y', 'x'], ['z', 'z z'], ['x y', 'x']]
  for _ in range(2):
    answers = host.Answers(rule, tmp_path / 'answers.jsonl', 'rule')
    scores = answers.ask(prompts, groups)
    np.testing.assert_array_equal(scores, [[-2, -1], [-1, -2], [-2, -1]])
  assert rule.asked == 2
  other = host.Answers(rule, tmp_path / 'answers.jsonl', 'another rule')
  other.ask(prompts, groups)
  assert rule.asked == 4


def test_an_annotator_on_the_host_chooses(tmp_path):
  fit(RULED, tmp_path)
  rows = stream.read_rows(tmp_path / 'stream')
  words = lambda side: np.sum(rows[side] > 1, axis=1)
  assert np.all(words('chosen') <= words('rejected'))
  assert np.any(words('chosen') < words('rejected'))


def test_an_annotator_on_the_host_needs_texts(tmp_path):
  run = run_of(RULED, num_steps=1)
  with pytest.raises(errors.InputError, match='decode=vocabulary.decode'):
    train.fit(run, PAIRS, PARAMS, tmp_path)


def test_keys_are_of_the_slots_number_and_the_row():
  root = jax.random.key(0)
  expected = jax.random.fold_in(jax.random.fold_in(root, 7), 1)
  found = steps.slot_key(root, 7, 'pairing')
  assert jnp.all(jax.random.key_data(found) == jax.random.key_data(expected))
  rows = steps.row_keys(found, 4)
  third = jax.random.key_data(jax.random.fold_in(found, 2))
  assert jnp.all(jax.random.key_data(rows[2]) == third)


def test_a_new_slot_moves_no_key(tmp_path, monkeypatch):
  before = fit(ONLINE, tmp_path / 'before')
  # As if a slot had been added: programs are compiled anew under another root.
  monkeypatch.setattr(steps, 'SLOTS', {'judge': 9, **steps.SLOTS})
  rollouts.compile_one.cache_clear()
  made_for.cache_clear()
  after = fit(ONLINE, tmp_path / 'after')
  assert same((before, tmp_path / 'before'), (after, tmp_path / 'after'))


def test_four_samples_of_a_prompt_replay_bit_for_bit(tmp_path):
  four = dataclasses.replace(
    ONLINE,
    sampler=samplers.FromPolicy(tiny.LENGTH, num_samples=4),
    annotator=annotators.RewardAnnotator(toys.JUDGE),
    pairing=pairings.BestWorst(),
  )
  learner = fit(four, tmp_path / 'on')
  recorded = stream.read(tmp_path / 'on' / 'stream')
  assert recorded.rows['responses'].shape[1] == 2
  assert recorded.rows['candidates'].max() == 3
  offline = dataclasses.replace(
    tiny.OFFLINE, source=sources.FromDataset(arrays.in_order)
  )
  run = run_of(offline)
  again = train.fit(run, recorded, PARAMS, tmp_path / 'off')
  for first, second in zip(
    jax.tree.leaves(learner), jax.tree.leaves(again), strict=True
  ):
    np.testing.assert_array_equal(first, second)


def test_a_loss_that_reads_no_reference_runs_without_one(tmp_path):
  best = algorithm.Algorithm(Loss(losses.best_of_two_loss))
  run = run_of(best, num_steps=2)
  train.fit(run, PAIRS, train.Params(START), tmp_path)
  first, second = files.read_json_lines(tmp_path / 'metrics.jsonl')
  assert 'margin' not in first and second['loss'] < first['loss']
