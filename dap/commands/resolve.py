"""Layer 8. From bindings to values: frozen dataclasses, functions, primitives.

The library never sees gin. `@f()` becomes what f returns, `@f` becomes f
itself, or `Bound` where f has bindings: a value that hashes and compares by
content, so stages can be named and compiled programs cached by it.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from dap.commands import kinds, reads, said
from dap.commands.bindings import (
  Binding,
  Bindings,
  Macro,
  Reference,
  map_value,
  parameters,
)
from dap.commands.said import name_of
from dap.errors import InputError

# What is being resolved, outermost first: functions and macros with scopes.
Active = tuple[tuple[object, reads.Scope], ...]
# What a wrong value makes of code that is given it.
_WRONG = (ValueError, TypeError, ArithmeticError, AttributeError, LookupError)


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
    parameters = [
      each.replace(default=given[each.name], kind=each.KEYWORD_ONLY)
      if each.name in given
      else each
      for each in signature.parameters.values()
    ]
    # What is given may have stood before what is not.
    return signature.replace(
      parameters=sorted(parameters, key=lambda p: p.kind)
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
      value = _as_annotated(bindings, binding, annotation, value)
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
        return _construct(bindings, target, scope, arguments, binding)
      return (
        Bound(target, tuple(sorted(arguments.items())))
        if (arguments)
        else target
      )
  return map_value(
    lambda item: _value(bindings, item, binding, scope, active),
    value,
    binding.origin,
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
  bindings: Bindings,
  target: Callable[..., object],
  scope: reads.Scope,
  arguments: dict[str, object],
  binding: Binding,
) -> object:
  try:
    return target(**arguments)
  except _WRONG as error:
    kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
    given = _named_in(str(error), bindings, target, scope)
    raise InputError(
      f'{given}{kind}{error}\n  in @{name_of(target)}(), the value of'
      f' {binding.name} ({binding.origin})'
    ) from error


def _named_in(
  message: str, bindings: Bindings, target: object, scope: reads.Scope
) -> str:
  """Who gave the numbers and texts that a message names: '--gin.BETA=0: '."""
  words = set(re.findall(r'\w+', message))
  found = []
  for binding in reads.live(bindings, target, scope):
    _, inner = giver(bindings, binding)
    keys = list(inner) if type(inner) is dict else []
    paths = {binding.argument: (), **{str(key): (key,) for key in keys}}
    for name in words.intersection(paths):
      given, value = giver(bindings, binding, paths[name])
      if not isinstance(value, Reference | Macro | dict):
        found.append(given.origin)
  return ''.join(f'{origin}: ' for origin in sorted(set(found)))


def giver(
  bindings: Bindings, binding: Binding, path: Sequence[object] = ()
) -> tuple[Binding, object]:
  """Who gives what a binding reads through macros, and as what.

  That is the last of the caller's overrides on the way, or where none is the
  last binding.

  Args:
    bindings: all of them.
    binding: that reads.
    path: of a part of its value: indices and keys.
  """
  way, value, rest = [binding], binding.value, list(path)
  while True:
    if isinstance(value, Macro):
      live = reads.live(bindings, value.name, ())
      if not live:
        break
      way.append(live[0])
      value = live[0].value
    elif rest and type(value) in (list, tuple, dict):
      try:  # Any: one of three that have items
        value = cast(Any, value)[rest.pop(0)]
      except (KeyError, IndexError):  # a key that is a macro
        break
    else:
      break
  typed = [each for each in way if each.is_override]
  return (typed or way)[-1], value


def _as_annotated(
  bindings: Bindings, binding: Binding, annotation: object, value: object
) -> object:
  """The value as the annotation has it, see `kinds.fitted`.

  Raises:
    InputError: it is none; naming who gave it, and who reads it.
  """
  is_class = isinstance(value, Bound) and isinstance(value.function, type)
  bare = value.function if isinstance(value, Bound) and is_class else value
  try:
    fitted = kinds.fitted(annotation, bare)
    return value if is_class else fitted
  except kinds.Unfit as error:
    given, _ = giver(bindings, binding, error.path)
    place = ''.join(f'[{said.short(key)}]' for key in error.path)
    hint = f' {error.hint.rstrip(".")}.' if error.hint else ''
    read = f' {given.name} is read at {binding.origin}.'
    raise InputError(
      f'{given.origin}: {binding.name}{place} must be {error.wanted}, got'
      f' {said.told(error.value)}.{hint}{read if given is not binding else ""}'
    ) from None
