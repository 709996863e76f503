"""Layer 6. A resolved configuration as text."""

import dataclasses
from typing import Any

from dap.commands.bindings import name_of
from dap.commands.resolve import Bound


def text(arguments: dict[str, Any]) -> str:
  """One argument or field a line, nested values indented below their type."""
  lines = []
  for name, value in arguments.items():
    lines.extend(_lines(name, value, 0))
  return '\n'.join(lines)


def _lines(name: str, value: Any, depth: int) -> list[str]:
  head = f'{"  " * depth}{name}: '
  title, fields = _parts(value)
  lines = [f'{head}{title}']
  for field, inner in fields:
    lines.extend(_lines(field, inner, depth + 1))
  return lines


def _parts(value: Any) -> tuple[str, list[tuple[str, Any]]]:
  """What to write on the value's own line, and what below it."""
  if isinstance(value, Bound):
    return name_of(value.function), list(value.arguments)
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = [
      (field.name, getattr(value, field.name))
      for field in dataclasses.fields(value)
    ]
    return name_of(type(value)), fields
  if isinstance(value, dict):
    return '', [(str(key), item) for key, item in value.items()]
  named = getattr(value, '_asdict', None)  # a NamedTuple
  if named is not None:
    return name_of(type(value)), list(named().items())
  if isinstance(value, list | tuple):
    if any(_parts(item)[1] for item in value):
      return '', [(f'- {index}', item) for index, item in enumerate(value)]
    return ', '.join(_parts(item)[0] for item in value) or '()', []
  if callable(value):
    return name_of(value), []
  return repr(value), []
