"""Experiments of configs/embedded: what a dry run of each says and leaves."""

import pathlib

import pytest
import tiny_commands as tiny

from dap import main

CONFIGS = sorted(
  path.name for path in pathlib.Path('configs/embedded').glob('*.gin')
)


@pytest.mark.parametrize('config', CONFIGS)
def test_a_dry_run_tells_the_cost_and_asks_for_no_path(config, capsys):
  words = [f'--gin.{name}={value!r}' for name, value in tiny.SIZES.items()]
  main.main(
    ['train', f'--gin_file=configs/embedded/{config}', *words, '--dry_run']
  )
  told = capsys.readouterr().out
  lacks, *_ = told.splitlines()
  assert lacks.startswith('Needed to run it, and not given: ')
  assert lacks.endswith('MODEL_DIR')
  assert 'would write to: <MODEL_DIR>' in told
  assert 'parameters: ' in told and 'memory' in told
  assert not pathlib.Path('<MODEL_DIR>').exists()


def asks_two(runs, folder, judges, *others):
  given = {
    **tiny.SIZES,
    'MODEL_DIR': str(folder),
    'INITIAL_CHECKPOINT_PATH': str(runs / 'sft'),
    'ANNOTATOR_CHECKPOINT_PATH': judges,
    'rloo/train.Run.num_steps': 2,
    'rloo/train.Run.save_steps': (),
    'rloo/optimizers.Constant.warmup_steps': 1,
    'rloo/train.Run.log_every': 1,
  }
  words = [f'--gin.{name}={value!r}' for name, value in given.items()]
  files = ['configs/embedded/rloo.gin', 'gin/annotators/two_reward_models.gin']
  files = [f'--gin_file={each}' for each in files]
  main.main(['train', *files, *words, *others])


def test_two_reward_models_answer_as_one(runs, tmp_path):
  judge = str(runs / 'judge')
  asks_two(runs, tmp_path / 'two', (judge, judge))
  lines = (tmp_path / 'two' / 'metrics.jsonl').read_text().splitlines()
  assert len(lines) == 2


def test_one_path_is_not_enough_for_two_models(runs, tmp_path, capsys):
  with pytest.raises(SystemExit) as exit_code:
    asks_two(runs, tmp_path / 'one', str(runs / 'judge'))
  assert exit_code.value.code == 2
  assert 'paths of 2 checkpoints' in capsys.readouterr().err
