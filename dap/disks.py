"""Layer 0. Plain words for a disk that is full or may not be written."""

import contextlib
import errno
import itertools
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from dap.errors import InputError

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OS_ERROR = re.compile(r"os_error_code='(\d+)'|os error (\d+)")
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_FOLDER = frozenset(
  {errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOENT}
)
_ALL = FULL_DISK | _REFUSED | _NO_FOLDER
_LARGEST = 3
_MOST_FILES = 20_000  # looked at when telling what takes the room


@contextlib.contextmanager
def explained(
  path: str | Path, errnos: Collection[int] = _ALL
) -> Iterator[None]:
  """Turns an OSError of writing `path` into an InputError.

  The message says what could not be written and what to free or to change.
  An OSError of another kind (a failing device, say) passes unchanged.

  Args:
    path: what is being written, or the folder of it.
    errnos: the kinds to turn: full disks, missing rights and no folders.
  """
  try:
    yield
  except OSError as error:
    message = _explanation(error, Path(path))
    if message is None or error.errno not in errnos:
      raise
    raise InputError(message) from error


@contextlib.contextmanager
def as_os_error(path: str | Path) -> Iterator[None]:
  """Gives a library's errors of a full disk the type that Python's have.

  tensorstore and safetensors raise errors of their own with the number inside.
  """
  try:
    yield
  except OSError:
    raise
  except Exception as error:
    code = _OS_ERROR.search(str(error))
    if code is None:
      raise
    number = int(code.group(1) or code.group(2))
    raise OSError(number, os.strerror(number), str(path)) from error


def readable_size(num_bytes: float) -> str:
  """1536 -> '1.5 KiB'."""
  for unit in ('bytes', 'KiB', 'MiB', 'GiB'):
    if num_bytes < 1024:
      return f'{num_bytes:.4g} {unit}'
    num_bytes /= 1024
  return f'{num_bytes:.4g} TiB'


def _explanation(error: OSError, path: Path) -> str | None:
  why = error.strerror or str(error)
  named = error.filename or path
  if error.errno == errno.EFBIG:
    return (
      f'{path} could not be written: {why}: files have a limit here. What'
      ' was finished before is whole. Raise the limit (ulimit -f), or give a'
      ' folder on another file system, then give the same command again.'
    )
  if error.errno in FULL_DISK:
    return (
      f'{path} could not be written: {why}. {_room(path)} What was finished'
      ' before is whole. Free some space, then give the same command again.'
    )
  if error.errno in _REFUSED:
    return (
      f'{path} could not be written: {why}: {named}. Give a folder that this'
      ' user may write to, or change the permissions of this one.'
    )
  if error.errno in _NO_FOLDER:
    return (
      f'{path} could not be written: {why}: {named}. Give a path whose parent'
      ' is a folder.'
    )
  return None


def _room(path: Path) -> str:
  """How much is free where `path` is, and what takes most beside it."""
  folder = next(place for place in path.absolute().parents if place.is_dir())
  try:
    status = os.statvfs(folder)
    if status.f_files and not status.f_favail:
      return (
        f'The file system of {folder} has room for {status.f_files} files, and'
        ' all are taken: remove some, whatever their size.'
      )
    free = readable_size(shutil.disk_usage(folder).free)
    sizes = sorted((_size(place), place) for place in folder.iterdir())[::-1]
  except OSError:
    return ''
  largest = ', '.join(
    f'{place.name} ({readable_size(taken)})'
    for taken, place in sizes[:_LARGEST]
  )
  return f'{free} are free; the largest in {folder}: {largest or "nothing"}.'


def _size(path: Path) -> int:
  """Bytes of a file, or of the first many files in a folder."""
  if not path.is_dir() or path.is_symlink():
    return path.lstat().st_size
  files = (Path(at, name) for at, _, names in os.walk(path) for name in names)
  return sum(
    file.lstat().st_size for file in itertools.islice(files, _MOST_FILES)
  )
