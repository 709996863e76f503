"""Layer 8. Gin files and overrides, read into a list of bindings.

The syntax is gin's own (`gin.config_parser`), and so is the meaning of scopes,
macros, includes and dynamic registration. What differs is that nothing global
is registered and no function is wrapped: a configuration is a value, every
binding knows the line it is from, and so a binding that nobody reads can be
found (`dap.commands.reads`).
"""

import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import tokenize
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gin import config_parser

import dap
from dap.commands import nearest, places
from dap.errors import InputError


class Reference(NamedTuple):
  """`@scope/target`, or `@scope/target()` where `call` is true."""

  target: Any
  scope: tuple[str, ...]
  call: bool


class Macro(NamedTuple):
  """`%NAME`. `%gin.REQUIRED` is a macro too, which is never bound."""

  name: str


REQUIRED = Macro('gin.REQUIRED')


@dataclasses.dataclass(frozen=True, eq=False)
class Binding:
  """`scope/target.argument = value`; a macro is a target that is a string.

  `origin` is `file:line` or the override as it was typed. A binding of a part
  is a default: an experiment that includes the part may leave it unread.
  """

  scope: tuple[str, ...]
  target: Any
  argument: str
  value: Any
  origin: str
  is_override: bool = False
  is_part: bool = False

  @property
  def name(self) -> str:
    """How the binding is spelled: `BETA`, `offline/losses.ipo_loss.beta`."""
    target = name_of(self.target)
    bound = target if self.is_macro else f'{target}.{self.argument}'
    return '/'.join([*self.scope, bound])

  @property
  def is_macro(self) -> bool:
    """Whether this binds a macro."""
    return isinstance(self.target, str)


def name_of(target: Any) -> str:
  """How to speak of a function, class or macro: `losses.pairwise.ipo_loss`."""
  if isinstance(target, str):
    return target
  module = getattr(target, '__module__', None) or ''
  name = getattr(target, '__qualname__', repr(target))
  return f'{module}.{name}'.removeprefix('dap.')


def parameters(target: Any) -> dict[str, inspect.Parameter]:
  """The parameters of a function or class; empty where Python cannot tell."""
  try:
    return dict(inspect.signature(target).parameters)
  except (TypeError, ValueError):
    return {}


class _Symbols(dict[str, Any]):
  """The names that the import statements of one file provide."""


class _Selector(NamedTuple):
  """A reference as written, before its name is looked up."""

  text: str
  call: bool


