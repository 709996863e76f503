"""Layer 8. Whether a value is what an annotation says, and words where not.

Annotations are read as they are written: numbers and texts, `tuple[int, ...]`,
unions, dataclasses, protocols by the names of their members, functions by how
many arguments they are given, `Annotated` ranges. Members are looked at without
being computed: a vocabulary's size may be in a file.
"""

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Sequence
from typing import Any

from dap.commands import said

_NUMBERS = (bool, int, float)
_ROWS = (collections.abc.Sequence, collections.abc.Collection)
_SHOWN = 4  # names in a message
_ANYTHING = (typing.Any, object, inspect.Parameter.empty)


class Unfit(Exception):
  """A value that is not of its annotation.

  Attributes:
    wanted: what must stand there.
    value: what stands there.
    hint: what to write instead, a sentence or ''.
    path: where within the whole value: indices and keys.
  """

  def __init__(
    self,
    wanted: str,
    value: object,
    hint: str = '',
    path: tuple[object, ...] = (),
  ):
    """See the attributes."""
    super().__init__(wanted, value, hint, path)
    self.wanted, self.value, self.hint, self.path = wanted, value, hint, path

  def below(self, key: object) -> 'Unfit':
    """The same, seen from what holds it at `key`."""
    return Unfit(self.wanted, self.value, self.hint, (key, *self.path))


def fitted(annotation: object, value: object) -> object:
  """The value as the annotation has it: 1 for a float is 1.0, a list a tuple.

  So that 1 and 1.0 are one configuration, with one name.

  Raises:
    Unfit: it is something else.
  """
  if annotation in _ANYTHING or isinstance(annotation, str | typing.TypeVar):
    return value
  origin = typing.get_origin(annotation)
  if origin is typing.Annotated:
    return _in_ranges(annotation, value)
  if origin in (typing.Union, types.UnionType):
    return _one_of(annotation, value)
  if origin is typing.Literal:
    if value not in typing.get_args(annotation):
      raise Unfit(words(annotation), value)
    return value
  if origin is collections.abc.Callable:
    return _function(annotation, value)
  kind = annotation if origin is None else origin
  if kind in (None, types.NoneType):
    if value is not None:
      raise Unfit('None', value)
    return None
  if not isinstance(kind, type):
    return value
  return _of_class(annotation, kind, value)


def _of_class(annotation: object, kind: type, value: object) -> object:
  if kind in (*_NUMBERS, str):
    return _primitive(kind, value)
  if kind in (tuple, list) or (kind in _ROWS and kind is not str):
    return _row(annotation, kind, value)
  if kind in (dict, collections.abc.Mapping):
    return _mapping(annotation, value)
  if getattr(kind, '_is_protocol', False):
    return _meets(kind, value)
  return _instance(kind, value)


def _primitive(kind: type, value: Any) -> object:
  # Any: what `float` takes of what is no number, pyright cannot know.
  if type(value) is kind:
    return value
  if kind is float and type(value) is int:
    try:
      return float(value)
    except OverflowError:
      raise Unfit('float', value, 'It is too large.') from None
  if kind is not bool and isinstance(value, kind) and type(value) is not bool:
    return kind(value)  # numpy's float64 is a float
  raise Unfit(kind.__name__, value, _hint(kind, value))


def _hint(kind: type, value: object) -> str:
  """How the same is written as a `kind`."""
  if isinstance(value, str) and kind in (int, float):
    try:
      kind(value)
    except ValueError:
      return f'Such as {_EXAMPLES[kind]}.'
    return f'Write it without quotes: {value.strip()}'
  if kind is bool and isinstance(value, str | int):
    return 'Write True or False.'
  if kind is int and isinstance(value, float) and value.is_integer():
    return f'Write it without a point: {int(value)}'
  if kind is int and isinstance(value, float):
    return 'It is a whole number.'
  if kind is str and isinstance(value, int | float):
    return f"""A text has quotes of its own: '"{said.short(value)}"'"""
  return f'Such as {_EXAMPLES[kind]}.'


