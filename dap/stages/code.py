"""Layer 0. Functions and classes by name, text and what they read."""

import ast
import dis
import functools
import hashlib
import inspect
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import dap


def sha256(text: str) -> str:
  """16 hexadecimal characters."""
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def name(value: object) -> str:
  """'dap.losses.pairwise.ipo_loss': the module and the place in it."""
  module = getattr(value, '__module__', None) or ''
  place = getattr(value, '__qualname__', None) or getattr(value, '__name__', '')
  return f'{module}.{place}'.lstrip('.')


def lookup(value: object) -> object:
  """What the module of `value` holds under its name; None if nothing."""
  found = sys.modules.get(getattr(value, '__module__', None) or '')
  place = getattr(value, '__qualname__', None) or getattr(value, '__name__', '')
  if not isinstance(place, str) or not place:
    return None
  for part in place.split('.'):
    found = getattr(found, part, None)
  return found


def is_array(value: object) -> bool:
  """True for numpy and jax arrays and numpy's own scalars."""
  return isinstance(value, np.ndarray | np.generic) or (
    type(value).__module__.startswith('jax') and hasattr(value, 'dtype')
  )


@functools.cache
def _library_folders() -> tuple[str, ...]:
  paths = sysconfig.get_paths()
  folders = {
    paths[kind] for kind in ('stdlib', 'platstdlib', 'purelib', 'platlib')
  }
  folders.add(str(Path(dap.__file__).parent))
  return tuple(sorted(str(Path(folder).resolve()) + '/' for folder in folders))


def is_library(value: object) -> bool:
  """Whether a function or class is this package's or an installed one's.

  Such code has a version, which stages name; the user's own has none.
  """
  module = sys.modules.get(getattr(value, '__module__', None) or '')
  if module is None:
    return not hasattr(value, '__code__')
  if module is sys.modules['__main__']:  # a script or a notebook
    return False
  file = getattr(module, '__file__', None)
  if file is None:  # built in
    return True
  return in_library(file)


@functools.cache
def in_library(file: str) -> bool:
  """Whether a file is this package's or an installed one's."""
  return str(Path(file).resolve()).startswith(_library_folders())


@functools.cache
def text_hash(code: types.CodeType) -> str:
  """A hash of a function's text, free of comments, layout and docstrings.

  Where there is no text, or a lambda's, of what it was compiled to.
  """
  try:
    tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
  except (OSError, TypeError, SyntaxError):
    return sha256(repr(_compiled(code)))
  if not isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef):
    return sha256(repr(_compiled(code)))
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
      _drop_docstring(node)
  return sha256(ast.unparse(tree))


def cells(function: Callable) -> dict[str, object]:
  """What a function closes over, by name."""
  closure = getattr(function, '__closure__', None) or ()
  names = function.__code__.co_freevars
  found = {}
  for cell_name, cell in zip(names, closure, strict=True):
    try:
      found[cell_name] = cell.cell_contents
    except ValueError:  # not yet assigned
      found[cell_name] = None
  return found


def defaults(function: Callable) -> dict[str, object]:
  """Default values of a function's arguments, by argument."""
  signature = inspect.signature(function, follow_wrapped=False)
  return {
    f'{argument}=': parameter.default
    for argument, parameter in signature.parameters.items()
    if parameter.default is not inspect.Parameter.empty
  }


def globals_read(function: Callable) -> dict[str, object]:
  """Globals that a function's text names, by name; modules left out."""
  names = sorted(set(_global_names(function.__code__)))
  found = {
    key: function.__globals__[key]
    for key in names
    if key in function.__globals__
  }
  return {
    key: value
    for key, value in found.items()
    if not inspect.ismodule(value) and key != '__builtins__'
  }


def members(kind: type) -> dict[str, Callable]:
  """Functions that a class's own text defines, by name."""
  found = {}
  for key, member in sorted(vars(kind).items()):
    if isinstance(member, property):
      member = member.fget
    member = getattr(member, '__func__', member)  # of static, class methods
    code = (
      getattr(inspect.unwrap(member), '__code__', None)
      if callable(member)
      else None
    )
    if code is not None and not code.co_filename.startswith('<string>'):
      found[key] = member
  return found


def _global_names(code: types.CodeType) -> Iterator[str]:
  for instruction in dis.get_instructions(code):
    if instruction.opname in ('LOAD_GLOBAL', 'LOAD_NAME'):
      yield instruction.argval
  for constant in code.co_consts:
    if isinstance(constant, types.CodeType):
      yield from _global_names(constant)


def _compiled(code: types.CodeType) -> tuple[object, ...]:
  """A code object as values that are the same in every process."""
  constants = [
    _compiled(constant)
    if isinstance(constant, types.CodeType)
    else sorted(map(repr, constant))
    if isinstance(constant, frozenset)
    else repr(constant)
    for constant in code.co_consts
  ]
  return (code.co_code.hex(), code.co_names, code.co_varnames, constants)


def _drop_docstring(
  node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
) -> None:
  first = node.body[0]
  if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
    node.body = node.body[1:] or [ast.Pass()]
