"""What a training that is cut off goes on from, and how much it can lose."""

import os
import pathlib
import shutil
import signal

import hypothesis
import hypothesis.strategies as st
import jax
import pytest
import tiny

from dap import errors, partitioning, seals, stopping, train
from dap.checkpoints import points
from dap.stages import provenance
from dap.training import loop, programs, stream
from dap.training.journals import RunJournal
from dap.training.metrics import MetricsLog
from dap.training.pace import Bounds, Pace

START = tiny.POLICY.init(jax.random.key(1))
PARAMS = train.Params(START, START, tiny.JUDGE.init(jax.random.key(2)))
PAIRS = tiny.pairs()
RUN = tiny.run(tiny.ONLINE, num_steps=6, save_steps=(3,), log_every=1)
MADE = programs.of(RUN, PAIRS, PARAMS, partitioning.mesh((1, 1)))
ALWAYS = Bounds(0.0, 0.0, 0.0)  # a restart point after every step


class Killed(Exception):
  pass


def fit(folder, *, run=RUN, bounds=None, update=None):
  """Trains; `update` is called with the number of each of its updates."""
  files = RunJournal(run, folder, MetricsLog(folder), record_stream=True)
  done = 0

  def counted(*arguments):
    nonlocal done
    learner = MADE.update(*arguments)
    done += 1
    if update is not None:
      update(done)
    return learner

  pace = None if bounds is None else Pace(bounds)
  made = MADE._replace(update=counted)
  return loop.loop(run, made, files, 'train', pace)


def killed_at(number):
  def update(done):
    if done == number:
      raise Killed

  return update


def left(folder):
  """Metrics, stream and names of checkpoints."""
  return (
    (folder / 'metrics.jsonl').read_bytes(),
    (folder / 'stream' / 'records.bin').read_bytes(),
    names(folder),
  )


