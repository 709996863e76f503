"""Layer 0. What a file was when it was written, for whoever reads it later.

Disks, copies and editors change bytes without a word. What is kept has a seal,
its size and SHA-256, in a file that seals itself; who reads the file checks it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from dap import files
from dap.errors import InputError


class Seal(TypedDict):
  """A file's size in bytes and its SHA-256, hexadecimal."""

  size: int
  sha256: str


class Broken(InputError):
  """A file is not what was written."""


def of(path: str | Path) -> Seal:
  """The seal of a file as it lies there.

  Raises:
    InputError: it cannot be read.
  """
  try:
    size = os.stat(path).st_size
  except OSError as error:
    raise InputError(f'{path} cannot be read: {error.strerror}.') from error
  return {'size': size, 'sha256': files.fingerprint(path)}


def of_bytes(data: bytes) -> Seal:
  """The seal of a file that holds `data`."""
  return {'size': len(data), 'sha256': hashlib.sha256(data).hexdigest()}


def of_folder(folder: Path, skip: Iterable[str] = ()) -> dict[str, Seal]:
  """Seals of all files in a folder, by their names in it, in order.

  Args:
    folder: looked through to its depth.
    skip: names of files, or of folders with all that they hold.
  """
  skipped = frozenset(skip)
  found = {}
  for place, folders, names in os.walk(folder):
    within = Path(place).relative_to(folder)
    folders[:] = sorted(f for f in folders if str(within / f) not in skipped)
    for name in names:
      if str(within / name) not in skipped:
        found[str(within / name)] = of(Path(place, name))
  return dict(sorted(found.items()))


def check(path: str | Path, seal: Seal, cure: str) -> None:
  """Holds a file against its seal; read once in a process while unchanged.

  Args:
    path: the file.
    seal: what it was.
    cure: a sentence: what to do when it is not.

  Raises:
    Broken: it is missing, shorter, longer or changed.
  """
  try:
    size = os.stat(path).st_size
  except OSError as error:
    raise Broken(f'{path} is missing ({error.strerror}). {cure}') from None
  if size != seal['size']:
    raise Broken(
      f'{path} was changed after it was written: it has {size} bytes, not'
      f' {seal["size"]}. {cure}'
    )
  if files.fingerprint(path) != seal['sha256']:
    raise Broken(
      f'{path} was changed after it was written: it fails its SHA-256. {cure}'
    )


def check_all(folder: Path, seals: Mapping[str, Seal], cure: str) -> None:
  """`check` of every file of a folder that has a seal."""
  for name, seal in seals.items():
    check(folder / name, seal, cure)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
  """Writes an object as `files.write_json` does, with a hash of itself."""
  whole = dict(value)
  files.write_json(path, {**whole, 'sha256': _of_json(whole)})


def read_json(path: str | Path, cure: str) -> files.Record:
  """What `write_json` was given.

  Raises:
    Broken: the file is missing, changed or none of ours.
  """
  try:
    found = files.read_json(path)
    seal = found.pop('sha256')
    whole = seal == _of_json(found)
  except (InputError, AttributeError, KeyError, TypeError) as error:
    raise Broken(f'{path} is damaged or missing ({error}). {cure}') from None
  if not whole:
    raise Broken(
      f'{path} was changed after it was written: it fails its SHA-256. {cure}'
    )
  return found


def sealed(record: Mapping[str, Any]) -> files.Record:
  """The record with a hash of itself, for a line of a file."""
  return {**record, 'sha256': _of_json(dict(record))[:16]}


def whole_lines(path: str | Path) -> tuple[list[files.Record], int]:
  """The records that `sealed` made and nobody changed, without their hashes.

  Records without a hash, as earlier versions wrote them, are taken as they are.

  Returns:
    The records, and the number of those left out.
  """
  path = Path(path)
  if not path.exists():
    return [], 0
  found, changed = [], 0
  whole, _, _ = path.read_bytes().rpartition(b'\n')  # a torn one is no loss
  for line in whole.splitlines():
    try:
      record = json.loads(line)
      seal = record.pop('sha256', None)
    except (ValueError, AttributeError, RecursionError):
      changed += 1
      continue
    if seal is not None and seal != _of_json(record)[:16]:
      changed += 1
      continue
    found.append(record)
  return found, changed


def _of_json(value: object) -> str:
  text = json.dumps(value, sort_keys=True, ensure_ascii=True)
  return hashlib.sha256(text.encode()).hexdigest()
