"""Layer 8. A resolved configuration as text."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dap.commands.resolve import Bound
from dap.commands.said import name_of

_WORTH = 4  # lines of a value that is not shown again
_LONG = 12  # plain values in a row, of which compact text shows few
_SHOWN = 4


class Node(NamedTuple):
  """A value as it is shown: a title on its line, and parts below it."""

  title: str
  parts: tuple[tuple[str, 'Node'], ...] = ()

  @property
  def size(self) -> int:
    """Lines of the whole."""
    return 1 + sum(part.size for _, part in self.parts)


def text(arguments: dict[str, object]) -> str:
  """One argument or field a line, nested values indented below their type."""
  return '\n'.join(
    line
    for name, value in arguments.items()
    for line in _lines(name, _node(value), 0)
  )


def compact(arguments: dict[str, object]) -> str:
  """The same with each distinct value once.

  A value that stood before is named by its place there, and one that is like
  another by that and by what differs. Long rows are cut.
  """
  shown = _Shown()
  return '\n'.join(
    line
    for name, value in arguments.items()
    for line in shown.lines(name, _node(value, _LONG), 0, name)
  )


def _lines(name: str, node: Node, depth: int) -> Iterator[str]:
  yield _line(name, node.title, depth)
  for part, inner in node.parts:
    yield from _lines(part, inner, depth + 1)


def _line(name: str, title: str, depth: int) -> str:
  return f'{"  " * depth}{name}: {title}'.rstrip()


class _Shown:
  """What has been shown, by its type."""

  def __init__(self):
    self._by_title: dict[str, list[tuple[str, Node]]] = {}

  def lines(
    self, name: str, node: Node, depth: int, place: str
  ) -> Iterator[str]:
    """The lines of a value that stands at `place`."""
    if node.size < _WORTH or not node.title:
      yield from self._whole(name, node, depth, place)
      return
    near, differing = self._nearest(node)
    if near is None:
      yield from self._whole(name, node, depth, place)
    elif not differing:
      yield _line(name, f'as {near}', depth)
    else:
      yield _line(name, f'{node.title}, as {near} but', depth)
      for path, inner in differing:
        there = f'{_called(node, place)}.{path}'
        yield from self.lines(path, inner, depth + 1, there)
    self._by_title.setdefault(node.title, []).append(
      (_called(node, place), node)
    )

  def _whole(
    self, name: str, node: Node, depth: int, place: str
  ) -> Iterator[str]:
    yield _line(name, node.title, depth)
    called = _called(node, place)
    for part, inner in node.parts:
      there = f'{called}.{part.removeprefix("- ")}'
      yield from self.lines(part, inner, depth + 1, there)

  def _nearest(self, node: Node) -> tuple[str | None, list[tuple[str, Node]]]:
    """The place of the value that is most alike, and what differs."""
    best: tuple[str | None, list[tuple[str, Node]]] = None, []
    least = node.size / 2
    for place, other in self._by_title.get(node.title, ()):
      differing = list(_differences(other, node, ''))
      cost = sum(inner.size for _, inner in differing)
      if cost < least:
        best, least = (place, differing), cost
    return best


def _called(node: Node, place: str) -> str:
  """The value's own name where it has one, else its place."""
  own = dict(node.parts).get('name', Node('None')).title
  return own.strip("'") or place if own.startswith("'") else place


def _differences(
  there: Node, here: Node, path: str
) -> Iterator[tuple[str, Node]]:
  """The smallest parts of `here` that are not as `there`."""
  if there == here:
    return
  names = [name for name, _ in here.parts]
  if (
    there.title != here.title
    or (path and _called(there, path) != _called(here, path))
    or not names
    or names != [name for name, _ in there.parts]
  ):
    yield path, here
    return
  for (name, before), (_, after) in zip(there.parts, here.parts):
    part = name.removeprefix('- ')
    yield from _differences(before, after, f'{path}.{part}' if path else part)


def _node(value: object, most: int | None = None) -> Node:
  """The value with its parts; rows of plain values beyond `most` are cut."""
  if isinstance(value, Bound):
    return Node(name_of(value.function), _nodes(value.arguments, most))
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = [
      (field.name, getattr(value, field.name))
      for field in dataclasses.fields(value)
    ]
    return Node(name_of(type(value)), _nodes(fields, most))
  if isinstance(value, dict):
    return Node('', _nodes([(str(k), v) for k, v in value.items()], most))
  named = getattr(value, '_asdict', None)  # a NamedTuple
  if named is not None:
    return Node(name_of(type(value)), _nodes(named().items(), most))
  if isinstance(value, list | tuple):
    items = [_node(item, most) for item in value]
    if any(item.parts for item in items):
      return Node('', tuple((f'- {i}', item) for i, item in enumerate(items)))
    titles = [
      f'({item.title})'
      if isinstance(each, list | tuple) and each
      else item.title
      for each, item in zip(value, items)
    ]
    return Node(_row(titles, most))
  if callable(value):
    return Node(name_of(value))
  return Node(repr(value))


def _nodes(
  items: Iterable[tuple[str, object]], most: int | None
) -> tuple[tuple[str, Node], ...]:
  return tuple((name, _node(item, most)) for name, item in items)


def _row(titles: list[str], most: int | None) -> str:
  if most is None or len(titles) <= most:
    return ', '.join(titles) or '()'
  return f'{", ".join(titles[:_SHOWN])}, ... ({len(titles)} in all)'
