"""Layer 0. The code that a result was made by: modules, and all they import.

A module is told by its syntax tree without docstrings and annotations, so that
words, comments and layout change no name. Libraries are told by their versions
(`provenance.libraries`).
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import marshal
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import dap
from dap.stages import code

_PACKAGE = Path(dap.__file__).resolve().parent
_TEXTS = frozenset({'source', '$code', 'members'})
_NAMES = frozenset({'$type', '$function', '$class', '$object', '$enum'})


def reached(names: Iterable[str]) -> dict[str, str]:
  """Hashes of these modules and of all of ours that they reach by import.

  An import inside a function counts. Ours is what no installed library has:
  this package, and the caller's own modules.

  Args:
    names: of modules; those of libraries are passed over.

  Returns:
    16 hexadecimal characters by the name of each module, in order.
  """
  found: dict[str, str] = {}
  waiting = [name for each in names for name in _with_parents(each)]
  while waiting:
    name = waiting.pop()
    if name in found or (file := _file_of(name)) is None:
      continue
    status = os.stat(file)
    read = _read(name, file, status.st_size, status.st_mtime_ns)
    found[name], imports = read
    waiting.extend(imports)
  return dict(sorted(found.items()))


def of_values(*given: object) -> list[str]:
  """Modules of values: of their types, and of the functions that they hold."""
  found: list[str] = []
  for value in given:
    if isinstance(value, functools.partial):
      found += of_values(value.func, *value.args, *value.keywords.values())
    elif hasattr(value, '__code__'):
      found.append(value.__module__)
    elif isinstance(value, tuple | list):
      found += of_values(*value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
      found.append(type(value).__module__)
      names = [field.name for field in dataclasses.fields(value)]
      found += of_values(*(getattr(value, name) for name in names))
    else:
      found.append(type(value).__module__)
  return found


def named_in(description: object) -> Iterator[str]:
  """Modules of the classes and functions that `values.describe` names."""
  if isinstance(description, dict):
    for key, value in description.items():
      if key in _NAMES and isinstance(value, str):
        yield _module_of(value)
      else:
        yield from named_in(value)
  elif isinstance(description, list):
    for each in description:
      yield from named_in(each)


def without_code(description: Any) -> Any:
  """A description by `values.describe` less the hashes of texts in it."""
  if isinstance(description, dict):
    return {
      key: without_code(value)
      for key, value in description.items()
      if key not in _TEXTS
    }
  if isinstance(description, list):
    return [without_code(each) for each in description]
  return description


def _module_of(name: str) -> str:
  """'dap.losses.pairwise' of 'dap.losses.pairwise.ipo_loss'."""
  while name and name not in sys.modules:
    name = name.rpartition('.')[0]
  return name


def _with_parents(name: str) -> list[str]:
  parts = name.split('.')
  return ['.'.join(parts[:end]) for end in range(1, len(parts) + 1)]


@functools.cache
def _file_of(name: str) -> str | None:
  """The file of a module of ours; None for others and for what is no module."""
  root, *inside = name.split('.')
  if root == 'dap':
    path = _PACKAGE.joinpath(*inside)
    for file in (path / '__init__.py', path.with_suffix('.py')):
      if file.is_file():
        return str(file)
    return None
  if root in sys.stdlib_module_names or root == '__main__':
    return None
  return _own_file(name)


def _own_file(name: str) -> str | None:
  module = sys.modules.get(name)
  file = getattr(module, '__file__', None)
  if module is None and name.partition('.')[0] in sys.modules:
    try:
      found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
      return None
    file = found.origin if found is not None else None
  if file is None or not file.endswith('.py') or code.in_library(file):
    return None
  return file


def _absolute(name: str, within: str, file: str) -> str:
  """A relative import's module, from the name of the module that has it."""
  if not name.startswith('.'):
    return name
  rest = name.lstrip('.')
  up = len(name) - len(rest) - file.endswith('__init__.py')
  parts = within.split('.')
  return '.'.join([*parts[: len(parts) - up], *filter(None, [rest])])


@functools.cache
def _read(
  name: str, file: str, size: int, changed: int
) -> tuple[str, tuple[str, ...]]:
  """The hash of a module's tree, and the modules of ours that it imports."""
  del size, changed
  tree = ast.parse(Path(file).read_bytes(), file)
  imports: list[str] = []
  content = marshal.dumps(_plain(tree, imports), 2)
  reached = dict.fromkeys(
    each
    for written in imports
    for each in _with_parents(_absolute(written, name, file))
    if _file_of(each) is not None
  )
  return hashlib.sha256(content).hexdigest()[:16], tuple(reached)


def _plain(node: object, imports: list[str]) -> Any:  # what marshal takes
  """A tree as tuples and words, equal for equal trees in every process."""
  if isinstance(node, list):
    return tuple([_plain(each, imports) for each in node])
  if not isinstance(node, ast.AST):
    return node if isinstance(node, str | None) else repr(node)
  kind = type(node).__name__
  fields = {name: getattr(node, name, None) for name in node._fields}
  match node:
    case ast.Import():
      imports.extend(alias.name for alias in node.names)
    case ast.ImportFrom():
      base = '.' * node.level + (node.module or '')
      joint = '' if base.endswith('.') or not base else '.'
      imports.append(base)
      imports.extend(f'{base}{joint}{alias.name}' for alias in node.names)
    case ast.FunctionDef() | ast.AsyncFunctionDef():
      fields |= {'returns': None, 'body': _without_docstring(node.body)}
    case ast.ClassDef():
      fields['body'] = _without_docstring(node.body)
    case ast.Module():
      body = _without_docstring(node.body)
      fields['body'] = [each for each in body if not _is_version(each)]
    case ast.arg() | ast.AnnAssign():
      fields['annotation'] = None
  parts = [_plain(value, imports) for value in fields.values()]
  return (kind, *parts)


def _is_version(statement: ast.stmt) -> bool:
  """`__version__ = …`: a release by itself changes no number."""
  return isinstance(statement, ast.Assign) and any(
    isinstance(target, ast.Name) and target.id == '__version__'
    for target in statement.targets
  )


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
  first = body[0] if body else None
  if (
    isinstance(first, ast.Expr)
    and isinstance(first.value, ast.Constant)
    and isinstance(first.value.value, str)
  ):
    return body[1:]
  return body
