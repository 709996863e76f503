"""Experiments of gin/algorithms: what a dry run of each says and leaves."""

import pathlib

import pytest
import tiny_commands as tiny

from dap import main

CONFIGS = sorted(
  path.name
  for path in pathlib.Path('configs/embedded').glob('*.gin')
  if 'gin/algorithms/' in path.read_text()
)
NOWHERE = '/proc/nowhere/run'


@pytest.mark.parametrize('config', CONFIGS)
def test_a_dry_run_tells_the_cost_and_writes_nothing(config, capsys):
  given = {
    **tiny.SIZES,
    'MODEL_DIR': NOWHERE,
    'INITIAL_CHECKPOINT_PATH': 'no/policy',
  }
  if 'annotators/' in pathlib.Path(f'configs/embedded/{config}').read_text():
    given['ANNOTATOR_CHECKPOINT_PATH'] = 'no/model'
  words = [f'--gin.{name}={value!r}' for name, value in given.items()]
  main.main(
    ['train', f'--gin_file=configs/embedded/{config}', *words, '--dry_run']
  )
  told = capsys.readouterr().out
  assert f'would write to: {NOWHERE}' in told
  assert 'parameters: ' in told and 'memory' in told
