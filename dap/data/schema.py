"""Layer 3. What a row of preference data is, and the words for one that is not.

A pair is `prompt`, `chosen` and `rejected`, three texts; `source`, which set
and subset it is from; and `id`, which names it in its split. It may have
`chosen_share`, the share of a panel's votes for `chosen`. A raw row is
whatever a public set keeps; it travels with its place (a file and a line, a
data set and a row), which opens every message about it.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dap.errors import InputError

T = TypeVar('T')
# Of a row as JSON or TFDS has it: a text, a number, a list, an object, ...
Value = Any
Row = dict[str, Value]
Placed = tuple[str, Row]  # where a raw row stands, for messages, and the row
SPLITS = ('train', 'test', 'stress')
PAIR_KEYS = ('prompt', 'chosen', 'rejected')

_NAMES = {dict: 'an object', list: 'a list', str: 'a text', bool: 'a boolean'}


class PartlyMalformed(InputError):
  """A row of which some parts have a mistake.

  Attributes:
    errors: of these parts.
    pairs: of the other ones.
  """

  def __init__(self, errors: list[InputError], pairs: list[Row]):
    super().__init__(str(errors[0]))
    self.errors, self.pairs = errors, pairs


def sound(
  read: Callable[..., T],
  items: Iterable[tuple[object, ...]],
  errors: list[InputError],
) -> list[T]:
  """What `read` gives for each item; what it refuses goes to `errors`."""
  found = []
  for item in items:
    try:
      found.append(read(*item))
    except InputError as error:
      errors.append(error)
  return found


def pair(
  prompt: str,
  chosen: str,
  rejected: str,
  source: str,
  own_id: str | None,
  where: str,
) -> Row:
  """A row of the one schema.

  Without an id of the set's own, `id` is a hash of the three texts: the same
  wherever the row lies.

  Raises:
    InputError: the two responses are the same.
  """
  if chosen == rejected:
    raise InputError(
      f'{where}: chosen and rejected must differ, both are'
      f' {shortened(chosen)!r}. Remove the row.'
    )
  return named(prompt, chosen, rejected, source, own_id)


def named(
  prompt: str, chosen: str, rejected: str, source: str, own_id: str | None
) -> Row:
  """The row of `pair`, whatever the responses."""
  return {
    'prompt': prompt,
    'chosen': chosen,
    'rejected': rejected,
    'source': source,
    'id': own_id or digest(prompt, chosen, rejected),
  }


def digest(*texts: str) -> str:
  """16 hexadecimal characters that name the texts."""
  return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def with_unique_ids(rows: Iterable[Row]) -> Iterator[Row]:
  """The rows; the second one of an id is called `id-2`, the third `id-3`."""
  seen: Counter[str] = Counter()
  for row in rows:
    name = unique_id(row['id'], seen)
    yield row if name == row['id'] else row | {'id': name}


def unique_id(own: str, seen: Counter[str]) -> str:
  """The id, or what it is called when `seen`, which counts it, has it."""
  seen[own] += 1
  number, name = seen[own], own
  while number > 1:
    name = f'{own}-{number}'
    if not seen[name]:
      seen[name] += 1
      break
    number += 1
  return name


def require(
  row: Row, key: str, kind: type[T], where: str, keys: Iterable[str] = ()
) -> T:
  """The value of a key, which must be there and of a kind.

  Args:
    row: an object of the data.
    key: that it must have.
    kind: dict, list, str or int; a boolean is no number.
    where: the object's place, opening the message.
    keys: all that such an object needs, for the message.

  Raises:
    InputError: it is not there, or of another kind.
  """
  if key not in row:
    raise InputError(
      f'{where}: each row needs the keys {", ".join(keys or (key,))}; {key} is'
      f' missing, there are {", ".join(map(str, row)) or "none"}.'
    )
  value = row[key]
  if not isinstance(value, kind) or isinstance(value, bool):
    raise InputError(
      f'{where}: {key} must be {_NAMES.get(kind, "a whole number")}, got'
      f' {kind_of(value)}: {shortened(json.dumps(value, default=str))}.'
    )
  return value


def require_objects(row: Row, key: str, where: str) -> list[tuple[str, Row]]:
  """The objects of a list, each with its place.

  Raises:
    InputError: the key has no list, or the list something else than objects.
  """
  placed = []
  for number, value in enumerate(require(row, key, list, where), start=1):
    if not isinstance(value, dict):
      raise InputError(
        f'{where}: {key} must be a list of objects; number {number} is'
        f' {kind_of(value)}.'
      )
    placed.append((f'{where}, {key} {number}', value))
  return placed


def require_text(row: Row, key: str, keys: Iterable[str], where: str) -> str:
  """The text of a key.

  Raises:
    InputError: there is none, it is blank, or it is no Unicode.
  """
  text = require(row, key, str, where, keys)
  if not text.strip():
    raise InputError(f'{where}: {key} is empty. Remove the row or give a text.')
  return _unicode(text, key, where)


def optional_text(row: Row, key: str, where: str) -> str:
  """The text of a key, '' where it is absent or null; a whole number as text.

  Raises:
    InputError: it is of another kind, or no Unicode.
  """
  value = row.get(key)
  if value is None:
    return ''
  if type(value) is int:
    return str(value)
  return _unicode(require(row, key, str, where), key, where)


def _unicode(text: str, key: str, where: str) -> str:
  try:
    text.encode('utf-8')
  except UnicodeEncodeError as error:
    raise InputError(
      f'{where}: {key} has half of a surrogate pair at character'
      f' {error.start + 1}, which is no Unicode text. Remove it.'
    ) from error
  return text


def require_number(row: Row, key: str, where: str) -> float:
  """The number of a key.

  Raises:
    InputError: there is none, or it is not finite.
  """
  value = row.get(key)
  if (
    isinstance(value, bool)
    or not isinstance(value, int | float)
    or not math.isfinite(value)
  ):
    raise InputError(
      f'{where}: {key} must be a finite number, got {kind_of(value)}:'
      f' {shortened(repr(value))}. Remove the row or give its score.'
    )
  return float(value)


def kind_of(value: object) -> str:
  """'a list', 'null': what a value of JSON is."""
  return 'null' if value is None else _NAMES.get(type(value), 'a number')


def shortened(text: str, limit: int = 60) -> str:
  """The beginning of a text."""
  text = text.strip()
  return text if len(text) <= limit else text[: limit - 3] + '...'
