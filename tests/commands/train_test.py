import contextlib
import json
import resource
import shutil

import numpy as np
import pytest
import tiny_commands as tiny

from dap import main
from dap.checkpoints import layouts, points, state
from dap.evaluation import sample
from dap.training import stream


def metrics(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def arrays(folder):
  """All arrays of the newest parameters, by name."""
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    tree = checkpointer.restore(layouts.find(folder)[0] / 'params')
  return {name: np.asarray(leaf) for name, leaf in state.names(tree).items()}


def equal(first, second):
  one, other = arrays(first), arrays(second)
  return one.keys() == other.keys() and all(
    np.array_equal(one[name], other[name]) for name in one
  )


def test_a_training_leaves_what_a_reader_and_a_restart_need(runs):
  folder = runs / 'online'
  names = {entry.name for entry in folder.iterdir()}
  assert names == {
    'cache', 'checkpoints', 'configuration.json', 'metrics.jsonl', 'samples',
    'stream', 'tensorboard', 'training.json',
  }  # fmt: skip
  assert points.steps(folder / 'checkpoints') == [3, 6]
  lines = metrics(folder)
  assert [line['step'] for line in lines] == [1, 2, 3, 4, 5, 6]
  assert lines[0]['loss'] == pytest.approx(0.25, abs=1e-5)  # at the reference
  text = (folder / 'samples' / 'step_6.txt').read_text()
  assert (
    text.startswith('--- 1 ---\nprompt:\n') and text.count('response:') == 4
  )
  configuration = json.loads((folder / 'configuration.json').read_text())
  assert configuration['num_steps'] == 6
  assert list((folder / 'tensorboard').glob('events.*'))


@pytest.mark.parametrize('how', ['counted', "XLA's analysis"])
def test_a_dry_run_prints_the_costs_and_writes_nothing(tmp_path, capsys, how):
  more = [] if how == 'counted' else ['--measure']
  tiny.dap('train', 'sft', tmp_path / 'run', '--dry_run', *more)
  printed = capsys.readouterr().out
  # Embedding and head 2 * 140 * 16; attention 12 * 256; MLPs 2 * 3 * 16 * 32;
  # norms 7 * 16; biases 2 * 2 * 32.
  assert 'parameters: 10,864' in printed
  assert 'memory of the update: ' in printed and ' KiB on each of 1' in printed
  assert f'({how}' in printed
  assert 'for 10 steps' in printed
  assert 'learning_rate: 0.003' in printed  # the resolved configuration
  assert f'would write to: {tmp_path / "run"}' in printed
  assert not list(tmp_path.iterdir())


def test_a_second_start_trains_nothing_more(runs):
  folder = runs / 'sft'
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('checkpoint_*')}
  lines = metrics(folder)
  tiny.dap('train', 'sft', folder)
  assert metrics(folder) == lines
  assert before == {
    p: p.stat().st_mtime_ns for p in folder.rglob('checkpoint_*')
  }


