"""Layer 0. The folder of a piece of work: its name, its one writer, no litter.

A lock names who holds it. The kernel's lock (flock) goes with its process,
however that dies. Where a file system has none, as some network file systems,
the lock is a file that only one process can create; what a dead process of this
machine left is taken over, and that of another machine is named, for the person
to remove.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dap import disks, files
from dap.errors import InputError

_NO_FLOCK = frozenset(
  {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}
)
_GLOB = '[]'  # Orbax looks for its files by patterns of the whole path
_LONGEST_NAME, _LONGEST_PATH = 255, 4096 - 512  # bytes; files lie below it
_OFTEN = 0.2  # seconds between two looks at a lock that is waited for
_SIGNING = 2.0  # seconds in which who has just taken a lock has signed it


def check_name(path: str | Path, what: str) -> Path:
  """The path of a folder to work in, if all that write there can open it.

  Args:
    path: as the caller gave it; need not exist.
    what: what gives it, 'MODEL_DIR', for the message.

  Raises:
    InputError: it has brackets, is too long, or is a circle of links.
  """
  path = Path(path)
  given = f'{what} is {files.shortened(str(path))}'
  try:
    whole = path.resolve()
  except (OSError, RuntimeError, ValueError) as error:
    why = getattr(error, 'strerror', None) or error
    raise InputError(f'{given}: {why}. Give another folder.') from None
  if found := sorted(set(_GLOB) & set(str(whole))):
    raise InputError(
      f'{given}, whose whole path has {" and ".join(found)}: Orbax reads these'
      ' as patterns, and what it saves there cannot be read again. Give a path'
      ' without square brackets.'
    )
  longest = max((len(os.fsencode(part)) for part in whole.parts), default=0)
  if longest > _LONGEST_NAME or len(os.fsencode(whole)) > _LONGEST_PATH:
    raise InputError(
      f'{given}: a name may have {_LONGEST_NAME} bytes and the whole path'
      f' {_LONGEST_PATH}; these have {longest} and {len(os.fsencode(whole))}.'
      ' Give a shorter one.'
    )
  return path


# Called with who holds the lock, each time it is found held; may raise.
Busy = Callable[[str], None]


def refuse(what: str) -> Busy:
  """Does not wait: `what` ('MODEL_DIR out/run') is in use."""

  def busy(holder: str) -> None:
    raise InputError(
      f'{what} is in use by {holder}, and two writers would ruin it. Wait until'
      ' that has ended, stop it, or give another folder.'
    )

  return busy


@contextlib.contextmanager
def held(path: Path, busy: Busy) -> Iterator[None]:
  """Holds the lock at `path`, a file, for the block.

  After the block there is no such file, nor a folder that was made for it and
  that nothing else was written into.

  Args:
    path: of the lock; its folder is made.
    busy: called while another process holds it; returns to wait.

  Raises:
    InputError: `busy` did, or the file cannot be written.
  """
  absent = [place for place in path.parents if not place.exists()]
  try:
    with contextlib.ExitStack() as stack:
      if not _flocked(path, stack, busy):
        _created(path.with_name(f'{path.name}.holder'), stack, busy)
      yield
  finally:
    with contextlib.suppress(OSError):
      for place in absent:
        place.rmdir()


def _flocked(path: Path, stack: contextlib.ExitStack, busy: Busy) -> bool:
  """Takes the kernel's lock; False where the file system has none."""
  while True:
    with disks.explained(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      try:
        file = stack.enter_context(open(path, 'a+'))  # noqa: SIM115
      except FileNotFoundError:  # its last holder has just removed the folder
        continue
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      if not _is_at(path, file):  # its holder is just leaving
        continue
      busy(_holder(path))
      time.sleep(_OFTEN)
      continue
    except OSError as error:
      path.unlink(missing_ok=True)
      if error.errno not in _NO_FLOCK:
        raise
      return False
    if _is_at(path, file):  # its last holder may have removed it
      _sign(file)
      stack.callback(path.unlink, missing_ok=True)
      return True


def _is_at(path: Path, file: IO[str]) -> bool:
  try:
    return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
  except FileNotFoundError:
    return False


def _created(path: Path, stack: contextlib.ExitStack, busy: Busy) -> None:
  """The lock of a file that exists only while it is held."""
  while True:
    try:
      with open(path, 'x') as file:
        _sign(file)
      stack.callback(path.unlink, missing_ok=True)
      return
    except FileExistsError:
      if _is_left(path):
        path.unlink(missing_ok=True)
        continue
    busy(f'{_holder(path)} (if that is gone, remove {path})')
    time.sleep(_OFTEN)


def _is_left(path: Path) -> bool:
  """Whether the holder was a process of this machine and is dead."""
  try:
    return _is_dead(json.loads(path.read_text()))
  except (OSError, ValueError, KeyError, TypeError):
    return False


def _is_dead(record: Mapping[str, Any]) -> bool:
  """Whether a signature is that of a process of this machine that is gone."""
  own = record['host'] == socket.gethostname()
  return own and _born(record['process']) != record['born']


def _born(process: int) -> str | None:
  """When a process of this machine began, in ticks; None when it is gone."""
  try:
    text = Path(f'/proc/{process}/stat').read_text()
  except OSError:
    return None
  state, *fields = text.rpartition(')')[2].split()
  return None if state in 'ZX' else fields[18]  # a zombie writes nothing


def _sign(file: IO[str]) -> None:
  file.seek(0)
  file.truncate()
  own = {
    'process': os.getpid(),
    'host': socket.gethostname(),
    'born': _born(os.getpid()),
  }
  file.write(json.dumps(own))
  file.flush()


def _holder(path: Path) -> str:
  """Names who holds the lock.

  It may have been taken an instant ago: it is unsigned then, or still has the
  signature of who died with it.
  """
  end = time.monotonic() + _SIGNING
  while True:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
      record = json.loads(path.read_text())
      if not _is_dead(record):
        return f'process {record["process"]} on {record["host"]}'
    if time.monotonic() > end:
      return 'another process'
    time.sleep(_OFTEN / 10)
