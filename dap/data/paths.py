"""Layer 3. Files by path, local or in a bucket.

`etils.epath` opens local paths, gs://, s3://, az:// and hf://; any other
protocol is for `fsspec` to know.
"""

import contextlib
import hashlib
import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO

from dap.errors import InputError

_PART = 1 << 20  # bytes


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
  """The file, for reading bytes, while the block lasts.

  Raises:
    OSError: as `open` has it.
    InputError: its protocol is unknown, or lacks a library, rights or network.
  """
  with contextlib.ExitStack() as file_stays_open:
    with _explained(path), contextlib.ExitStack() as opening:
      file = opening.enter_context(_open(path))
      file.read(1)  # some protocols look for the file only now
      file.seek(0)
      file_stays_open.push(opening.pop_all())
    yield file


def _open(path: str) -> AbstractContextManager[IO[bytes]]:
  from etils import epath

  try:
    return epath.Path(path).open('rb')
  except KeyError:  # a protocol that epath leaves to others
    return importlib.import_module('fsspec').open(path, 'rb')


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
  try:
    yield
  except OSError:
    raise
  except Exception as error:  # each protocol's library has its own
    raise InputError(
      f'{path} cannot be opened: {error}. Install and configure what its'
      ' protocol needs (gs:// needs gcsfs, s3:// needs s3fs), or copy the file'
      ' here.'
    ) from error


def read(path: str) -> bytes:
  """All of a file; raises as `opened` does."""
  with opened(path) as file:
    return file.read()


def exists(path: str) -> bool:
  """Whether there is a file or folder."""
  from etils import epath

  with _explained(path):
    try:
      return epath.Path(path).exists()
    except KeyError:
      files, own = importlib.import_module('fsspec').core.url_to_fs(path)
      return files.exists(own)


def content_hash(path: str) -> str:
  """SHA-256 of a file's bytes, hexadecimal; raises as `opened` does."""
  digest = hashlib.sha256()
  with opened(path) as file:
    while part := file.read(_PART):
      digest.update(part)
  return digest.hexdigest()