class _Delegate(config_parser.ParserDelegate):
  """Records references and macros; looks nothing up."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    return _Selector(scoped_configurable_name, evaluate)

  def macro(self, macro_name):
    return Macro(macro_name)


def read(
  files: Sequence[str], overrides: Sequence[tuple[str, str]] = ()
) -> tuple[Binding, ...]:
  """Read gin files in order, then overrides; later bindings win.

  Args:
    files: paths as typed: looked up from the current directory, then among the
      project's own `gin/` and `configs/`.
    overrides: (NAME, VALUE) of each `--gin.NAME=VALUE`.

  Raises:
    InputError: a file is missing or malformed, or a name in it is unknown.
  """
  bindings: list[Binding] = []
  symbols: list[_Symbols] = []
  for file in files:
    path = places.find(file)
    bindings.extend(_read_file(path, (), symbols))
  known = [*symbols, _loaded()]
  for name, value in overrides:
    bindings.append(_read_override(name, value, known))
  return tuple(bindings)


def _read_file(
  path: pathlib.Path, including: tuple[pathlib.Path, ...], seen: list[_Symbols]
) -> list[Binding]:
  if path in including:
    chain = ' includes '.join(places.shorten(p) for p in (*including, path))
    raise InputError(
      f'A gin file includes itself: {chain}. Remove one include.'
    )
  try:
    text = path.read_text(encoding='utf-8')
  except UnicodeDecodeError as error:
    raise InputError(
      f'{path}: a gin file is UTF-8 text; byte {error.start} is not. Save it as'
      ' UTF-8.'
    ) from None
  symbols = _Symbols()
  seen.append(symbols)
  bindings = []
  for statement in _statements(text, places.shorten(path)):
    origin = f'{places.shorten(path)}:{statement.location.line_num}'
    match statement:
      case config_parser.ImportStatement():
        _import(statement, symbols, origin)
      case config_parser.IncludeStatement():
        part = places.find_include(statement.filename, path, origin)
        bindings.extend(_read_file(part, (*including, path), seen))
      case config_parser.BlockDeclaration():
        _look_up(statement.selector, [symbols], origin)
      case config_parser.BindingStatement():
        bound = _binding(statement, [symbols], origin)
        part = places.is_part(path)
        bindings.append(dataclasses.replace(bound, is_part=part))
  return bindings


def _read_override(name: str, value: str, symbols: list[_Symbols]) -> Binding:
  origin = f'--gin.{name}={value}'
  hint = (
    f'{origin}: a value is a number, True, None, @name, %NAME, a list or a'
    f""" string in its own quotes, such as --gin.{name}='"{value}"'."""
  )
  try:
    statements = list(_statements(f'{name} = {value}', origin))
  except InputError:
    raise InputError(hint) from None
  if len(statements) != 1 or not isinstance(
    statements[0], config_parser.BindingStatement
  ):
    raise InputError(hint)
  binding = _binding(statements[0], symbols, origin)
  return dataclasses.replace(binding, is_override=True)


def _statements(text: str, origin: str) -> Iterator[Any]:
  try:
    yield from config_parser.ConfigParser(text, _Delegate())
  except SyntaxError as error:  # IndentationError is one
    where = f'{origin}:{error.lineno}' if error.lineno else origin
    line = f' Line: {error.text.strip()}' if error.text else ''
    raise InputError(f'{where}: not gin syntax: {error.msg}{line}') from None
  except tokenize.TokenError as error:
    raise InputError(
      f'{origin}: not gin syntax: {error.args[0]}. Close every bracket and'
      ' quote.'
    ) from None


def _binding(
  statement: config_parser.BindingStatement,
  symbols: list[_Symbols],
  origin: str,
) -> Binding:
  scope = tuple(part for part in statement.scope.split('/') if part)
  value = _looked_up(statement.value, symbols, origin)
  if not statement.arg_name:
    name = '/'.join([*scope, statement.selector])
    return Binding((), name, 'value', value, origin)
  target = _look_up(statement.selector, symbols, origin)
  known = parameters(target)
  takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
  if known and not takes_any and statement.arg_name not in known:
    raise InputError(
      f'{origin}: {name_of(target)} has no argument `{statement.arg_name}`.'
      f'{nearest.hint(statement.arg_name, known)}'
    )
  return Binding(scope, target, statement.arg_name, value, origin)


def _looked_up(value: Any, symbols: list[_Symbols], origin: str) -> Any:
  if isinstance(value, _Selector):
    *scope, selector = value.text.split('/')
    target = _look_up(selector, symbols, origin)
    return Reference(target, tuple(scope), value.call)
  return map_value(lambda v: _looked_up(v, symbols, origin), value)


def map_value(function: Callable[[Any], Any], value: Any) -> Any:
  """Apply `function` to the items of a list, tuple or dict; others stay."""
  if type(value) in (list, tuple):
    return type(value)(function(item) for item in value)
  if type(value) is dict:
    return {function(key): function(item) for key, item in value.items()}
  return value


def _import(
  statement: config_parser.ImportStatement, symbols: _Symbols, origin: str
):
  if statement.module.startswith('__gin__.'):
    if statement.module != '__gin__.dynamic_registration':
      raise InputError(
        f'{origin}: gin has no feature `{statement.module}`. Write `from'
        ' __gin__ import dynamic_registration`.'
      )
    return
  try:
    module = importlib.import_module(statement.module)
  except ModuleNotFoundError as error:
    raise InputError(
      f'{origin}: `{statement.format()}`: there is no module `{error.name}`.'
      f'{_near_module(statement.module, error.name)}'
    ) from error
  if not (statement.is_from or statement.alias):
    module = importlib.import_module(statement.module.split('.')[0])
  symbols[statement.bound_name()] = module


def _near_module(wanted: str, missing: str | None) -> str:
  parent, _, leaf = wanted.rpartition('.')
  if missing != wanted or not parent:
    return (
      ' Install the package that has it; tensorflow, seqio and'
      " tensorflow_datasets come with: pip install -e '.[seqio]'"
    )
  package = importlib.import_module(parent)
  names = [
    m.name for m in pkgutil.iter_modules(getattr(package, '__path__', []))
  ]
  return nearest.hint(leaf, names)


def _look_up(selector: str, symbols: list[_Symbols], origin: str) -> Any:
  """The function or class of a dotted name; among the files that know it."""
  root, *attributes = selector.split('.')
  modules = [table[root] for table in symbols if root in table]
  if not modules:
    names = {name for table in symbols for name in table}
    raise InputError(
      f'{origin}: no import statement provides `{root}`.'
      f'{nearest.hint(root, names)} Import its module in the gin file, or give'
      ' the part that does with --gin_file.'
    )
  found: list[Any] = []
  for module in modules:
    value = module
    for attribute in attributes:
      value = getattr(value, attribute, None)
    if value is not None and value not in found:
      found.append(value)
  if not found:
    wanted = '.'.join(attributes)
    raise InputError(
      f'{origin}: {modules[0].__name__} has no `{wanted}`.'
      f'{nearest.hint(wanted, dir(modules[0]))}'
    )
  # `study.run` is a function to a file that imports `dap.study.run as study`,
  # and a module to one that imports `dap.study`.
  found = [value for value in found if callable(value)] or found
  if len(found) > 1:
    names = ', '.join(sorted(name_of(value) for value in found))
    raise InputError(
      f'{origin}: `{selector}` may be {names}. Write it in full.'
    )
  if not callable(found[0]):
    raise InputError(
      f'{origin}: a binding needs a function or a class; `{selector}` is a'
      f' {type(found[0]).__name__}.'
    )
  return found[0]


def _loaded() -> _Symbols:
  """What an override may name besides: `dap` and its loaded modules."""
  modules = {
    name: value
    for name, value in vars(dap).items()
    if isinstance(value, types.ModuleType)
  }
  return _Symbols(modules, dap=dap)
