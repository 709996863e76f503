"""Layer 8. Gin files and overrides as statements; nothing is imported.

So a missing file, an unclosed bracket or a module that has moved is told at
once, before what the files name is loaded (`dap.commands.bindings`).
"""

import pathlib
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gin import config_parser

from dap.commands import moved, places, said
from dap.errors import InputError

_SHOWN = 200  # characters of an override in a message
# Words of other languages for values that gin has.
_MEANT = {
  **dict.fromkeys(('true', 'false', 'yes', 'no', 'on', 'off'), 'True or False'),
  **dict.fromkeys(('none', 'null', 'nil'), 'None'),
  **dict.fromkeys(('inf', 'infinity'), '1e999, which is infinity'),
}


class Macro(NamedTuple):
  """`%NAME`. `%gin.REQUIRED` is a macro too, which is never bound."""

  name: str


class Selector(NamedTuple):
  """A reference as written, before its name is looked up."""

  text: str
  call: bool


class File(NamedTuple):
  """What a gin file says, in order; a file that it includes stands inside."""

  path: pathlib.Path
  statements: tuple['Statement | File', ...]


class Statement(NamedTuple):
  """One of gin's statements; `origin` is `file:line` or the override."""

  what: Any  # one of gin's four kinds
  origin: str


class Parsed(NamedTuple):
  """Gin files and overrides, read."""

  files: tuple[File, ...]
  overrides: tuple[Statement, ...]


class _Delegate(config_parser.ParserDelegate):
  """Records references and macros; looks nothing up."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    return Selector(scoped_configurable_name, evaluate)

  def macro(self, macro_name):
    return Macro(macro_name)


def parse(
  files: Sequence[str], overrides: Sequence[tuple[str, str]] = ()
) -> Parsed:
  """Read gin files, all that they include, and overrides.

  Args:
    files: paths as typed: looked up from the current directory, then among the
      project's own `gin/` and `configs/`.
    overrides: (NAME, VALUE) of each `--gin.NAME=VALUE`.

  Raises:
    InputError: a file is missing or malformed, or imports what has moved.
  """
  known: dict[pathlib.Path, File] = {}
  return Parsed(
    tuple(_file(places.find(file), (), known) for file in files),
    tuple(_override(name, value) for name, value in overrides),
  )


def _file(
  path: pathlib.Path,
  including: tuple[pathlib.Path, ...],
  known: dict[pathlib.Path, File],
) -> File:
  """The file, read once however often it is included."""
  if path in including:
    chain = ' includes '.join(places.shorten(p) for p in (*including, path))
    raise InputError(
      f'A gin file includes itself: {chain}. Remove one include.'
    )
  if path in known:
    return known[path]
  found: list[Statement | File] = []
  for what, origin in statements(path):
    match what:
      case config_parser.IncludeStatement():
        part = places.find_include(what.filename, path, origin)
        found.append(_file(part, (*including, path), known))
        continue
      case config_parser.ImportStatement():
        _check_import(what, origin)
    found.append(Statement(what, origin))
  known[path] = File(path, tuple(found))
  return known[path]


def statements(path: pathlib.Path) -> Iterator[Statement]:
  """What stands in one file; what it includes is a statement, unread.

  Raises:
    InputError: the file is malformed.
  """
  try:
    text = path.read_text(encoding='utf-8')
  except UnicodeDecodeError as error:
    raise InputError(
      f'{path}: a gin file is UTF-8 text; byte {error.start} is not. Save it as'
      ' UTF-8.'
    ) from None
  name = places.shorten(path)
  for what in _statements(text, name):
    yield Statement(what, f'{name}:{what.location.line_num}')


def _check_import(statement: config_parser.ImportStatement, origin: str):
  if not statement.module.startswith('__gin__.'):
    if now := moved.MODULES.get(statement.module):
      raise InputError(
        f'{origin}: {statement.module} moved to {now}. Write `'
        f'{_import_of(now, statement)}`.'
      )
  elif statement.module != '__gin__.dynamic_registration':
    raise InputError(
      f'{origin}: gin has no feature `{statement.module}`. Write `from'
      ' __gin__ import dynamic_registration`.'
    )


def _import_of(module: str, like: config_parser.ImportStatement) -> str:
  """An import of `module` that provides the name which `like` provides."""
  name = like.bound_name()
  if not like.is_from:
    return f'import {module}' + (f' as {name}' if like.alias else '')
  parent, _, leaf = module.rpartition('.')
  alias = '' if name == leaf else f' as {name}'
  return f'from {parent} import {leaf}{alias}'


def _override(name: str, value: str) -> Statement:
  short = said.cut(value, _SHOWN)
  origin = f'--gin.{said.cut(name)}={short}'
  meant = _MEANT.get(value.lower())
  instead = (
    f'Write {meant}.'
    if meant
    else 'a value is a number, True, None, @name, %NAME, a list or a string in'
    f""" its own quotes, such as --gin.{said.cut(name)}='"{short}"'."""
  )
  hint = f'{origin}: {instead}'
  try:
    statements = list(_statements(f'{name} = {value}', origin))
  except InputError:
    raise InputError(hint) from None
  if len(statements) != 1 or not isinstance(
    statements[0], config_parser.BindingStatement
  ):
    raise InputError(hint)
  return Statement(statements[0], origin)


def _statements(text: str, origin: str) -> Iterator[Any]:  # see Statement.what
  parser = None
  try:
    parser = config_parser.ConfigParser(text, _Delegate())
    yield from parser
  except SyntaxError as error:  # IndentationError is one
    where = f'{origin}:{error.lineno}' if error.lineno else origin
    line = f' Line: {error.text.strip()}' if error.text else ''
    raise InputError(f'{where}: not gin syntax: {error.msg}{line}') from None
  except (TypeError, ValueError, RecursionError, MemoryError) as error:
    why = str(error) or type(error).__name__
    token = parser and parser.current_token
    where = f'{origin}:{token.start[0]}' if token else origin
    raise InputError(
      f'{where}: not gin syntax: a value that Python cannot read: {why}. Keys'
      ' of a dictionary are texts, numbers or tuples of these.'
    ) from None
  except tokenize.TokenError as error:
    raise InputError(
      f'{origin}: not gin syntax: {error.args[0]}. Close every bracket and'
      ' quote.'
    ) from None