def _in_ranges(annotation: object, value: object) -> object:
  inner, *told = typing.get_args(annotation)
  value = fitted(inner, value)
  for each in told:
    if (
      isinstance(each, collections.abc.Container)  # `losses.ranges.Range`
      and value is not None
      and value not in each
    ):
      why = getattr(each, 'why', '')
      raise Unfit(f'{words(inner)} {each}', value, why)
  return value


def _one_of(annotation: object, value: object) -> object:
  kinds = typing.get_args(annotation)
  if type(value) in kinds:
    return value
  found: list[Unfit] = []
  for kind in kinds:
    try:
      return fitted(kind, value)
    except Unfit as error:
      found.append(error)
  deep = [error for error in found if error.path]
  if len(deep) == 1:  # the only one that is of this form
    raise deep[0]
  hints = dict.fromkeys(error.hint for error in found if error.hint)
  raise Unfit(words(annotation), value, next(iter(hints), ''))


def _row(annotation: object, kind: type, value: object) -> object:
  items = typing.get_args(annotation)
  if not isinstance(value, list | tuple):
    raise Unfit(words(annotation), value, _comma(annotation, value))
  if kind is tuple and items and items[-1] is not Ellipsis:
    if len(value) != len(items):
      raise Unfit(words(annotation), value)
    each = items
  else:
    each = [items[0] if items else object] * len(value)
  if hasattr(value, '_fields'):  # a NamedTuple is what it is
    return value
  try:
    made = [_at(i, one, x) for i, (one, x) in enumerate(zip(each, value))]
  except Unfit as error:
    if hint := _comma(annotation, value):
      raise Unfit(words(annotation), value, hint) from None
    raise error
  return made if kind is list else tuple(made)


def _at(key: object, annotation: object, value: object) -> object:
  try:
    return fitted(annotation, value)
  except Unfit as error:
    raise error.below(key) from None


def _comma(annotation: object, value: object) -> str:
  """What to write for the single item of a tuple, if the value is one."""
  items = typing.get_args(annotation)
  if len(items) != 2 or items[-1] is not Ellipsis:
    return ''
  try:
    fitted(items[0], value)
  except Unfit:
    return ''
  return f'A tuple of one has a comma: ({said.as_gin(value)},)'


def _mapping(annotation: object, value: object) -> object:
  if not isinstance(value, collections.abc.Mapping):
    raise Unfit(words(annotation), value)
  kinds = typing.get_args(annotation) or (object, object)
  return {
    _at(key, kinds[0], key): _at(key, kinds[1], x) for key, x in value.items()
  }


def _function(annotation: object, value: object) -> object:
  if not callable(value):
    raise Unfit(words(annotation), value, 'Name one with @: @module.function')
  given, *returned = typing.get_args(annotation) or (...,)
  if isinstance(value, type) and returned:
    made = typing.get_origin(returned[0]) or returned[0]
    if isinstance(made, type) and not issubclass(value, made):
      raise Unfit(words(annotation), value, _called(value))
  if isinstance(given, list):
    try:
      inspect.signature(value).bind(*given)
    except TypeError:
      raise Unfit(words(annotation), value) from None
    except ValueError:  # Python cannot tell
      pass
  return value


def _meets(kind: type, value: object) -> object:
  """A protocol is met by whatever has its members; none is computed."""
  if isinstance(value, type):
    raise Unfit(words(kind), value, _called(value))
  lacking = [name for name in _members(kind) if not _has(value, name)]
  if not lacking:
    return value
  if inspect.isroutine(value):
    raise Unfit(words(kind), value, _called(value))
  hint = ''
  if not isinstance(value, (*_NUMBERS, str, list, tuple, dict, type(None))):
    few = sorted(lacking)[:_SHOWN]
    hint = f'It has no {", ".join(few)}.'
  raise Unfit(words(kind), value, hint)


