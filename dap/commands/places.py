"""Layer 8. Where gin files are: the repository, or the installed package."""

import os
import pathlib

import dap
from dap.commands import nearest
from dap.errors import InputError

PACKAGE = pathlib.Path(dap.__file__).resolve().parent


def root() -> pathlib.Path:
  """The directory that has `gin/` and `configs/`.

  That is the repository, or `dap/` itself where dap was installed.
  """
  repository = PACKAGE.parent
  has_parts = (repository / 'gin').is_dir() and (
    repository / 'setup.py'
  ).exists()
  return repository if has_parts else PACKAGE


def is_part(path: pathlib.Path) -> bool:
  """Whether a gin file is one of the project's parts."""
  return (root() / 'gin').resolve() in path.resolve().parents


def find(name: str) -> pathlib.Path:
  """A gin file as the caller typed it.

  Looked up from the current directory, then from `root()`.

  Raises:
    InputError: there is no such file; the message names the nearest.
  """
  path = pathlib.Path(name).expanduser()
  return _first([path, root() / path], name, f'--gin_file={name}')


def find_include(
  name: str, including: pathlib.Path, origin: str
) -> pathlib.Path:
  """A file named by an include statement.

  Looked up from `root()`, then beside the including file, then from the current
  directory.
  """
  path = pathlib.Path(name)
  beside = including.parent / path
  return _first([root() / path, beside, path], name, origin)


def _first(
  candidates: list[pathlib.Path], name: str, origin: str
) -> pathlib.Path:
  for path in candidates:
    if path.is_file():
      return path.resolve()
  looked = ', '.join(dict.fromkeys(str(path.parent) for path in candidates))
  raise InputError(f'{origin}: no such gin file in {looked}.{_near(name)}')


def _near(name: str) -> str:
  known = [
    path.relative_to(root()).as_posix()
    for folder in ('gin', 'configs')
    for path in (root() / folder).rglob('*.gin')
  ]
  by_leaf = {path.rpartition('/')[2]: path for path in known}
  leaf = pathlib.PurePosixPath(name).name
  close = nearest.names(name, known) or [
    by_leaf[found] for found in nearest.names(leaf, by_leaf)
  ]
  if close:
    return f' Nearest: {", ".join(close)}.'
  return f' The parts and experiments are under {root()}.'


def shorten(path: pathlib.Path) -> str:
  """The path as a message should show it: from `root()`, else as it is."""
  if path.is_relative_to(root()):
    return path.relative_to(root()).as_posix()
  current = pathlib.Path(os.getcwd())
  if path.is_relative_to(current):
    return path.relative_to(current).as_posix()
  return str(path)
