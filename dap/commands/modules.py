"""Layer 8. Which modules gin files may import, and what of them they may name.

A gin file can call what it names, so it may name what is of `dap`, of a module
that lies beside one of the caller's gin files, or of one that the caller named
with `--import`. All else is refused before anything is imported. Files of the
project itself are part of `dap`.
"""

import importlib
import importlib.machinery
import inspect
import pathlib
import sys
import types
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gin import config_parser

from dap.commands import places, said, syntax
from dap.errors import InputError

# Of ours, what writes and removes: no choice of a configuration.
_TOOLS = ('dap.files', 'dap.folders', 'dap.main', 'dap.stages')


class Allowed(NamedTuple):
  """What may be imported.

  Attributes:
    roots: packages and modules, with all that is in them.
    folders: of the caller's gin files.
  """

  roots: tuple[str, ...]
  folders: tuple[pathlib.Path, ...] = ()

  def has(self, module: str) -> bool:
    """Whether a module may be named."""
    return any(f'{module}.'.startswith(f'{root}.') for root in self.roots)


def allowed(
  parsed: syntax.Parsed, named: Sequence[str] = (), own: Sequence[str] = ()
) -> Allowed:
  """What the files may import; refuses what else they do.

  Folders of modules that are found there are added to the end of Python's path,
  so that they hide nothing, and workers find them too.

  Args:
    parsed: gin files.
    named: modules that the caller named with `--import`.
    own: packages of the commands.

  Raises:
    InputError: naming the first import that is not allowed.
  """
  files = list(_files(parsed.files))
  folders = tuple(dict.fromkeys(f.path.parent for f in files if _is_own(f)))
  for module in named:
    _find(module.partition('.')[0], (*folders, pathlib.Path.cwd()))
  found = Allowed(('dap', *own, *named), folders)
  beside: dict[str, None] = {}
  for file in files:
    for what, origin in _imports(file):
      root = what.module.partition('.')[0]
      if root == '__gin__' or not _is_own(file) or found.has(what.module):
        continue
      if not _find(root, folders):
        raise InputError(_refused(what, origin, folders))
      beside[root] = None
  return found._replace(roots=(*found.roots, *beside))


def check_named(
  allowed: Allowed, module: str, origin: str, instead: str
) -> None:
  """Refuses a module that a file names as a text, to be imported later.

  Args:
    allowed: modules.
    module: its name.
    origin: of the binding.
    instead: how to allow it.

  Raises:
    InputError: it may not be imported.
  """
  root = module.partition('.')[0]
  if not allowed.has(module) and not _find(root, allowed.folders):
    raise InputError(
      f'{origin}: a gin file can run what it imports, and {module} is neither'
      f' of dap nor beside the gin files. If you trust it, {instead}'
    )


def _files(files: Sequence[object]) -> Iterator[syntax.File]:
  for each in files:
    if isinstance(each, syntax.File):
      yield each
      yield from _files(each.statements)


def _imports(
  file: syntax.File,
) -> Iterator[tuple[config_parser.ImportStatement, str]]:
  for each in file.statements:
    if isinstance(each, syntax.Statement) and isinstance(
      each.what, config_parser.ImportStatement
    ):
      yield each.what, each.origin


def _is_own(file: syntax.File) -> bool:
  """Whether a file is the caller's, and not one of the project."""
  return not is_shipped(file.path)


def is_shipped(path: pathlib.Path) -> bool:
  """Whether a gin file is one of the project's own."""
  root = places.root().resolve()
  shipped = (root / 'gin', root / 'configs')
  return any(folder in path.resolve().parents for folder in shipped)


def _find(root: str, folders: Sequence[pathlib.Path]) -> bool:
  """Whether a module lies in one of the folders, and Python will find it."""
  if root in sys.stdlib_module_names:
    return False
  for folder in folders:
    spec = importlib.machinery.PathFinder.find_spec(root, [str(folder)])
    if spec is not None:
      if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
      return _would_be(root, spec)
  return _is_made_by_hand(root)


def _would_be(root: str, spec: importlib.machinery.ModuleSpec) -> bool:
  """Whether Python would import it under its name; forgets one of elsewhere.

  Such as of an earlier command in this process, in another folder.
  """
  if _place(importlib.machinery.PathFinder.find_spec(root)) != _place(spec):
    return False
  loaded = getattr(sys.modules.get(root), '__spec__', None)
  if loaded is not None and _place(loaded) != _place(spec):
    for name in [x for x in sys.modules if f'{x}.'.startswith(f'{root}.')]:
      del sys.modules[name]
  return True


def _is_made_by_hand(root: str) -> bool:
  """Whether a program made the module in this process, without any file."""
  module = sys.modules.get(root)
  has_file = getattr(module, '__spec__', None) or hasattr(module, '__file__')
  return module is not None and root != '__main__' and not has_file


def _place(spec: importlib.machinery.ModuleSpec | None) -> list[pathlib.Path]:
  if spec is None:
    return []
  found = [spec.origin] if spec.origin else spec.submodule_search_locations
  return [pathlib.Path(each).resolve() for each in found or ()]


def _refused(
  statement: config_parser.ImportStatement,
  origin: str,
  folders: Sequence[pathlib.Path],
) -> str:
  root = statement.module.partition('.')[0]
  start = f'{origin}: `{statement.format()}`: '
  there = importlib.machinery.PathFinder.find_spec(root)
  if there is None and root not in sys.stdlib_module_names:
    return (
      f'{start}there is no module `{root}`. If it is a file of yours, put its'
      f' folder on PYTHONPATH: PYTHONPATH=. dap train ... --import={root}, or'
      ' put it beside the gin file.'
    )
  where = ', '.join(map(places.shorten, folders))
  return (
    f'{start}a gin file can run what it imports, so it may import dap, modules'
    f' that lie beside the gin files ({where}), and those that you name. If you'
    f' trust this file, add --import={root}'
  )


def check_target(
  allowed: Allowed, way: Sequence[object], selector: str, origin: str
) -> None:
  """Refuses what a selector reaches outside of what may be imported.

  Args:
    allowed: modules.
    way: module, what was found in it, and so on to the target.
    selector: as it is written.
    origin: of the binding.

  Raises:
    InputError: a module on the way, or the module of the target, is none.
  """
  inside = ''
  for each in way:
    if isinstance(each, types.ModuleType):
      inside = each.__name__
    elif inspect.isroutine(each) or isinstance(each, type):
      inside = getattr(each, '__module__', None) or type(each).__module__
    if not allowed.has(inside):
      raise InputError(
        f'{origin}: `{selector}` reaches {inside}, and a gin file may name what'
        ' is of dap, of modules beside the gin files, or of those that you'
        f' name with --import={inside.partition(".")[0]}'
      )
  if any(f'{inside}.'.startswith(f'{tool}.') for tool in _TOOLS):
    raise InputError(
      f'{origin}: `{selector}` is {said.full_name(way[-1])}, which is no choice'
      ' of a configuration: it is for Python alone.'
    )