def test_an_interrupted_training_ends_as_if_it_had_not_been(
  runs, tmp_path, monkeypatch, capsys
):
  folder = tmp_path / 'online'
  words = ('train', 'online_ipo', folder, *tiny.starts(runs))

  def interrupt(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(sample, 'text', interrupt)
    with pytest.raises(SystemExit, match='130'):
      tiny.dap(*words, RECORD_STREAM=True)
  assert 'The same command goes on' in capsys.readouterr().err
  assert points.steps(folder / 'checkpoints') == [3]
  tiny.dap(*words, RECORD_STREAM=True)
  streams = [
    run / 'stream' / 'records.bin' for run in (folder, runs / 'online')
  ]
  assert streams[0].read_bytes() == streams[1].read_bytes()
  assert metrics(folder) == metrics(runs / 'online')
  assert equal(folder, runs / 'online')
  assert (folder / 'samples' / 'step_3.txt').exists()


def test_samples_that_a_kill_left_out_are_written_by_the_restart(
  runs, tmp_path
):
  folder = shutil.copytree(runs / 'sft', tmp_path / 'sft')
  path = folder / 'samples' / 'step_10.txt'
  text = path.read_text()
  path.unlink()
  tiny.dap('train', 'sft', folder)
  assert path.read_text() == text


def test_a_sample_that_was_changed_is_told_by_each_start(
  runs, tmp_path, capsys
):
  folder = shutil.copytree(runs / 'sft', tmp_path / 'sft')
  path = folder / 'samples' / 'step_10.txt'
  sealed = (folder / 'training.json').read_bytes()
  path.write_text(path.read_text().replace('prompt', 'prompts', 1))
  for _ in range(2):
    tiny.dap('train', 'sft', folder)
    said = capsys.readouterr()
    assert f'{path} was changed' in said.out + said.err
  assert (folder / 'training.json').read_bytes() == sealed  # not of the damage


def test_seals_that_were_damaged_are_written_anew(runs, tmp_path, capsys):
  folder = shutil.copytree(runs / 'sft', tmp_path / 'sft')
  (folder / 'training.json').write_bytes(b'{}')
  tiny.dap('train', 'sft', folder)
  said = capsys.readouterr()
  assert 'training.json' in said.out + said.err
  whole = (runs / 'sft' / 'training.json').read_bytes()
  assert (folder / 'training.json').read_bytes() == whole


def test_training_on_the_stream_repeats_the_run_that_recorded_it(
  runs, tmp_path
):
  tiny.dap(
    'train',
    'online_ipo',
    tmp_path / 'replay',
    '--gin_file=gin/samplers/stream.gin',
    f'--gin.STREAM_PATH={str(runs / "online" / "stream")!r}',
    *tiny.starts(runs),
  )
  assert equal(tmp_path / 'replay', runs / 'online')
  assert metrics(tmp_path / 'replay') == metrics(runs / 'online')
  assert not (tmp_path / 'replay' / 'stream').exists()


def test_the_stream_holds_both_samples_of_every_prompt(runs):
  rows = stream.read_rows(runs / 'online' / 'stream')
  assert len(rows) == 6 * 8
  # A pointwise model's answers in both orders are each other's complement.
  np.testing.assert_allclose(np.sum(rows['scores'], axis=1), 1, atol=1e-6)


def test_the_behaviour_policy_can_lag_behind(runs, tmp_path):
  tiny.dap(
    'train',
    'online_ipo',
    tmp_path,
    '--gin_file=gin/refresh/never.gin',
    *tiny.starts(runs),
    RECORD_STREAM=True,
  )
  ours = stream.read_rows(tmp_path / 'stream')
  on_policy = stream.read_rows(runs / 'online' / 'stream')
  first = ours['step'] == 0
  for name in ('chosen', 'rejected', 'reference_chosen'):
    np.testing.assert_array_equal(ours[name][first], on_policy[name][first])
  assert not equal(tmp_path, runs / 'online')


def test_a_rule_labels_samples_without_a_model_to_ask(runs, tmp_path):
  start = f'--gin.INITIAL_CHECKPOINT_PATH={str(runs / "sft")!r}'
  tiny.dap(
    'train',
    'online_ipo',
    tmp_path / 'rule',
    '--gin_file=gin/annotators/rule.gin',
    start,  # and no ANNOTATOR_CHECKPOINT_PATH
    RECORD_STREAM=True,
  )
  lines = (tmp_path / 'rule' / 'answers.jsonl').read_text().splitlines()
  said = [score for line in lines for score in json.loads(line)['scores']]
  # The fewer words the better: minus a number of words, of at most 6 tokens.
  assert said and set(said) <= set(map(float, range(-6, 1)))
  assert len(set(said)) > 1
  assert len(metrics(tmp_path / 'rule')) == 6
  assert not equal(tmp_path / 'rule', runs / 'online')
  configuration = (tmp_path / 'rule' / 'configuration.json').read_text()
  assert 'dap.annotators.host.shorter' in configuration


def test_a_rule_of_ones_own_scores_for_another_algorithm(
  runs, tmp_path, monkeypatch
):
  (tmp_path / 'my_rules.py').write_text(
    'def longer(prompt, response):\n  return float(len(response))\n'
  )
  (tmp_path / 'longer.gin').write_text(
    'from __gin__ import dynamic_registration\n'
    'import my_rules\n'
    "include 'configs/embedded/rloo.gin'\n"
    "include 'gin/annotators/rule.gin'\n"
    'RULE = @my_rules.longer\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  words = [f'--gin.{name}={value!r}' for name, value in tiny.SIZES.items()]
  main.main(
    [
      'train',
      f'--gin_file={tmp_path / "longer.gin"}',
      f'--gin.MODEL_DIR={str(tmp_path / "run")!r}',
      f'--gin.INITIAL_CHECKPOINT_PATH={str(runs / "sft")!r}',
      '--gin.rloo/train.Run.num_steps=2',
      '--gin.rloo/train.Run.save_steps=()',
      *words,
    ]
  )
  lines = (tmp_path / 'run' / 'answers.jsonl').read_text().splitlines()
  scores = [json.loads(line)['scores'] for line in lines]
  # Four responses to each prompt; no score is below that of an empty text.
  assert scores and all(len(each) == 4 and min(each) >= 0 for each in scores)


@pytest.mark.parametrize('loss', ['dpo', 'cdpo', 'hinge', 'best_of_two'])
def test_a_part_replaces_the_loss(runs, tmp_path, loss):
  tiny.dap(
    'train',
    'offline_ipo',
    tmp_path / loss,
    f'--gin_file=gin/losses/{loss}.gin',
    f'--gin.INITIAL_CHECKPOINT_PATH={str(runs / "sft")!r}',
    OFFLINE_STEPS=1,
    OFFLINE_SAVE_STEPS=(),
  )
  (line,) = metrics(tmp_path / loss)
  # At the reference: log 2, 1 of the hinge; likelihood is near 5 nats a token.
  low, high = {'hinge': (1, 1), 'best_of_two': (5, 60)}.get(loss, (0.69, 0.7))
  assert low - 1e-5 <= line['loss'] <= high + 1e-5


@contextlib.contextmanager
def largest_file(num_bytes):
  """A disk on which no file can grow beyond so many bytes."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Orbax leaves a thread behind that finds its event loop closed.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize(
  'limit', [1_100, 8_000, 20_000], ids=['metrics', 'stream', 'checkpoint']
)
def test_a_disk_that_fills_up_loses_nothing(
  runs, tmp_path, monkeypatch, capsys, caplog, limit
):
  folder = tmp_path / 'online'
  words = ('train', 'online_ipo', folder, *tiny.starts(runs))

  def fill_up(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    return text(*arguments)

  hard, text = resource.getrlimit(resource.RLIMIT_FSIZE)[1], sample.text
  with monkeypatch.context() as patch, largest_file(hard):
    patch.setattr(sample, 'text', fill_up)  # at the checkpoint of step 3
    with pytest.raises(SystemExit, match='2'):
      tiny.dap(*words, RECORD_STREAM=True)
  said = capsys.readouterr().err
  assert said.startswith('dap train: ') and 'Traceback' not in said
  others = [each for each in caplog.records if each.name[:4] != 'dap.']
  assert not others  # Orbax has a logger of its own
  assert 'ulimit -f' in said and 'then give the same command again' in said
  assert points.steps(folder / 'checkpoints') == [3]
  tiny.dap(*words, RECORD_STREAM=True)
  streams = [
    run / 'stream' / 'records.bin' for run in (folder, runs / 'online')
  ]
  assert streams[0].read_bytes() == streams[1].read_bytes()
  assert metrics(folder) == metrics(runs / 'online')
  assert equal(folder, runs / 'online')
