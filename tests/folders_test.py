"""One folder, one writer, and a name that everybody can open."""

import errno
import fcntl
import json
import multiprocessing
import os
import pathlib
import socket
import threading

import pytest

from dap import folders
from dap.errors import InputError

REFUSE = folders.refuse('MODEL_DIR out')


def hold(path, pipe):
  with folders.held(path, REFUSE):
    pipe.send('held')
    pipe.recv()


@pytest.fixture
def holder(request, tmp_path):
  """Another process that holds the lock; a test may have it killed."""
  context = multiprocessing.get_context('fork')
  ours, theirs = context.Pipe()
  process = context.Process(
    target=hold, args=(tmp_path / 'run' / '.lock', theirs), daemon=True
  )
  process.start()
  assert ours.recv() == 'held'
  yield process
  process.kill()
  process.join()


def no_flock(monkeypatch, number):
  def flock(*_):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, 'flock', flock)


KERNEL = None
LOCKS = [KERNEL, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS]


@pytest.fixture(params=LOCKS, ids=lambda n: errno.errorcode.get(n, 'flock'))
def kind(request, monkeypatch):
  """The file system's locks: the kernel's, or none."""
  if request.param is not None:
    no_flock(monkeypatch, request.param)


def test_of_two_writers_the_second_is_told_who_the_first_is(
  kind, holder, tmp_path
):
  lock = folders.held(tmp_path / 'run' / '.lock', REFUSE)
  told = f'in use by process {holder.pid} on '
  with pytest.raises(InputError, match=told), lock:
    pytest.fail('two writers')


def test_what_a_killed_holder_left_is_taken_over(kind, holder, tmp_path):
  holder.kill()
  holder.join()
  with folders.held(tmp_path / 'run' / '.lock', REFUSE):
    pass


def test_who_waits_is_called_until_the_lock_is_free(kind, holder, tmp_path):
  calls = []

  def wait(who):
    calls.append(who)
    if len(calls) == 2:
      holder.kill()

  with folders.held(tmp_path / 'run' / '.lock', wait):
    assert len(calls) >= 2


def test_nothing_of_a_lock_is_left(kind, tmp_path):
  with folders.held(tmp_path / 'new' / 'run' / '.lock', REFUSE):
    assert len(list((tmp_path / 'new' / 'run').iterdir())) == 1
  assert not list(tmp_path.iterdir())
  (tmp_path / 'kept').mkdir()
  with folders.held(tmp_path / 'kept' / '.lock', REFUSE):
    pass
  assert not list((tmp_path / 'kept').iterdir())


DEAD = {'process': 2**22 + 1, 'host': socket.gethostname(), 'born': '3'}


@pytest.mark.parametrize('before', ['', '{"proc', json.dumps(DEAD)])
def test_a_holder_that_has_not_signed_yet_is_named(tmp_path, before):
  path = tmp_path / '.lock'
  path.write_text(before)
  own = json.dumps({**DEAD, 'process': os.getpid(), 'born': born()})
  with open(path, 'a+') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    later = threading.Timer(0.3, path.write_text, [own])
    later.start()
    lock = folders.held(path, REFUSE)
    told = f'in use by process {os.getpid()} on '
    with pytest.raises(InputError, match=told), lock:
      pytest.fail('two writers')
    later.join()


def born():
  return pathlib.Path('/proc/self/stat').read_text().split(') ')[1].split()[19]


def test_the_holder_on_another_machine_is_named_and_left_alone(
  monkeypatch, tmp_path
):
  no_flock(monkeypatch, errno.ENOLCK)
  theirs = tmp_path / '.lock.holder'
  theirs.write_text(json.dumps({'process': 1, 'host': 'far', 'born': '3'}))
  lock = folders.held(tmp_path / '.lock', REFUSE)
  told = 'process 1 on far .*remove .*holder'
  with pytest.raises(InputError, match=told), lock:
    pytest.fail('two writers')
  assert theirs.exists()


@pytest.mark.parametrize(
  'name',
  ['a b', 'ü–日本', "it's", 'x' * 255, 'a*b?', '%d$HOME', '-x', 'a\nb', '😀'],
)
def test_names_that_all_can_open(tmp_path, name):
  assert folders.check_name(tmp_path / name, 'MODEL_DIR').name == name


@pytest.mark.parametrize(
  ('name', 'says'),
  [
    ('run[1]', 'patterns'),
    ('a]/b', 'patterns'),
    ('x' * 256, '255 bytes'),
    ('日' * 100, '255 bytes'),
    ('/'.join(['x' * 200] * 20), 'shorter'),
    ('a\0b', 'Give another'),
  ],
)
def test_names_that_nobody_could_open_are_refused(tmp_path, name, says):
  with pytest.raises(InputError, match=says) as refused:
    folders.check_name(tmp_path / name, 'MODEL_DIR')
  assert len(str(refused.value)) < 600


def test_a_circle_of_links_is_refused(tmp_path):
  (tmp_path / 'a').symlink_to(tmp_path / 'b')
  (tmp_path / 'b').symlink_to(tmp_path / 'a')
  with pytest.raises(InputError, match='MODEL_DIR is'):
    folders.check_name(tmp_path / 'a' / 'run', 'MODEL_DIR')


def test_a_link_to_brackets_is_refused(tmp_path):
  (tmp_path / 'a[1]').mkdir()
  (tmp_path / 'plain').symlink_to(tmp_path / 'a[1]')
  with pytest.raises(InputError, match='patterns'):
    folders.check_name(pathlib.Path(tmp_path, 'plain', 'run'), 'MODEL_DIR')