def names(folder):
  return sorted(path.name for path in (folder / 'checkpoints').iterdir())


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run that nothing disturbed."""
  folder = tmp_path_factory.mktemp('whole')
  fit(folder)
  return folder


@pytest.fixture
def open_run(tmp_path):
  """A run that was killed in its sixth step, with points after 3, 4 and 5."""
  with pytest.raises(Killed):
    fit(tmp_path, bounds=ALWAYS, update=killed_at(6))
  return tmp_path


def test_restart_points_lie_there_while_a_run_is_open(open_run, whole):
  # After steps 4 and 5; those of 1 and 2 went with the checkpoint after 3.
  assert names(open_run) == ['checkpoint_3', 'restart_4', 'restart_5']
  root = open_run / 'checkpoints'
  assert points.steps(root) == [3]  # they are no points of a study
  assert points.restartable(root)[0].name == 'restart_5'
  fit(open_run)
  assert left(open_run) == left(whole)
  assert names(open_run) == ['checkpoint_3', 'checkpoint_6']


def test_a_signal_keeps_every_step(tmp_path, whole):
  def update(done):
    if done == 2:
      os.kill(os.getpid(), signal.SIGTERM)

  stopped = pytest.raises(stopping.Stopped, match='step 2 of 6 is kept')
  with stopped as how, stopping.signals_heard():
    fit(tmp_path, update=update)
  assert how.value.exit_code == errors.Exit.TERMINATED
  assert names(tmp_path) == ['restart_2']
  steps = []
  fit(tmp_path, update=steps.append)
  assert len(steps) == 4  # two of six were kept
  assert left(tmp_path) == left(whole)


def flip(path, part=0.5):
  data = bytearray(path.read_bytes())
  data[int(len(data) * part)] ^= 4
  path.write_bytes(data)


def largest(folder):
  paths = [path for path in folder.rglob('*') if path.is_file()]
  return max(paths, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
  'place', ['params', 'rest', 'metadata.json', 'missing']
)
def test_a_damaged_point_is_told_and_the_one_before_is_taken(
  open_run, whole, capsys, place
):
  newest = open_run / 'checkpoints' / 'restart_5'
  if place == 'missing':
    shutil.rmtree(newest / 'params')
  else:
    flip(newest / place if '.' in place else largest(newest / place))
  fit(open_run)
  said = capsys.readouterr().out
  assert 'restart_5 is damaged' in said and 'Going on from restart_4' in said
  assert left(open_run) == left(whole)


def test_what_a_finished_run_can_go_on_from_is_always_the_same(open_run):
  fit(open_run)
  for step in (3, 6):
    folder = open_run / 'checkpoints' / f'checkpoint_{step}'
    assert (folder / 'rest').is_dir()


def test_before_the_first_checkpoint_two_points_are_kept(tmp_path):
  with pytest.raises(Killed):
    fit(tmp_path, bounds=ALWAYS, update=killed_at(3))
  assert names(tmp_path) == ['restart_1', 'restart_2']


def test_without_a_whole_point_nothing_is_trained(open_run):
  for name in ('checkpoint_3', 'restart_4', 'restart_5'):
    flip(largest(open_run / 'checkpoints' / name / 'rest'))
  with pytest.raises(errors.InputError) as refused:
    fit(open_run)
  message = str(refused.value)
  assert 'restart_4' in message and 'restart_5' in message
  assert 'train from the start' in message


def test_a_restart_under_other_code_says_so(open_run, monkeypatch, capsys):
  fit(open_run, bounds=ALWAYS)
  assert 'written elsewhere' not in capsys.readouterr().out
  monkeypatch.setattr(provenance, 'libraries', lambda: {'optax': '0.0'})
  fit(open_run)
  assert 'optax ' in (said := capsys.readouterr().out)
  assert 'there, 0.0 here' in said and 'jax' in said


def test_points_that_were_taken_away_are_told(open_run, whole, capsys):
  for name in ('checkpoint_3/rest', 'restart_4', 'restart_5'):
    shutil.rmtree(open_run / 'checkpoints' / name)
  fit(open_run)
  assert 'begins at step 0' in capsys.readouterr().out
  assert left(open_run) == left(whole)


@pytest.mark.parametrize('keeps', [0.0, 0.5, 0.95])
def test_metrics_that_a_point_counts_on_are_there(open_run, keeps):
  path = open_run / 'metrics.jsonl'
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * keeps)])
  if keeps == 0.95:  # of step 5, which the point of step 4 does not count on
    fit(open_run)
    return
  with pytest.raises(errors.InputError, match='metrics.jsonl is not what'):
    fit(open_run)


def test_a_changed_digit_of_the_metrics_is_found(open_run):
  path = open_run / 'metrics.jsonl'
  flip(path, 0.1)
  with pytest.raises(errors.InputError, match='metrics.jsonl is not what'):
    fit(open_run)


@pytest.mark.parametrize('name', ['records.bin', 'stream.json'])
def test_a_stream_is_checked_before_it_is_continued(open_run, name):
  flip(open_run / 'stream' / name, 0.1)
  with pytest.raises(errors.InputError, match='stream'):
    fit(open_run)


def test_a_changed_layout_of_a_stream_is_not_read(whole, tmp_path):
  folder = shutil.copytree(whole / 'stream', tmp_path / 'stream')
  path = folder / 'stream.json'
  for old, new in (('"step"', '"stop"'), ('<i4', '<u4'), ('3', '4')):
    text = (whole / 'stream' / 'stream.json').read_text()
    path.write_text(text.replace(old, new))
    with pytest.raises(seals.Broken, match='stream.json'):
      stream.read_rows(folder)


@pytest.mark.parametrize(
  'name', ['metrics.jsonl', 'stream/records.bin', 'stream', '.']
)
def test_what_is_taken_away_meanwhile_ends_the_run(tmp_path, name):
  folder = tmp_path / 'run'

  def update(done):
    if done == 2:
      path = pathlib.Path(folder, name)
      shutil.rmtree(path) if path.is_dir() else path.unlink()

  with pytest.raises(errors.InputError, match='taken away|not be written'):
    fit(folder, update=update)


def test_the_newest_words_of_another_process_end_the_run(tmp_path):
  def update(done):
    if done == 2:
      with open(tmp_path / 'metrics.jsonl', 'a') as file:
        file.write('{"step": 1}\n')

  with pytest.raises(errors.InputError, match='was changed or taken away'):
    fit(tmp_path, update=update)


def test_a_checkpoint_that_cannot_be_read_again_is_none(tmp_path):
  folder = tmp_path / 'run[1]'  # what `dap train` refuses
  with pytest.raises(errors.InputError, match='cannot be read again'):
    fit(folder)
  assert points.steps(folder / 'checkpoints') == []


# How much can be lost


class Clock:
  """Stands still but when a step is made."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def most_lost(num_steps, each, save_steps=()):
  """Seconds of the longest work that no point holds, of steps of one length."""
  clock = Clock()
  pace = Pace(Bounds(), clock)
  pace.begin(0)
  worst = kept = 0.0
  for done in range(1, num_steps + 1):
    clock.now += each
    worst = max(worst, clock.now - kept)
    if done in save_steps or pace.due(done, num_steps):
      pace.begin(done)
      kept = clock.now
  return worst


@hypothesis.given(
  st.integers(1, 3000), st.floats(1e-3, 1e3), st.sets(st.integers(1, 3000))
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_no_more_is_lost_than_the_bounds_allow(num_steps, each, save_steps):
  allowed = Bounds().allowed(num_steps * each)
  lost = most_lost(num_steps, each, save_steps)
  assert lost <= max(allowed, each) * (1 + 1e-9)
  assert lost <= max(600.0, each) * (1 + 1e-9)
  if lost > max(60.0, each) * (1 + 1e-9):
    assert lost <= 0.05 * num_steps * each * (1 + 1e-9)


def test_short_trainings_keep_no_points_beside_their_own():
  assert most_lost(100, 0.5) == 50.0


def test_a_step_longer_than_the_others_is_taken_for_the_mean():
  clock = Clock()
  pace = Pace(Bounds(), clock)
  pace.begin(10)
  clock.now = 31.0  # the first step compiles
  assert pace.due(11, 12)  # another such step would lose a minute and more
  clock.now = 32.0
  assert not pace.due(12, 100)
