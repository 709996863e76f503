"""Layer 8. Which bindings a run function reads, and which nobody does.

A run function reads the bindings of its own arguments; a binding whose value
refers to functions, classes and macros reads theirs in turn.
"""

import inspect
from collections.abc import Callable, Collection, Iterator

from dap.commands import nearest
from dap.commands.bindings import (
  REQUIRED,
  Binding,
  Bindings,
  Macro,
  Reference,
  parameters,
)
from dap.commands.said import name_of
from dap.errors import InputError

Scope = tuple[str, ...]
# What of the bindings counts for a target (or a macro's name) in a scope.
Choice = Callable[[Bindings, object, Scope], list[Binding]]


def live(bindings: Bindings, target: object, scope: Scope) -> list[Binding]:
  """One binding for each argument: the innermost scope, then the last, wins."""
  winners: dict[str, Binding] = {}
  for depth in range(len(scope) + 1):
    for binding in bindings.of(target):
      if binding.scope == scope[:depth]:
        winners[binding.argument] = binding
  return list(winners.values())


def ever(bindings: Bindings, target: object, scope: Scope) -> list[Binding]:
  """Every binding that could count, those that a later one replaced too."""
  return [
    binding
    for binding in bindings.of(target)
    if binding.scope == scope[: len(binding.scope)]
  ]


def references(value: object) -> Iterator[Reference | Macro]:
  """The references and macros inside a bound value."""
  if isinstance(value, Reference | Macro):
    yield value
  elif isinstance(value, dict):
    for key, item in value.items():
      yield from references(key)
      yield from references(item)
  elif isinstance(value, list | tuple):
    for item in value:
      yield from references(item)


def walk(
  bindings: Bindings, roots: Collection[object], choose: Choice
) -> Iterator[tuple[Binding, Scope]]:
  """Each binding that the roots read, directly or through others.

  Yields:
    The binding and the scope it is read in, once for each such scope.
  """
  visited: set[tuple[object, Scope]] = set()
  pending: list[tuple[object, Scope]] = [(root, ()) for root in roots]
  while pending:
    target, scope = pending.pop()
    if (target, scope) in visited:
      continue
    visited.add((target, scope))
    for binding in choose(bindings, target, scope):
      yield binding, scope
      for reference in references(binding.value):
        if isinstance(reference, Macro):
          pending.append((reference.name, scope))
        else:
          pending.append((reference.target, reference.scope or scope))


def refuse_unread(
  bindings: Bindings, function: object, run_functions: Collection[object]
):
  """Refuse what nobody reads: a misspelt name runs the wrong experiment.

  An override must be read by `function` as things are configured. A binding in
  an experiment must be one that some run function reads, or would read had a
  later file not replaced a choice: then it is idle, not misspelt. The parts of
  the project are defaults, which an experiment may leave unread.

  Raises:
    InputError: naming each such binding and the nearest that is read.
  """
  walked = list(walk(bindings, [function], live))
  read = {binding for binding, _ in walked}
  ever_read = {b for b, _ in walk(bindings, [function, *run_functions], ever)}
  last = {(b.scope, b.target, b.argument): b for b in bindings}
  complaints = [
    _unread(binding, _names(binding, ever_read, walked, function))
    for binding in bindings
    if (
      binding.is_override
      and binding not in read
      and binding is last[binding.scope, binding.target, binding.argument]
    )
    or not (binding.is_override or binding.is_part or binding in ever_read)
  ]
  if complaints:
    raise InputError('\n'.join(complaints))


def _names(
  binding: Binding,
  read: Collection[Binding],
  walked: Collection[tuple[Binding, Scope]],
  function: object,
) -> set[str]:
  """All that could be meant: what is bound, and arguments that could be."""
  found = {each.name for each in read if each.is_macro == binding.is_macro}
  if not binding.is_macro:
    called: set[tuple[object, Scope]] = {(function, ())}
    for each, scope in walked:
      for reference in references(each.value):
        if isinstance(reference, Reference):
          called.add((reference.target, reference.scope or scope))
    found |= {
      f'{"/".join([*scope, name_of(target)])}.{argument}'
      for target, scope in called
      for argument in parameters(target)
    }
  return found - {binding.name}


def _unread(binding: Binding, names: Collection[str]) -> str:
  return (
    f'{binding.origin}: nobody reads {binding.name}.'
    f'{nearest.hint(binding.name, names)}'
  )


def required(bindings: Bindings, function: object) -> list[str]:
  """Names that `function` reads and that are still `%gin.REQUIRED`."""
  found = [
    binding.name
    for binding, _ in walk(bindings, [function], live)
    if binding.is_macro and binding.value == REQUIRED
  ]
  return list(dict.fromkeys(found))


def refuse_missing(bindings: Bindings, function: object):
  """Refuse to start while something that the run needs has no value.

  Raises:
    InputError: naming every macro that is required or undefined, and every
      argument without a default that nothing binds.
  """
  complaints = [_missing_arguments(bindings, function, (), 'This command')]
  for binding, scope in walk(bindings, [function], live):
    for reference in references(binding.value):
      if reference == REQUIRED:
        complaints.append(
          f'{binding.origin}: {binding.name} must be given:'
          f' --gin.{binding.name}=VALUE'
        )
      elif isinstance(reference, Macro):
        complaints.append(_undefined(bindings, reference.name, binding))
      elif reference.call:
        inner = reference.scope or scope
        complaints.append(
          _missing_arguments(bindings, reference.target, inner, binding.origin)
        )
  complaints = list(dict.fromkeys(filter(None, complaints)))
  if complaints:
    raise InputError('\n'.join(complaints))


def _undefined(bindings: Bindings, name: str, reader: Binding) -> str | None:
  if live(bindings, name, ()):
    return None
  known = {binding.name for binding in bindings if binding.is_macro}
  return (
    f'{reader.origin}: {reader.name} reads %{name}, which nothing binds.'
    f'{nearest.hint(name, known)} Give it: --gin.{name}=VALUE'
  )


def _missing_arguments(
  bindings: Bindings, target: object, scope: Scope, origin: str
) -> str | None:
  bound = {binding.argument for binding in live(bindings, target, scope)}
  missing = [
    name
    for name, parameter in parameters(target).items()
    if parameter.default is inspect.Parameter.empty
    and parameter.kind
    not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    and name not in bound
  ]
  if not missing:
    return None
  where = '/'.join([*scope, name_of(target)])
  return (
    f'{origin}: {where} needs {", ".join(missing)}, which nothing binds. Give'
    f' --gin.{where}.{missing[0]}=VALUE, or --gin_file=FILE that binds it.'
  )
