"""Layer 3. Where raw rows lie: files of JSON lines.

A reader is a value with `read(split)`, the raw rows of a split with the place
of each, and `fingerprint()`, which names their content and never their place.
What the rows mean is for a format to know (`dap/data/formats`). Hugging Face's
hub and TFDS are read in `dap/data/hub.py`.

Files are JSON lines in UTF-8, gzipped or not, a line ending at a line feed and
nowhere else. Every mistake in them is an InputError with file and line.
"""

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dap.data import paths
from dap.data.schema import Placed, Row, Value, kind_of, shortened
from dap.errors import InputError

_GZIP_MAGIC = b'\x1f\x8b'


@runtime_checkable
class Reader(Protocol):
  """What a source needs of a reader; `split` is 'train' or 'test'.

  Attributes:
    test: what it reads for `test`, None where there is nothing.
  """

  @property
  def test(self) -> str | None: ...

  def read(self, split: str) -> Iterator[Placed]: ...

  def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class JsonlFiles:
  """Files of JSON lines, one raw row a line.

  Attributes:
    train: path of a .jsonl or .jsonl.gz file, for the split `train`; local, or
      of a protocol that `dap/data/paths.py` opens.
    test: the same for `test`, or None where there is none.
  """

  train: str | None
  test: str | None = None

  def read(self, split: str) -> Iterator[Placed]:
    """The objects of the split's file; blank lines are none."""
    path = {'train': self.train, 'test': self.test}[split]
    if path is None:
      raise InputError(
        f'The {split} split is needed, but these JsonlFiles name no file for'
        f' it: give JsonlFiles({split}=PATH).'
      )
    return _read_objects(path)

  def fingerprint(self) -> str:
    """Names the bytes of each file."""
    digest = hashlib.sha256()
    for path in (self.train, self.test):
      if path is None:
        digest.update(b'none')
        continue
      try:
        digest.update(paths.content_hash(path).encode())
      except OSError as error:
        raise InputError(
          f'{path}: cannot be read: {_reason(error)}. Give the path of a file.'
        ) from error
    return f'jsonl-{digest.hexdigest()}'


def _read_objects(path: str) -> Iterator[Placed]:
  empty = True
  for number, line in enumerate(_read_lines(path), start=1):
    where = f'{path}, line {number}'
    if not line.strip():
      continue
    try:
      text = line.decode('utf-8-sig' if number == 1 else 'utf-8')
    except UnicodeDecodeError as error:
      raise InputError(
        f'{where}: byte {error.start + 1} of the line,'
        f' 0x{line[error.start]:02x}, is no UTF-8. Save the file as UTF-8.'
      ) from error
    try:
      value = json.loads(text.rstrip(), object_pairs_hook=_once)
    except _RepeatedKey as error:
      raise InputError(
        f'{where}: the key {error} stands twice in one object, and only one of'
        ' its values would be read. Remove one.'
      ) from error
    except (ValueError, RecursionError) as error:
      what = getattr(error, 'msg', 'too deep, or a number too long')
      column = getattr(error, 'colno', 1)
      raise InputError(
        f'{where}: not JSON at column {column}: {what}. Each line must be one'
        ' whole JSON object.'
      ) from error
    if not isinstance(value, dict):
      raise InputError(
        f'{where}: each line must be a JSON object, got'
        f' {kind_of(value)}: {shortened(text)}.'
      )
    empty = False
    yield where, value
  if empty:
    raise InputError(
      f'{path}: no examples. Each split needs at least one line.'
    )


class _RepeatedKey(Exception):
  """An object of JSON has a key twice."""


def _once(pairs: list[tuple[str, Value]]) -> Row:
  """The object of these keys and values, at any depth of a row."""
  found = dict(pairs)
  if len(found) < len(pairs):
    ((key, _), *_) = Counter(key for key, _ in pairs).most_common(1)
    raise _RepeatedKey(shortened(repr(key)))
  return found


def _read_lines(path: str) -> Iterator[bytes]:
  try:
    with paths.opened(path) as file:
      is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
      file.seek(0)
      yield from gzip.GzipFile(fileobj=file) if is_gzip else file
  except FileNotFoundError as error:
    raise InputError(f'{path}: no such file. Give the path of one.') from error
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise InputError(
      f'{path}: the gzip data is damaged or cut short ({error}). Copy the file'
      ' again.'
    ) from error
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {_reason(error)}.') from error


def _reason(error: OSError) -> str:
  return error.strerror or str(error)
