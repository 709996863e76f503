"""A second start of one MODEL_DIR: what may change, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import tiny_commands as tiny
from refusals import commands_on, refused

from dap import main
from dap.checkpoints import layouts, points, state


def start(runs):
  return f'--gin.INITIAL_CHECKPOINT_PATH={str(runs / "sft")!r}'


def words(runs, folder, *others, steps=3, saves=(), **changes):
  changes = {
    'OFFLINE_STEPS': steps,
    'OFFLINE_SAVE_STEPS': saves,
    **changes,
  }
  return tiny.argv(
    'train', 'offline_ipo', folder, start(runs), *others, **changes
  )


def params(folder):
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    tree = checkpointer.restore(layouts.find(folder)[0] / 'params')
  return {name: np.asarray(leaf) for name, leaf in state.names(tree).items()}


@pytest.fixture(scope='module')
def short(runs, tmp_path_factory):
  """A finished run of three steps at a constant rate."""
  folder = tmp_path_factory.mktemp('short') / 'run'
  main.main(words(runs, folder))
  return folder


@pytest.fixture
def again(short, tmp_path):
  """A copy of it to start once more."""
  return shutil.copytree(short, tmp_path / 'run')


def test_a_run_of_constant_rate_goes_on_to_more_steps_bit_for_bit(
  runs, again, tmp_path
):
  main.main(words(runs, again, steps=7))
  main.main(words(runs, tmp_path / 'unbroken', steps=7))
  longer, unbroken = params(again), params(tmp_path / 'unbroken')
  assert longer.keys() == unbroken.keys()
  for name, leaf in longer.items():
    np.testing.assert_array_equal(leaf, unbroken[name])
  for name in ('metrics.jsonl', 'configuration.json'):
    assert (again / name).read_bytes() == (
      tmp_path / 'unbroken' / name
    ).read_bytes()
  # The end of the shorter run stays as a checkpoint.
  assert points.steps(again / 'checkpoints') == [3, 7]


def test_what_is_kept_of_a_run_may_change_from_start_to_start(runs, again):
  before = params(again)
  changes = {'offline/train.Run.log_every': 2}
  shown = '--gin.commands.train.train.num_shown=1'
  main.main(words(runs, again, shown, saves=(1, 2), **changes))
  after = params(again)
  assert all(np.array_equal(before[name], after[name]) for name in before)
  told = json.loads((again / 'configuration.json').read_text())
  assert (told['log_every'], told['save_steps']) == (2, [1, 2])


DIFFERENT = {
  'a number': (
    {'BETA': 0.07},
    'algorithm.loss.scalars.beta: 0.05 there, 0.07 here',
  ),
  'a loss': (
    {'ipo/objectives.Loss.function': 'dpo_loss'},
    'algorithm.loss.function: dap.losses.pairwise.ipo_loss there,'
    ' dap.losses.pairwise.dpo_loss here',
  ),
  'data': (
    {'corpus.EmbeddedCorpus.num_train': 72},
    'data.source: other content',
    'num_train: 64 there',
    'num_train: 72 here',
  ),
  'a stream': ({'commands.train.train.split': 'test'}, "split: 'train' there"),
}


@pytest.mark.parametrize('kind', DIFFERENT)
def test_another_configuration_is_refused_with_what_differs(
  capfd, runs, again, kind
):
  changes, *expected = DIFFERENT[kind]
  given = [
    f'--gin.{k}={"@losses.dpo_loss" if v == "dpo_loss" else repr(v)}'
    for k, v in changes.items()
  ]
  before = (again / 'configuration.json').read_bytes()
  said = refused(capfd, words(runs, again, *given))
  assert 'holds the run of another configuration. What differs:' in said
  assert all(each in said for each in expected), said
  assert 'OFFLINE' not in said and 'log_every' not in said
  assert (again / 'configuration.json').read_bytes() == before


def test_two_more_rows_in_a_file_are_other_content(capfd, tmp_path):
  row = {'prompt': 'who is it', 'chosen': 'a man', 'rejected': 'an old man'}
  rows = [{**row, 'prompt': f'{row["prompt"]} {n}'} for n in range(10)]
  path, folder = tmp_path / 'pairs.jsonl', tmp_path / 'run'
  given = commands_on(path, folder)['train']
  given += ['--gin.SFT_STEPS=1', '--gin.BATCH_SIZE=4']
  path.write_text('\n'.join(map(json.dumps, rows[:8])))
  main.main(given)
  path.write_text('\n'.join(map(json.dumps, rows)))
  said = refused(capfd, given)
  assert 'data.source: other content' in said
  assert 'there' not in said.partition('data.source')[2].partition('To go')[0]


def test_a_checkpoint_of_other_content_is_named_as_what_differs(
  capfd, runs, again, tmp_path
):
  other = tmp_path / 'sft'
  tiny.dap('train', 'sft', other, SFT_STEPS=1)
  given = tiny.argv(
    'train', 'offline_ipo', again,
    f'--gin.INITIAL_CHECKPOINT_PATH={str(other)!r}',
    OFFLINE_STEPS=3, OFFLINE_SAVE_STEPS=(),
  )  # fmt: skip
  said = refused(capfd, given)
  assert 'initial_checkpoint: ' in said and 'What differs' in said


def test_a_schedule_that_ends_with_the_run_is_not_made_longer(
  capfd, runs, tmp_path
):
  folder = shutil.copytree(runs / 'sft', tmp_path / 'sft')
  said = refused(capfd, tiny.argv('train', 'sft', folder, SFT_STEPS=12))
  assert 'schedule.num_steps: 10 there, 12 here' in said
  assert 'INITIAL_CHECKPOINT_PATH' in said and 'constant rate' in said
  assert points.steps(folder / 'checkpoints') == [10]


def test_steps_are_not_taken_back(capfd, runs, again):
  said = refused(capfd, words(runs, again, steps=2))
  assert 'holds 3 steps of this run, which is to have 2' in said


def test_a_run_that_drew_ahead_to_its_end_is_not_made_longer(
  capfd, runs, tmp_path
):
  ahead = (
    '--gin_file=gin/refresh/lagged.gin',
    '--gin_file=gin/rollouts/ahead.gin',
    *tiny.starts(runs),
  )
  folder = tmp_path / 'run'
  few = {'ONLINE_SAVE_STEPS': ()}
  tiny.dap('train', 'online_ipo', folder, *ahead, ONLINE_STEPS=2, **few)
  longer = tiny.argv(
    'train', 'online_ipo', folder, *ahead, ONLINE_STEPS=3, **few
  )
  assert 'ended at step 2 with rollouts ahead' in refused(capfd, longer)
  in_step = [each for each in longer if 'ahead.gin' not in each]
  assert 'ended at step 2 with rollouts ahead' in refused(capfd, in_step)
