"""Layer 0. Files that are whole or absent."""

import contextlib
import fcntl
import functools
import hashlib
import io
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from etils import epath

from dap import disks
from dap.errors import InputError

# An object of JSON; what it holds, as what a JSON file holds, only its reader
# knows: there is no type for it.
Record = dict[str, Any]


def write_atomically(path: str | Path, data: str | bytes) -> None:
  """Writes `path` whole or not at all: aside, flushed to disk, then renamed."""
  encoded = data.encode() if isinstance(data, str) else data
  with atomic_file(path) as file:
    file.write(encoded)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
  """A file to write into that becomes `path` when the block ends well.

  What stood at `path` before stays until then, and stays for good when the
  block raises.
  """
  path = Path(path)
  aside = path.with_name(f'.{path.name}.{writer()}.aside')
  with disks.explained(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, f'.{path.name}.', '.aside')
    try:
      with open(aside, 'xb') as file:  # never through a link that lies there
        yield file
        file.flush()
        os.fsync(file.fileno())
      os.replace(aside, path)
      sync_folder(path.parent)
    finally:
      aside.unlink(missing_ok=True)


@functools.cache
def _host() -> str:
  return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def writer() -> str:
  """What half-written files of this process have in their names."""
  return f'{_host()}-{os.getpid()}'


def sweep(folder: Path, start: str, end: str = '') -> None:
  """Removes what dead processes of this machine left half-written.

  Args:
    folder: looked through, not what is below it.
    start: that their names begin with, before `writer()` of who wrote them.
    end: that their names end with.
  """
  own = re.compile(re.escape(start) + rf'{_host()}-(\d+)\b.*' + re.escape(end))
  with os.scandir(folder) as found:
    entries = [(entry, own.fullmatch(entry.name)) for entry in found]
  for entry, match in entries:
    if match is None or _is_alive(int(match.group(1))):
      continue
    if entry.is_dir(follow_symlinks=False):
      remove_folder(Path(entry.path))
    else:
      Path(entry.path).unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
  """Whether another process of that number lives."""
  if process == os.getpid():
    return False
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except OSError:  # it is somebody else's
    return True
  return True


def remove_folder(folder: Path, patience: float = 5.0) -> None:
  """Removes a folder, also while a writer that failed still adds to it.

  Threads of a library may write on for a moment after their error was raised.

  Args:
    folder: that goes, if it is there.
    patience: seconds until what cannot be removed is left.
  """
  end = time.monotonic() + patience
  shutil.rmtree(folder, ignore_errors=True)
  while folder.exists() and time.monotonic() < end:
    time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def write_arrays(path: str | Path, arrays: Mapping[str, object]) -> None:
  """Writes named arrays as one .npz, atomically."""
  import numpy as np

  with atomic_file(path) as file:
    np.savez(file, **dict(arrays))  # type: ignore[arg-type]


def read_arrays(
  path: str | Path, names: Collection[str] | None = None, cure: str = ''
) -> dict[str, Any]:
  """Named arrays of an .npz; all of them when no names are given.

  Args:
    path: of the file.
    names: that it must have.
    cure: a sentence: what to do when it cannot be read.

  Raises:
    InputError: it is not there, damaged, or lacks an array.
  """
  import zipfile
  import zlib

  import numpy as np

  try:
    with np.load(path, allow_pickle=False) as stored:
      return {name: stored[name] for name in names or stored.files}
  except (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
  ) as error:  # fmt: skip
    needed = f' with {", ".join(names)}' if names else ''
    raise InputError(
      f'{path} needs to be an .npz file of arrays{needed}: {error}. {cure}'
    ) from error


def write_json(path: str | Path, value: object) -> None:
  """Writes `value` as readable JSON, keys in order, atomically."""
  text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
  write_atomically(path, text + '\n')


def read_json(path: str | Path | epath.Path) -> Any:  # see `Record`
  """Reads a JSON file; an InputError names the file and line of a mistake."""
  try:
    return json.loads(epath.Path(path).read_bytes().decode('utf-8'))
  except OSError as error:
    why = error.strerror or error
    raise InputError(f'{path} cannot be read: {why}.') from error
  except UnicodeDecodeError as error:
    raise InputError(f'{path} is not UTF-8 text: {error}.') from error
  except json.JSONDecodeError as error:
    raise InputError(
      f'{path}, line {error.lineno}: not JSON ({error.msg}).'
    ) from error
  except (ValueError, RecursionError) as error:  # very long or deep
    raise InputError(f'{path} is no JSON of ours: {error}.') from error


