"""Layer 8. From bindings to values: frozen dataclasses, functions, primitives.

The library never sees gin. `@f()` becomes what f returns, `@f` becomes f
itself, or `Bound` where f has bindings: a value that hashes and compares by
content, so stages can be named and compiled programs cached by it.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable

from dap.commands import reads
from dap.commands.bindings import (
  Binding,
  Bindings,
  Macro,
  Reference,
  map_value,
  name_of,
  parameters,
)
from dap.errors import InputError

# What is being resolved, outermost first: functions and macros with scopes.
Active = tuple[tuple[object, reads.Scope], ...]
_PRIMITIVES = (bool, int, float, str, types.NoneType)


@dataclasses.dataclass(frozen=True)
class Bound:
  """A function with some keyword arguments given; the caller's win."""

  function: Callable[..., object]
  arguments: tuple[tuple[str, object], ...]

  @property
  def __signature__(self) -> inspect.Signature:
    """The function's, where what is given has a default."""
    given = dict(self.arguments)
    signature = inspect.signature(self.function)
    return signature.replace(
      parameters=[
        each.replace(default=given[each.name], kind=each.KEYWORD_ONLY)
        if each.name in given
        else each
        for each in signature.parameters.values()
      ]
    )

  def __call__(self, *args, **kwargs):
    return self.function(*args, **{**dict(self.arguments), **kwargs})


def resolve(bindings: Bindings, function: object) -> dict[str, object]:
  """The keyword arguments that the bindings give to `function`.

  A reference with a scope is resolved in that scope, and so is all below it
  that has none of its own, through macros as well.

  Raises:
    InputError: a value has the wrong type, is refused by what it is given to,
      or refers to itself.
  """
  return _arguments(bindings, function, (), ())


def _arguments(
  bindings: Bindings,
  target: object,
  scope: reads.Scope,
  active: Active,
) -> dict[str, object]:
  known = parameters(target)
  arguments = {}
  for binding in reads.live(bindings, target, scope):
    value = _value(bindings, binding.value, binding, scope, active)
    if binding.argument in known:
      annotation = known[binding.argument].annotation
      value = _as_annotated(binding, annotation, value)
    arguments[binding.argument] = value
  return arguments


def _value(
  bindings: Bindings,
  value: object,
  binding: Binding,
  scope: reads.Scope,
  active: Active,
) -> object:
  match value:
    case Macro(name):
      active = _enter(name, (), active, binding)
      bound = reads.live(bindings, name, ())[0]
      return _value(bindings, bound.value, bound, scope, active)
    case Reference(target, own_scope, call):
      scope = own_scope or scope
      active = _enter(target, scope, active, binding)
      arguments = _arguments(bindings, target, scope, active)
      assert callable(target), 'what is not was refused when it was read'
      if call:
        return _construct(target, arguments, binding)
      return (
        Bound(target, tuple(sorted(arguments.items())))
        if (arguments)
        else target
      )
  return map_value(
    lambda item: _value(bindings, item, binding, scope, active), value
  )


def _enter(
  target: object,
  scope: reads.Scope,
  active: Active,
  binding: Binding,
) -> Active:
  if (target, scope) in active:
    chain = ' -> '.join(name_of(entry) for entry, _ in active)
    raise InputError(
      f'{binding.origin}: {binding.name} refers to itself: {chain} ->'
      f' {name_of(target)}. Give one of these a value.'
    )
  return (*active, (target, scope))


def _construct(
  target: Callable[..., object], arguments: dict[str, object], binding: Binding
) -> object:
  try:
    return target(**arguments)
  except ValueError as error:
    raise InputError(
      f'{error}\n  in @{name_of(target)}(), the value of {binding.name}'
      f' ({binding.origin})'
    ) from error


def _as_annotated(
  binding: Binding, annotation: object, value: object
) -> object:
  """The value as the annotation has it: 1 for a float is 1.0, a list a tuple.

  So that 1 and 1.0 are one configuration, with one name. A text for a number
  and the like is refused; other types are not checked.
  """
  if type(value) is list and typing.get_origin(annotation) is tuple:
    return tuple(value)
  if isinstance(annotation, types.UnionType):
    allowed = typing.get_args(annotation)
  else:
    allowed = (annotation,)
  if type(value) in allowed or any(kind not in _PRIMITIVES for kind in allowed):
    return value
  if type(value) is int and float in allowed:
    return float(value)
  names = (getattr(kind, '__name__', str(kind)) for kind in allowed)
  wanted = ' or '.join(names)
  raise InputError(
    f'{binding.origin}: {binding.name} must be {wanted}, got {value!r}'
    f' ({type(value).__name__}).'
  )