@functools.cache
def _members(kind: type) -> frozenset[str]:
  return frozenset(
    name
    for base in kind.__mro__
    if getattr(base, '_is_protocol', False)
    for name in {*vars(base), *inspect.get_annotations(base)}
    if name == '__call__' or name[0] != '_'
  )


def _has(value: object, name: str) -> bool:
  missing = object()
  if hasattr(type(value), '__getattr__'):
    return hasattr(value, name)
  return inspect.getattr_static(value, name, missing) is not missing


def _instance(kind: type, value: object) -> object:
  if kind.__module__.startswith(('jaxtyping', 'pathlib')):
    return value
  try:
    fits = isinstance(value, kind)
  except TypeError:  # a class that Python cannot ask
    return value
  if not fits:
    raise Unfit(words(kind), value, _called(value, kind))
  return value


def _called(value: object, kind: type | None = None) -> str:
  """What to write for a class or function that should have been called."""
  if isinstance(value, type) and (kind is None or issubclass(value, kind)):
    return f'Call it: @{said.name_of(value)}()'
  if inspect.isroutine(value):
    return f'Call it, if it makes one: @{said.name_of(value)}()'
  return ''


def words(annotation: object) -> str:
  """What is wanted: 'int', 'a tuple of int', 'an algorithms.run.Run'."""
  origin, items = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is typing.Annotated:
    told = [x for x in items[1:] if isinstance(x, collections.abc.Container)]
    return ' '.join([words(items[0]), *map(str, told)])
  if origin in (typing.Union, types.UnionType):
    return ' or '.join(dict.fromkeys(map(words, items)))
  if origin is tuple and items and items[-1] is not Ellipsis:
    example = ', '.join(map(_example, items))
    return f'a tuple of {len(items)}: {_brief(annotation)}, such as ({example})'
  if origin in (tuple, list, *_ROWS):
    kind = 'list' if origin is list else 'tuple'
    return f'a {kind} of {_brief(items[0])}'
  return _brief(annotation)


def _brief(annotation: object) -> str:
  """The same within other words: '(int, int)' for a tuple of two."""
  origin, items = typing.get_origin(annotation), typing.get_args(annotation)
  if annotation in _ANYTHING:
    return 'any value'
  if annotation in (None, types.NoneType):
    return 'None'
  if origin is typing.Annotated:
    return words(annotation)
  if origin in (typing.Union, types.UnionType):
    return ' or '.join(dict.fromkeys(map(_brief, items)))
  if origin is typing.Literal:
    return f'one of {", ".join(map(repr, items))}'
  if origin is collections.abc.Callable:
    return _words_of_function(items)
  if origin in (tuple, list, *_ROWS):
    inner = ['...' if each is Ellipsis else _brief(each) for each in items]
    return f'({", ".join(inner)})'
  kind = origin or annotation
  if kind in (dict, collections.abc.Mapping):
    return "a dictionary, such as {'beta': 0.1}"
  if kind in (*_NUMBERS, str):
    return kind.__name__
  name = said.name_of(kind)
  return f'{"an" if name[:1].lower() in "aeiou" else "a"} {name}'


def _words_of_function(items: Sequence[object]) -> str:
  if items and isinstance(items[0], list):
    count = len(items[0])
    return f'a function of {count} argument{"s" if count != 1 else ""}'
  return 'a function'


_EXAMPLES: dict[object, str] = {
  bool: 'True', int: '1', float: '0.1', str: '"a"',
}  # fmt: skip


def _example(annotation: object) -> str:
  origin, items = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is typing.Annotated:
    return _example(items[0])
  if origin is tuple and items:
    inner = [_example(each) for each in items if each is not Ellipsis]
    return f'({", ".join(inner)}{"," if len(inner) == 1 else ""})'
  return _EXAMPLES.get(annotation, '...')
