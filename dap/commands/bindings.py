"""Layer 8. Gin files and overrides, read into a list of bindings.

The syntax is gin's own (`gin.config_parser`), and so is the meaning of scopes,
macros, includes and dynamic registration. What differs is that nothing global
is registered and no function is wrapped: a configuration is a value, every
binding knows the line it is from, and so a binding that nobody reads can be
found (`dap.commands.reads`).
"""

import dataclasses
import functools
import importlib
import inspect
import pathlib
import pkgutil
import types
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from gin import config_parser

import dap
from dap.commands import modules, moved, nearest, places, said, syntax
from dap.commands.modules import Allowed
from dap.commands.said import full_name, name_of
from dap.commands.syntax import Macro, Selector
from dap.errors import InputError


class Reference(NamedTuple):
  """`@scope/target`, or `@scope/target()` where `call` is true."""

  target: object
  scope: tuple[str, ...]
  call: bool


REQUIRED = Macro('gin.REQUIRED')
# Packages that no plain installation has: how to get each (`setup.py`).
_EXTRAS = {
  **dict.fromkeys(
    ('tensorflow', 'seqio', 'tensorflow_datasets'),
    "pip install -e '.[seqio]'",
  ),
  **dict.fromkeys(
    ('t5x', 'airio', 'jestimator', 'clu', 'fiddle', 'grain'),
    'bash launch/install_t5x.sh',
  ),
  **dict.fromkeys(
    ('datasets', 'huggingface_hub'), "pip install -e '.[huggingface]'"
  ),
  'gcsfs': "pip install -e '.[gcs]'",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Binding:
  """`scope/target.argument = value`; a macro is a target that is a string.

  `origin` is `file:line` or the override as it was typed. A binding of a part
  is a default: an experiment that includes the part may leave it unread. It
  stands in `file`, and came with `given`, the file of a `--gin_file`: that one
  or one that includes it. An override has neither.
  """

  scope: tuple[str, ...]
  target: object
  argument: str
  value: object
  origin: str
  is_override: bool = False
  is_part: bool = False
  file: pathlib.Path | None = None
  given: pathlib.Path | None = None

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


class Bindings(tuple[Binding, ...]):
  """Bindings in the order read; those of one target are found at once."""

  @functools.cached_property
  def _by_target(self) -> dict[object, list[Binding]]:
    found: dict[object, list[Binding]] = {}
    for binding in self:
      found.setdefault(binding.target, []).append(binding)
    return found

  def of(self, target: object) -> Sequence[Binding]:
    """Those of a function, a class or a macro's name, in order."""
    return self._by_target.get(target, ())


def parameters(target: object) -> dict[str, inspect.Parameter]:
  """The parameters of a function or class; empty where Python cannot tell."""
  if not callable(target):
    return {}
  try:
    return dict(inspect.signature(target).parameters)
  except (TypeError, ValueError):
    return {}


class _Symbols(dict[str, types.ModuleType]):
  """The names that the import statements of one file provide.

  `allowed` is what may be reached through them; anything where it is None.
  """

  def __init__(self, allowed: Allowed | None, **names: types.ModuleType):
    super().__init__(names)
    self.allowed = allowed


def read(
  files: Sequence[str], overrides: Sequence[tuple[str, str]] = ()
) -> Bindings:
  """Read gin files in order, then overrides; later bindings win.

  Raises:
    InputError: as `syntax.parse`, `modules.allowed` and `look_up`.
  """
  parsed = syntax.parse(files, overrides)
  return look_up(parsed, modules.allowed(parsed))


def look_up(parsed: syntax.Parsed, allowed: Allowed) -> Bindings:
  """Import the modules that files name, and find what they bind there.

  Args:
    parsed: files and overrides.
    allowed: the modules that may be named.

  Raises:
    InputError: a name is unknown, stands for nothing that can be bound, or for
      something of a module that may not be named.
  """
  found: list[Binding] = []
  symbols: list[_Symbols] = []
  for file in parsed.files:
    found.extend(_of_file(file, symbols, file.path, allowed))
  known = [*(_Symbols(allowed, **each) for each in symbols), _loaded(allowed)]
  for statement, origin in parsed.overrides:
    binding = _binding(
      cast(config_parser.BindingStatement, statement), known, origin
    )
    found.append(dataclasses.replace(binding, is_override=True))
  return Bindings(found)


def _of_file(
  file: syntax.File,
  seen: list[_Symbols],
  given: pathlib.Path,
  allowed: Allowed,
) -> list[Binding]:
  symbols = _Symbols(None if modules.is_shipped(file.path) else allowed)
  seen.append(symbols)
  where = {
    'is_part': places.is_part(file.path),
    'file': file.path,
    'given': given,
  }
  bindings = []
  for each in file.statements:
    match each:
      case syntax.File():
        bindings.extend(_of_file(each, seen, given, allowed))
      case syntax.Statement(config_parser.ImportStatement() as what, origin):
        _import(what, symbols, origin)
      case syntax.Statement(config_parser.BlockDeclaration() as what, origin):
        _look_up(what.selector, [symbols], origin)
      case syntax.Statement(config_parser.BindingStatement() as what, origin):
        bound = _binding(what, [symbols], origin)
        bindings.append(dataclasses.replace(bound, **where))
  return bindings


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
    instead = moved.words(f'{full_name(target)}.{statement.arg_name}')
    raise InputError(
      f'{origin}: {name_of(target)} has no argument `{statement.arg_name}`.'
      f'{instead or nearest.hint(statement.arg_name, known)}'
    )
  return Binding(scope, target, statement.arg_name, value, origin)


def _looked_up(value: object, symbols: list[_Symbols], origin: str) -> object:
  if isinstance(value, Selector):
    *scope, selector = value.text.split('/')
    target = _look_up(selector, symbols, origin)
    return Reference(target, tuple(scope), value.call)
  return map_value(lambda v: _looked_up(v, symbols, origin), value, origin)


def map_value(
  function: Callable[[object], object], value: object, origin: str
) -> object:
  """Apply `function` to the items of a list, tuple or dict; others stay.

  Raises:
    InputError: a key of a dictionary can be none; `origin` has the value.
  """
  if isinstance(value, list) and type(value) is list:
    return [function(item) for item in value]
  if isinstance(value, tuple) and type(value) is tuple:
    return tuple(function(item) for item in value)
  if isinstance(value, dict) and type(value) is dict:
    keys = [_key(function(key), origin) for key in value]
    return dict(zip(keys, map(function, value.values())))
  return value


def _key(key: object, origin: str) -> object:
  try:
    hash(key)
  except TypeError:
    raise InputError(
      f'{origin}: a key of a dictionary is a text, a number or a tuple of'
      f" these, such as {{'beta': 0.1}}; got {said.short(key)}"
      f' ({type(key).__name__}).'
    ) from None
  return key


def _import(
  statement: config_parser.ImportStatement, symbols: _Symbols, origin: str
):
  if statement.module.startswith('__gin__.'):
    return
  try:
    module = importlib.import_module(statement.module)
  except ModuleNotFoundError as error:
    missing = error.name or ''
    instead = moved.words(missing) or _near_module(statement.module, missing)
    raise InputError(
      f'{origin}: `{statement.format()}`: there is no module `{missing}`.'
      f'{instead}'
    ) from error
  if not (statement.is_from or statement.alias):
    module = importlib.import_module(statement.module.split('.')[0])
  symbols[statement.bound_name()] = module


def _near_module(wanted: str, missing: str) -> str:
  """What to do about the module `missing`, to import the module `wanted`."""
  package = missing.partition('.')[0]
  if package in _EXTRAS:
    return f' Install it: {_EXTRAS[package]}'
  parent, _, leaf = missing.rpartition('.')
  if parent:
    found = importlib.import_module(parent)
    paths = getattr(found, '__path__', [])
    return nearest.hint(leaf, [m.name for m in pkgutil.iter_modules(paths)])
  if wanted.partition('.')[0] != missing:
    return (
      f' {wanted} imports it: install the package that has it, or put its'
      ' folder on PYTHONPATH.'
    )
  return ' If it is a file of yours, put it beside the gin file.'


def _look_up(selector: str, symbols: list[_Symbols], origin: str) -> object:
  """The function or class of a dotted name; among the files that know it."""
  root, *attributes = selector.split('.')
  tables = [table for table in symbols if root in table]
  if not tables:
    names = {name for table in symbols for name in table}
    raise InputError(
      f'{origin}: no import statement provides `{root}`.'
      f'{nearest.hint(root, names)} Import its module in the gin file, or give'
      ' the part that does with --gin_file.'
    )
  found: list[object] = []
  for table in tables:
    way = _way(table[root], attributes)
    if way is not None and way[-1] not in found:
      if table.allowed is not None:
        modules.check_target(table.allowed, way, selector, origin)
      found.append(way[-1])
  if not found:
    wanted, names = '.'.join(attributes), [t[root].__name__ for t in tables]
    told = (moved.words(f'{name}.{wanted}') for name in names)
    instead = next(filter(None, told), '')
    raise InputError(
      f'{origin}: {names[0]} has no `{wanted}`.'
      f'{instead or nearest.hint(wanted, dir(tables[0][root]))}'
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


def _way(module: object, attributes: Sequence[str]) -> list[object] | None:
  """What stands at each of the attributes; None if one is not there."""
  way = [module]
  for name in attributes:
    if name.startswith('__') or not hasattr(way[-1], name):
      return None
    way.append(getattr(way[-1], name))
  return way


def _loaded(allowed: Allowed) -> _Symbols:
  """What an override may name besides: `dap` and its loaded modules."""
  found = {
    name: value
    for name, value in vars(dap).items()
    if isinstance(value, types.ModuleType)
  }
  return _Symbols(allowed, **{**found, 'dap': dap})
