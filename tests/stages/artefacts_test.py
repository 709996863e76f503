import dataclasses
import os
import pathlib
import threading
import time

import pytest

from dap import files, seals
from dap.errors import InputError
from dap.stages import artefacts, finished
from dap.stages.artefacts import Stage

WHERE = artefacts.runtime()


@dataclasses.dataclass(frozen=True)
class Text:
  text: str
  number: int = 0


def write(config, inputs, work_dir):
  read = ''.join((inputs[name] / 'text').read_text() for name in inputs)
  files.write_atomically(work_dir / 'text', config.text + read)


def refuse(config, inputs, work_dir):
  raise InputError('needs something else')


def count_up(config, inputs, work_dir):
  """Fails at every step but goes on from there: a run killed each second."""
  path = work_dir / 'count'
  count = int(path.read_text()) + 1 if path.exists() else 1
  files.write_atomically(path, str(count))
  if count < config.number:
    raise RuntimeError(f'killed at {count}')


def write_when_released(config, inputs, work_dir):
  while not (work_dir.parent / 'release').exists():
    time.sleep(0.01)
  write(config, inputs, work_dir)


A = Stage('a', write, Text('a'))
B = Stage('b', write, Text('b'), {'from': A})


def test_a_stage_is_run_after_what_it_reads_and_once(tmp_path):
  folder = artefacts.run_stage(B, tmp_path)
  assert (folder / 'text').read_text() == 'ba'
  before = (folder / 'text').stat().st_mtime_ns
  assert artefacts.run_stage(B, tmp_path) == folder
  assert (folder / 'text').stat().st_mtime_ns == before
  costs = files.read_json_lines(tmp_path / 'costs.jsonl')
  assert [cost['stage'] for cost in costs] == ['a', 'b']
  record = files.read_json(folder / 'stage.json')
  assert record['config']['text'] == 'b'
  assert record['files'] == {'text': seals.of_bytes(b'ba')}
  assert record['made']['dap'] and record['made']['date']
  assert 'seconds' not in record


def test_what_changes_results_changes_the_folder():
  variants = [
    B,
    dataclasses.replace(B, name='c'),
    dataclasses.replace(B, config=Text('b', 1)),
    dataclasses.replace(B, inputs={}),
    dataclasses.replace(B, inputs={'other': A}),
    dataclasses.replace(B, inputs={'from': dataclasses.replace(A, name='x')}),
    dataclasses.replace(B, function=refuse),  # no library code: text counts
  ]
  root = pathlib.Path('/study')
  folders = [artefacts.folder(each, root, WHERE) for each in variants]
  folders += [
    artefacts.folder(B, root, WHERE._replace(threads=64)),
    artefacts.folder(B, root, WHERE._replace(libraries=(('jax', '0.0.1'),))),
    artefacts.folder(B, root, WHERE._replace(backend='gpu')),
  ]
  assert len(set(folders)) == len(folders)


def test_what_does_not_change_results_does_not_change_the_folder():
  same = dataclasses.replace(B, group='compiled', weight=7.0)
  root = pathlib.Path('/study')
  assert artefacts.folder(same, root, WHERE) == artefacts.folder(B, root, WHERE)
  twice = Stage('c', write, Text('c'), {'x': B, 'y': same})
  assert [job.stage.name for job in artefacts.plan([twice], root, WHERE)] == [
    'a',
    'b',
    'c',
  ]


def test_a_stage_that_raises_leaves_no_folder_and_goes_on_from_there(tmp_path):
  stage = Stage('count', count_up, Text('', 3))
  folder = artefacts.folder(stage, tmp_path, WHERE)
  for attempt in (1, 2):
    with pytest.raises(RuntimeError, match=f'killed at {attempt}'):
      artefacts.run_stage(stage, tmp_path)
    assert not folder.exists()
  aside = folder.with_name(folder.name + '.partial') / '.x.npz.123.aside'
  aside.write_text('what a kill in a write leaves')
  artefacts.run_stage(stage, tmp_path)
  assert (folder / 'count').read_text() == '3'
  assert sorted(os.listdir(folder)) == ['count', 'stage.json']


def test_inputs_of_a_finished_stage_are_not_needed(tmp_path):
  folder = artefacts.run_stage(B, tmp_path)
  (artefacts.folder(A, tmp_path, WHERE) / 'text').unlink()
  assert artefacts.run_stage(B, tmp_path) == folder


def test_a_changed_folder_is_not_taken_for_whole(tmp_path):
  folder = artefacts.run_stage(B, tmp_path)
  (folder / 'text').unlink()
  with pytest.raises(InputError, match='text is missing.*Remove the folder'):
    artefacts.run_stage(B, tmp_path)


def test_a_changed_digit_of_a_finished_stage_is_not_read(tmp_path):
  folder = artefacts.run_stage(A, tmp_path)
  (folder / 'text').write_text('b')  # of the same size
  with pytest.raises(InputError, match='text was changed .*Remove the folder'):
    artefacts.run_stage(B, tmp_path)


def test_two_starters_do_the_work_once(tmp_path, capsys):
  stage = Stage('slow', write_when_released, Text('s'))
  (job,) = artefacts.plan([stage], tmp_path, WHERE)
  starters = [
    threading.Thread(target=artefacts.run_job, args=(job,)) for _ in range(2)
  ]
  for starter in starters:
    starter.start()
  said, end = '', time.monotonic() + 5  # released at last in any case
  while 'waiting for process' not in said and time.monotonic() < end:
    said += capsys.readouterr().out
    time.sleep(0.01)
  (tmp_path / 'stages' / 'release').touch()
  for starter in starters:
    starter.join()
  assert len(files.read_json_lines(tmp_path / 'costs.jsonl')) == 1
  assert finished.is_done(job.folder)


def test_a_name_that_cannot_begin_a_folder_is_refused():
  with pytest.raises(InputError, match="letters, digits.*got 'a/b'"):
    Stage('a/b', write)


def test_a_study_folder_that_is_a_file_is_refused(tmp_path):
  (tmp_path / 'study').write_text('')
  with pytest.raises(InputError, match='whose parent is a folder'):
    artefacts.run_stage(A, tmp_path / 'study')