def append_json_lines(
  path: str | Path, records: Iterable[Record], *, at: int | None = None
) -> bytes:
  """Appends one line for each record, in one write.

  A write that fails half-way (a full disk) is taken back, so the file still
  ends with a whole line; a torn line that a kill left at its end goes.

  Args:
    path: of the file, which is made where there is none.
    records: one a line.
    at: bytes that the file must have before, when one process alone writes it.

  Returns:
    What was appended.

  Raises:
    InputError: the file has another size, or cannot be written.
  """
  path = Path(path)
  data = ''.join(
    json.dumps(record, ensure_ascii=False, allow_nan=False) + '\n'
    for record in records
  ).encode()
  with disks.explained(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+b', buffering=0) as file, _alone(file):
      before = file.seek(0, os.SEEK_END)
      if at is not None:
        check_size(path, before, at)
      end = _end_of_last_line(file, before)
      try:
        if end < before:
          file.truncate(end)
        _write_all(file, data)
      except OSError:
        with contextlib.suppress(OSError):
          file.truncate(end)
        raise
  return data


def check_size(path: Path, found: int, wanted: int) -> None:
  """Refuses a file that somebody changed while it is being written."""
  if found != wanted:
    raise InputError(
      f'{path} was changed or taken away while it was being written: it has'
      f' {found} bytes, not {wanted}. Stop whoever else writes there, then give'
      ' the same command again: it goes on from the last checkpoint that is'
      ' whole.'
    )


@contextlib.contextmanager
def _alone(file: io.RawIOBase) -> Iterator[None]:
  """Keeps other processes from appending; without flock it does not."""
  with contextlib.suppress(OSError):
    fcntl.flock(file, fcntl.LOCK_EX)
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      fcntl.flock(file, fcntl.LOCK_UN)


def _end_of_last_line(file: io.RawIOBase, size: int) -> int:
  """Where the last whole line of a file ends."""
  end = size
  while end > 0:
    start = max(0, end - 65536)
    file.seek(start)
    part = file.read(end - start) or b''
    if b'\n' in part:
      return start + part.rindex(b'\n') + 1
    end = start
  return 0


def read_json_lines(path: str | Path) -> list[Record]:
  """The records of a JSON lines file; empty when there is no such file.

  A last line without its line feed is what a kill leaves behind: it is left
  out. Any other line that is not an object is an InputError with its number.
  """
  path = Path(path)
  if not path.exists():
    return []
  whole, _, _ = path.read_bytes().rpartition(b'\n')
  records = []
  for number, line in enumerate(whole.splitlines(), start=1):
    try:
      record = json.loads(line)
    except ValueError as error:
      raise InputError(f'{path}, line {number}: not JSON ({error}).') from error
    if not isinstance(record, dict):
      raise InputError(f'{path}, line {number}: needs an object, got {line!r}.')
    records.append(record)
  return records


def truncate_json_lines(
  path: str | Path, keep: Callable[[Record], bool]
) -> None:
  """Drops the records that `keep` refuses, and a torn last line, atomically.

  A restart at step n keeps `lambda record: record['step'] <= n`, so that the
  metrics of a killed and continued run are those of an unbroken one.
  """
  path = Path(path)
  if not path.exists():
    return
  records = read_json_lines(path)  # checks every line before any is dropped
  lines = path.read_bytes().splitlines(keepends=True)
  kept = [line for record, line in zip(records, lines) if keep(record)]
  write_atomically(path, b''.join(kept))


def sync_folder(folder: str | Path) -> None:
  """Flushes the names in a folder to disk: a rename survives a power cut."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def publish_folder(partial: str | Path, folder: str | Path) -> None:
  """Renames `partial` to `folder` once all in it is flushed to disk."""
  partial, folder = Path(partial), Path(folder)
  with disks.explained(folder):
    for place, _, names in os.walk(partial):
      for name in names:
        _sync_file(Path(place, name))
      sync_folder(place)
    os.rename(partial, folder)
    sync_folder(folder.parent)


def fingerprint(path: str | Path) -> str:
  """SHA-256 of a file's content, hexadecimal.

  Read once for each (path, size, time of change) in a process.
  """
  try:
    status = os.stat(path)
    return _fingerprint(str(path), status.st_size, status.st_mtime_ns)
  except OSError as error:
    raise InputError(f'{path} cannot be read: {error.strerror}.') from error


@functools.cache
def _fingerprint(path: str, size: int, changed: int) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def shortened(text: str, limit: int = 80) -> str:
  """The beginning and the end of a long text."""
  half = (limit - 3) // 2
  return text if len(text) <= limit else f'{text[:half]}...{text[-half:]}'


def _write_all(file: io.RawIOBase, data: bytes) -> None:
  view = memoryview(data)
  while view:
    view = view[file.write(view) :]


def _sync_file(path: Path) -> None:
  if path.is_symlink():
    return
  with open(path, 'rb') as file:
    os.fsync(file.fileno())
