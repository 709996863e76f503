import os

import pytest

from dap.errors import InputError
from dap.stages import finished


@pytest.fixture
def folder(tmp_path):
  """A finished stage of one file."""
  return made(tmp_path / 'a-0123456789abcdef')


def made(folder):
  folder.mkdir()
  (folder / 'text').write_text('ba')
  finished.write(folder, {'stage': 'a'}, 'content')
  return folder


def test_what_was_written_is_whole_and_says_what_it_is(folder):
  assert finished.is_done(folder)
  finished.check(folder)
  record = finished.record_of(folder)
  assert (record['stage'], record['content']) == ('a', 'content')
  assert list(record['files']) == ['text']  # not stage.json itself
  assert not finished.is_done(folder.with_name('b-0123456789abcdef'))


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda path: path.unlink(), 'text is missing, not 2 bytes'),
    (lambda path: path.write_text('b'), 'text has 1 bytes, not 2'),
    (lambda path: (path.parent / 'stage.json').write_text('{}'), 'stage.json'),
    (lambda path: (path.parent / 'stage.json').unlink(), 'stage.json is'),
  ],
)
def test_a_changed_folder_is_not_taken_for_whole(folder, damage, message):
  damage(folder / 'text')
  with pytest.raises(InputError, match=message + '.*Remove the folder'):
    finished.is_done(folder)


def test_a_changed_letter_is_found_by_who_reads_all(folder):
  (folder / 'text').write_text('bb')  # of the same size
  assert finished.is_done(folder)
  with pytest.raises(InputError, match='text was changed .*Remove the folder'):
    finished.check(folder)


def test_records_are_of_one_name_the_newest_first(folder):
  older = made(folder.with_name('a-1111111111111111'))
  os.utime(older / 'stage.json', (1, 1))
  made(folder.with_name('a-longer-1111111111111111'))
  damaged = made(folder.with_name('a-2222222222222222'))
  (damaged / 'stage.json').write_text('{}')
  found = [place for place, _ in finished.records(folder)]
  assert found == [folder, older]
