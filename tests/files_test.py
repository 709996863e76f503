import contextlib
import errno
import json
import os
import threading
import time

import pytest

from dap import disks, files
from dap.errors import InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
  tmp_path, monkeypatch
):
  path = tmp_path / 'runs.jsonl'
  files.write_atomically(path, 'old')

  def full(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(InputError, match='No space left.*are free.*Free some'):
    files.write_atomically(path, 'new')
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['runs.jsonl']


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
  path = tmp_path / 'plot.png'
  files.write_atomically(path, b'old')
  with pytest.raises(KeyError), files.atomic_file(path) as file:
    file.write(b'half')
    raise KeyError
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['plot.png']


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_an_append_to_a_full_disk_says_what_to_free():
  with pytest.raises(InputError, match='/dev/full could not be written.*free'):
    files.append_json_lines('/dev/full', [{'step': 1}])


def test_an_append_that_fails_half_way_is_taken_back(tmp_path, monkeypatch):
  path = tmp_path / 'metrics.jsonl'
  files.append_json_lines(path, [{'step': 1}])

  def half(file, data):
    file.write(data[: len(data) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(files, '_write_all', half)
  with pytest.raises(InputError):
    files.append_json_lines(path, [{'step': 2}])
  assert path.read_text() == '{"step": 1}\n'


def test_a_parent_that_is_a_file_is_named(tmp_path):
  (tmp_path / 'taken').write_text('')
  with pytest.raises(InputError, match='taken.*whose parent is a folder'):
    files.write_json(tmp_path / 'taken' / 'study.json', {})


@pytest.mark.skipif(os.getuid() == 0, reason='root may write anywhere')
def test_an_unwritable_folder_says_to_give_another(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(InputError, match='Permission denied.*Give a folder'):
    files.write_json(tmp_path / 'study.json', {})


def test_errors_other_than_room_and_rights_pass_unchanged(tmp_path):
  with (
    pytest.raises(OSError, match='Input/output') as caught,
    disks.explained(tmp_path),
  ):
    raise OSError(errno.EIO, os.strerror(errno.EIO))
  assert not isinstance(caught.value, InputError)


def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  files.append_json_lines(path, [{'step': step} for step in range(5)])
  with open(path, 'a') as file:
    file.write('{"step": 5, "lo')  # what a kill in a write leaves
  assert [line['step'] for line in files.read_json_lines(path)] == [*range(5)]
  files.truncate_json_lines(path, lambda record: record['step'] <= 2)
  assert path.read_text() == '{"step": 0}\n{"step": 1}\n{"step": 2}\n'


def test_truncation_keeps_the_bytes_of_kept_lines(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step":1,   "loss": 0.10}\n{"step": 2}\n')
  files.truncate_json_lines(path, lambda record: record['step'] < 2)
  assert path.read_text() == '{"step":1,   "loss": 0.10}\n'


@pytest.mark.parametrize('line', ['{"step": ', '[1]', '\xff'])
def test_a_bad_line_is_named_by_its_number(tmp_path, line):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"step": 1}\n' + line.encode('latin1') + b'\n{}\n')
  with pytest.raises(InputError, match='metrics.jsonl, line 2: '):
    files.read_json_lines(path)


def test_numbers_that_json_cannot_hold_are_refused(tmp_path):
  with pytest.raises(ValueError):
    files.append_json_lines(tmp_path / 'a.jsonl', [{'loss': float('nan')}])
  assert not (tmp_path / 'a.jsonl').exists()


def test_a_published_folder_is_the_partial_one_renamed(tmp_path):
  partial = tmp_path / 'sft.partial'
  (partial / 'checkpoint').mkdir(parents=True)
  (partial / 'checkpoint' / 'params').write_bytes(b'1')
  files.publish_folder(partial, tmp_path / 'sft')
  assert (tmp_path / 'sft/checkpoint/params').read_bytes() == b'1'
  assert not partial.exists()


def test_read_json_names_file_and_line(tmp_path):
  path = tmp_path / 'study.json'
  path.write_text('{\n"a": 1,\n]')
  with pytest.raises(InputError, match='study.json, line 3: not JSON'):
    files.read_json(path)
  with pytest.raises(InputError, match='cannot be read'):
    files.read_json(tmp_path / 'absent.json')
  files.write_json(path, {'b': 'ü', 'a': [0.1]})
  assert json.loads(path.read_text('utf-8')) == {'b': 'ü', 'a': [0.1]}


def test_sizes_read_well():
  assert disks.readable_size(1536) == '1.5 KiB'
  assert disks.readable_size(3 * 2**30) == '3 GiB'


def test_a_fingerprint_is_of_the_content(tmp_path):
  path = tmp_path / 'pairs.jsonl'
  path.write_text('a')
  # printf a | sha256sum
  before = files.fingerprint(path)
  assert before.startswith('ca978112ca1bbdca')
  path.write_text('bb')
  assert files.fingerprint(path) != before
  (tmp_path / 'copy').write_text('a')
  assert files.fingerprint(tmp_path / 'copy') == before
  with pytest.raises(InputError, match='absent cannot be read'):
    files.fingerprint(tmp_path / 'absent')


def test_a_folder_goes_though_a_thread_still_writes_into_it(tmp_path):
  folder, ended = tmp_path / 'aside', threading.Event()
  folder.mkdir()

  def write():
    for number in range(200):
      with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        (folder / str(number)).write_text('late')
      time.sleep(0.001)
    ended.set()

  writer = threading.Thread(target=write)
  writer.start()
  while not ended.is_set():
    files.remove_folder(folder)
  writer.join()
  files.remove_folder(folder)
  assert not folder.exists()


def test_what_cannot_be_removed_is_left_after_a_while(tmp_path, monkeypatch):
  monkeypatch.setattr(files.shutil, 'rmtree', lambda *_, **__: None)
  files.remove_folder(tmp_path, patience=0.1)
  files.remove_folder(tmp_path / 'none')
