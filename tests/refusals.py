"""What a test of a refused command needs."""

import pytest
import tiny_commands
import tiny_study

from dap import main

COMMANDS = ('data', 'train', 'study')


def refused(capture, words):
  """The message of a command that must exit with 2 and say nothing else."""
  capture.readouterr()
  with pytest.raises(SystemExit) as exit_info:
    main.main(words)
  said = capture.readouterr().err
  assert exit_info.value.code == 2, said
  assert said.startswith(f'dap {words[0]}: '), said
  assert 'Traceback' not in said
  return said


def commands_on(path, out, *, test=None):
  """`dap data`, `train` and `study` on a JSONL file, by name."""
  given = {'TRAIN_FILE': str(path), 'TEST_FILE': str(test or path)}
  words = ['--gin_file=gin/data/jsonl.gin', '--gin_file=gin/data/bytes.gin']
  plain = [name for name in tiny_commands.SIZES if 'Corpus' in name]
  study = [name for name in tiny_study.SIZES if 'Corpus' in name]
  study += ['VOCABULARY_SIZE']
  return {
    'data': [
      'data',
      *words,
      *(f'--gin.{name}={value!r}' for name, value in given.items()),
      f'--gin.data.prepare_data.cache_dir={str(out)!r}',
    ],
    'train': tiny_commands.argv(
      'train', 'sft', out, *words, without=plain, **given
    ),
    'study': tiny_study.argv(out, *words, without=study, **given),
  }


def results(out):
  """What counts as work: arrays, checkpoints, metrics, finished stages."""
  names = ('*.npy', 'checkpoint_*', 'metrics.jsonl', 'stage.json')
  return [path for name in names for path in out.rglob(name)]
