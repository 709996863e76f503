"""Layer 3. Files by path, local or in a bucket.

`etils.epath` opens local paths, gs://, s3://, az:// and hf://; any other
protocol is for `fsspec` to know.
"""

import hashlib
import importlib
from typing import Any

from dap.errors import InputError

_PART = 1 << 20  # bytes


def open_binary(path: str) -> Any:
  """The file, opened for reading.

  Raises:
    OSError: as `open` has it.
    InputError: its protocol is unknown, or lacks a library, rights or network.
  """
  from etils import epath

  try:
    try:
      return epath.Path(path).open('rb')
    except KeyError:  # a protocol that epath leaves to others
      return importlib.import_module('fsspec').open(path, 'rb').open()
  except OSError:
    raise
  except Exception as error:  # each protocol's library has its own
    raise InputError(
      f'{path} cannot be opened: {error}. Install and configure what its'
      ' protocol needs (gs:// needs gcsfs, s3:// needs s3fs), or copy the file'
      ' here.'
    ) from error


def read(path: str) -> bytes:
  """All of a file; raises as `open_binary` does."""
  with open_binary(path) as file:
    return file.read()


def exists(path: str) -> bool:
  """Whether there is a file or folder."""
  from etils import epath

  return epath.Path(path).exists()


def content_hash(path: str) -> str:
  """SHA-256 of a file's bytes, hexadecimal; raises as `open_binary` does."""
  digest = hashlib.sha256()
  with open_binary(path) as file:
    while part := file.read(_PART):
      digest.update(part)
  return digest.hexdigest()
