"""Layer 8. What people read of a training, sealed as it is written.

configuration.json and samples: no number depends on them, so damage is told and
ends nothing. training.json has their seals.
"""

from pathlib import Path

from dap import progress, seals

SEALED = 'training.json'
_CURE = 'Only people read it: nothing that is computed depends on it.'


class Readable:
  """The seals of one training's folder, in its training.json."""

  def __init__(self, folder: Path):
    """Reads them, and holds samples that lie there against them."""
    self._folder = folder
    self._seals: dict[str, seals.Seal] = _read(folder)
    for name in sorted(self._seals):
      if name.startswith('samples/'):
        _tell_damage(folder, name, self._seals[name])

  def has(self, name: str) -> bool:
    """Whether a file was written whole and lies there, damaged or not."""
    return name in self._seals and (self._folder / name).exists()

  def seal(self, name: str) -> None:
    """Seals a file that has just been written."""
    self._seals[name] = seals.of(self._folder / name)
    self._write()

  def close(self) -> None:
    """Seals what an older version left without."""
    found = {
      path.relative_to(self._folder).as_posix()
      for pattern in ('configuration.json', 'samples/*.txt')
      for path in self._folder.glob(pattern)
    }
    for name in found - self._seals.keys():
      self._seals[name] = seals.of(self._folder / name)
    self._write()

  def _write(self) -> None:
    files = dict(sorted(self._seals.items()))
    seals.write_json(self._folder / SEALED, {'files': files})


def check(folder: Path) -> None:
  """Holds what people read of a training against its seals.

  Raises:
    seals.Broken: a file was changed or taken away.
  """
  found = seals.read_json(folder / SEALED, _CURE)
  seals.check_all(folder, found['files'], _CURE)


def _read(folder: Path) -> dict[str, seals.Seal]:
  if not (folder / SEALED).exists():
    return {}
  try:
    return dict(seals.read_json(folder / SEALED, _CURE)['files'])
  except seals.Broken as error:
    progress.say(f'{error} It is written anew, of what lies there now.')
    return {}


def _tell_damage(folder: Path, name: str, seal: seals.Seal) -> None:
  try:
    seals.check(folder / name, seal, _CURE)
  except seals.Broken as error:
    progress.say(str(error))
