"""`dap check`: reads all that is kept, and names what is not as it was."""

import shutil

import pytest
import refusals

from dap import main


@pytest.fixture
def trained(runs, tmp_path):
  """A copy of the online run, to damage."""
  return shutil.copytree(runs / 'online', tmp_path / 'online')


def test_what_is_whole_is_read_and_counted(runs, capsys):
  main.main(['check', str(runs)])
  said = capsys.readouterr().out
  for kind in ('checkpoints', 'runs', '1 streams', 'prepared splits'):
    assert kind in said
  assert said.rstrip().endswith('; 0 damaged')


def test_a_dry_run_names_what_would_be_read(trained, capsys):
  main.main(['check', str(trained), '--dry_run'])
  said = capsys.readouterr().out
  assert f'streams: {trained}/stream' in said
  assert f'checkpoints: {trained}/checkpoints/checkpoint_6' in said


@pytest.mark.parametrize(
  'pattern',
  [
    'checkpoints/checkpoint_6/metadata.json',
    'checkpoints/checkpoint_3/params/**/*',
    'metrics.jsonl',
    'stream/records.bin',
    'stream/stream.json',
    'cache/**/chosen.npy',
    'cache/**/facts.json',
    'configuration.json',
  ],
)
def test_a_changed_byte_of_any_file_is_named(trained, capsys, pattern):
  files = [path for path in trained.glob(pattern) if path.is_file()]
  path = max(files, key=lambda each: each.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)
  said = refusals.refused(capsys, ['check', str(trained)])
  assert path.name in said or str(path.parent) in said


def test_all_that_is_damaged_is_named_at_once(trained, capsys):
  for name in ('metrics.jsonl', 'configuration.json'):
    (trained / name).write_bytes(b'{}\n')
  said = refusals.refused(capsys, ['check', str(trained)])
  assert 'metrics.jsonl' in said and 'configuration.json' in said
  assert len(said.splitlines()) == 2


@pytest.mark.parametrize('name', ['nowhere', 'x' * 5000, 'empty'])
def test_what_is_no_folder_of_ours_is_refused(tmp_path, capsys, name):
  (tmp_path / 'empty').mkdir()
  said = refusals.refused(capsys, ['check', str(tmp_path / name)])
  assert 'give' in said
