"""Layer 3. What a checkpoint says of itself, and whether it is still so.

metadata.json has the step, the digest of the configuration that wrote it, who
wrote it when, facts that others need (whether prompts end, say), name, shape
and dtype of every array, CRC-32 of every file and of itself, and how far the
files beside it had come.
"""

import json
import pathlib
import zlib
from typing import Any, NotRequired, TypedDict

from etils import epath

from dap import errors, files, seals

VERSION = 2
Place = pathlib.Path | epath.Path
Json = Any  # what a JSON file can hold


class Damaged(seals.Broken):
  """A checkpoint is not what was saved."""


class Entry(TypedDict):
  """What metadata.json says of an array."""

  shape: list[int]
  dtype: str


class Metadata(TypedDict):
  """metadata.json without its own CRC-32; arrays and files by their names.

  `beside` has, for a file of the training, its size and a hash of it as they
  were when this was saved. Version 1 had neither that nor `made`.
  """

  version: int
  step: int
  digest: str
  facts: dict[str, Json]
  params: dict[str, Entry]
  rest: dict[str, Entry]
  files: dict[str, int]
  beside: NotRequired[dict[str, seals.Seal]]
  made: NotRequired[dict[str, Any]]  # see `provenance.of_process`


def write(folder: pathlib.Path, written: Metadata) -> None:
  """Writes metadata.json, with a CRC-32 of what it says."""
  told = {**written, 'crc32': _crc_of_json(written)}
  files.write_json(folder / 'metadata.json', told)


def read(folder: Place) -> Metadata:
  """What a checkpoint says of itself.

  Raises:
    errors.InputError: there is no checkpoint at `folder`, or it is damaged.
  """
  path = folder / 'metadata.json'
  try:
    found = json.loads(path.read_text())
    crc = found.pop('crc32')
  except (FileNotFoundError, NotADirectoryError):
    raise errors.InputError(
      f'A checkpoint is a folder with metadata.json, params and rest; {folder}'
      ' is none. Give the folder checkpoint_<step> of a finished or running'
      ' training, or its parent to take the newest.'
    ) from None
  except (
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    RecursionError,
  ) as error:
    raise _damaged(folder, f'metadata.json cannot be read ({error})') from None
  if crc != _crc_of_json(found):
    raise _damaged(folder, 'metadata.json fails its CRC-32')
  found.setdefault('facts', {})  # older versions had none
  return found


def check_files(folder: Place, part: str) -> None:
  """Holds every file of a part against its CRC-32.

  Before any reader sees it: they report damage by many kinds of exceptions.

  Raises:
    errors.InputError: a file is missing or damaged.
  """
  for name, crc in read(folder)['files'].items():
    if not name.startswith(f'{part}/'):
      continue
    if not (folder / name).is_file():
      raise _damaged(folder, f'{name} is missing')
    if _crc_of_file(folder / name) != crc:
      raise _damaged(folder, f'{name} fails its CRC-32')


def crc_of_files(folder: pathlib.Path) -> dict[str, int]:
  """CRC-32 of all files in a folder, by their names in it."""
  return {
    path.relative_to(folder).as_posix(): _crc_of_file(path)
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def _crc_of_file(path: Place) -> int:
  crc = 0
  with path.open('rb') as file:
    while part := file.read(1 << 20):
      crc = zlib.crc32(part, crc)
  return crc


def _crc_of_json(value: object) -> int:
  return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _damaged(folder: Place, reason: str) -> Damaged:
  return Damaged(
    f'The checkpoint {folder} is damaged: {reason}. Copy it again from where it'
    ' came, or remove that folder and give the command that trained it again.'
  )
