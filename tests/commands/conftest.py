"""Trainings that several files look at, made once."""

import pytest
import tiny_commands as tiny


@pytest.fixture(scope='session')
def runs(tmp_path_factory):
  """A folder with the runs `sft`, `judge` and `online`, its stream recorded."""
  folder = tmp_path_factory.mktemp('runs')
  tiny.dap('train', 'sft', folder / 'sft')
  tiny.dap('train', 'preference_model', folder / 'judge')
  tiny.dap(
    'train',
    'online_ipo',
    folder / 'online',
    *tiny.starts(folder),
    RECORD_STREAM=True,
  )
  return folder
