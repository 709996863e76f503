"""Layer 0. What a finished stage says of itself, and whether it is still so.

stage.json has all that the stage's name is made of, a seal of every file, and
who made it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from dap import files, seals
from dap.stages import provenance

_RECORD = 'stage.json'
_CURE = (
  'Remove the folder and give the same command again: that stage alone is'
  ' repeated.'
)
# Files of Orbax below `checkpoint_N/params` and `rest`.
_OF_CHECKPOINT = re.compile(r'(^|/)checkpoint_\d+/(params|rest)/')


def records(folder: Path) -> Iterator[tuple[Path, files.Record]]:
  """Finished stages of the folder's name: folder and stage.json, newest first.

  Args:
    folder: of a stage, be it there or not: a name and a key.
  """
  name, parent = folder.name.rpartition('-')[0], folder.parent
  own = re.compile(re.escape(name) + '-[0-9a-f]{16}')
  found = [
    path / _RECORD
    for path in (parent.iterdir() if parent.is_dir() else ())
    if own.fullmatch(path.name) and (path / _RECORD).exists()
  ]
  for path in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True):
    try:
      yield path.parent, seals.read_json(path, _CURE)
    except seals.Broken:  # of an earlier version, or damaged: nobody reads it
      continue


def is_done(folder: Path) -> bool:
  """Whether a stage's folder is there, with all files in their sizes.

  Raises:
    InputError: it is there, and was changed after it was finished.
  """
  if not folder.exists():
    return False
  record = record_of(folder)
  sizes = {name: seal['size'] for name, seal in record['files'].items()}
  for name, size in {**sizes, **record['checkpoints']}.items():
    path = folder / name
    found = path.stat().st_size if path.exists() else None
    if found != size:
      was = 'is missing' if found is None else f'has {found} bytes'
      raise seals.Broken(
        f'{folder} was changed after it was finished: {name} {was}, not'
        f' {size} bytes. {_CURE}'
      )
  return True


def record_of(folder: Path) -> files.Record:
  """What stage.json says of a finished stage.

  Raises:
    InputError: it was changed, or is not there.
  """
  return seals.read_json(folder / _RECORD, _CURE)


def check(folder: Path) -> None:
  """Reads every file of a finished stage and holds it against its seal.

  Those of checkpoints have their own CRC, which who loads them checks.

  Raises:
    InputError: a file was changed after the stage was finished.
  """
  record = record_of(folder)
  seals.check_all(folder, record['files'], _CURE)


def write(folder: Path, description: files.Record, content: str) -> None:
  """Writes stage.json, last of a stage's files.

  Args:
    folder: with all other files of the stage.
    description: what its name is made of.
    content: what names it apart from code and libraries, see `artefacts.Job`.
  """
  record = {
    **description,
    **_manifest(folder),
    'content': content,
    'made': provenance.of_process(),
  }
  seals.write_json(folder / _RECORD, record)


def _manifest(folder: Path) -> dict[str, dict]:
  """Seals of a stage's files by their names; of a checkpoint's the sizes.

  The latter have a CRC-32 in the metadata.json beside them.
  """
  sealed: dict[str, seals.Seal] = {}
  sizes: dict[str, int] = {}
  for path in sorted(folder.rglob('*')):
    if not path.is_file() or path == folder / _RECORD:
      continue
    name = path.relative_to(folder).as_posix()
    if _OF_CHECKPOINT.search(name):
      sizes[name] = path.stat().st_size
    else:
      sealed[name] = seals.of(path)
  return {'files': sealed, 'checkpoints': sizes}
