"""Inputs that nobody meant: bytes, JSON and words changed at random."""

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

_DEEP: Any = []
for _ in range(90):
  _DEEP = [_DEEP]
ODD_VALUES: Sequence[Any] = (
  None, True, False, 0, -1, 1, 3.5, -0.0, 1e308, float('inf'), float('nan'),
  2**31, 2**63, -(2**70), '', ' ', '\n', 'x', '0', '-1', 'é' * 300,
  '\u202e\u0000', '\ud800', 'a' * 20_000, '../../etc', [], [[]], [None],
  [1, 'a', {}], {}, {'': 1}, {'a': None}, _DEEP,
)  # fmt: skip
# As gin reads them; and what is no value at all.
ODD_WORDS = (
  'None', 'True', 'False', '0', '-1', '1', '0.5', '1e400', '-1e-400', 'nan',
  '2**40', str(2**64), '9' * 400, "''", "' '", "'x'", "'32'", "'\\n'",
  '"é\u202e"', '()', '(1,)', '(1, 2)', "('a', 2)", '((1, 2))', '((1, 2), (3,))',
  '[]', '[1]', '{}', "{'a': 1}", '{[]: 1}', '{1: {2: 3}}', '%NOTHING',
  '@nothing', '@nothing()', '@train.Run', '@train.Run()', '@losses.ipo_loss',
  '%BATCH_SIZE', '%MODEL_DIR', '(', ')', '"', "'open", '[1,', '{', 'x y',
  'lambda: 1', '__import__("os")', '%', '@', '-', '...', '1_000', '0x10', '1j',
  "b'a'", 'not', '*', '\\', '@a/b/c()', '%a.b.c', '(' * 60 + ')' * 60,
  '[' * 300, "'" + 'a' * 5_000 + "'",
)  # fmt: skip


def of_bytes(rng: random.Random, data: bytes) -> bytes:
  """One to four of: a flip, a cut, a hole, a doubling, odd bytes put in."""
  for _ in range(rng.randint(1, 4)):
    at = rng.randrange(len(data)) if data else 0
    to = min(len(data), at + rng.randint(1, 40))
    match rng.randrange(7):
      case 0:
        data = data[:at]
      case 1:
        data = data[:at] + data[to:]
      case 2:
        data = data[:to] + data[at:]
      case 3:
        odd = (
          b'\xff\xfe',
          b'\x00' * 8,
          b'\xef\xbb\xbf',
          b'\xc3',
          b'\r',
          b'"',
          b'}',
        )
        data = data[:at] + rng.choice(odd) + data[at:]
      case 4:
        data = data[:at] + rng.randbytes(to - at) + data[to:]
      case _ if data:
        data = (
          data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        )
  return data


def of_json(rng: random.Random, value: Any) -> Any:
  """A value somewhere within is another, gone, or there twice."""
  value = copy.deepcopy(value)
  places = list(_places(value))
  if not places:
    return rng.choice(ODD_VALUES)
  holder, key = rng.choice(places)
  match rng.randrange(5):
    case 0:
      del holder[key]
    case 1:
      holder[key] = holder[rng.choice([k for h, k in places if h is holder])]
    case 2 if isinstance(holder, list):
      holder.insert(key, copy.deepcopy(holder[key]))
    case 2 if isinstance(holder, dict):
      holder[f'{key}{rng.choice(["", "s", " "])}'] = holder.pop(key)
    case _:
      holder[key] = rng.choice(ODD_VALUES)
  return value


def _places(value: Any):
  """Each (dictionary or list, key) within a value."""
  items = value.items() if isinstance(value, dict) else ()
  items = enumerate(value) if isinstance(value, list) else items
  for key, each in list(items):
    yield value, key
    yield from _places(each)


def dumped(value: Any) -> bytes:
  """As JSON; what JSON has not, as Python writes it."""
  return json.dumps(value).encode(errors='surrogatepass')


def of_file(
  rng: random.Random,
  data: bytes,
  read: Callable[[bytes], Any] = json.loads,
  write: Callable[[Any], bytes] = dumped,
) -> bytes:
  """A file changed in what it means, or in one of three in its bytes."""
  if rng.random() < 1 / 3:
    return of_bytes(rng, data)
  try:
    value = read(data)
  except ValueError:  # changed before
    return of_bytes(rng, data)
  for _ in range(rng.randint(1, 2)):
    value = of_json(rng, value)
  try:
    return write(value)
  except (TypeError, ValueError, OverflowError):
    return of_bytes(rng, data)


def of_rows(rng: random.Random, data: bytes) -> bytes:
  """JSON lines of which one to three are changed."""
  lines = data.splitlines()
  for _ in range(rng.randint(1, 3)):
    at = rng.randrange(len(lines))
    lines[at] = of_file(rng, lines[at])
  return b'\n'.join(lines) + rng.choice((b'\n', b'', b'\n\n', b'\r\n'))


def of_safetensors(rng: random.Random, data: bytes) -> bytes:
  """The header changed in what it means, or its length, or any bytes."""
  size = int.from_bytes(data[:8], 'little')
  if rng.random() < 0.2:
    wrong = rng.choice((0, 1, size - 1, size + 1, size * 2, 2**40, 2**64 - 1))
    return wrong.to_bytes(8, 'little') + data[8:]
  header = of_file(rng, data[8 : 8 + size])
  return len(header).to_bytes(8, 'little') + header + data[8 + size :]


def of_gin(rng: random.Random, text: str) -> str:
  """Lines of a gin file changed in a value, a name, a character or in place."""
  lines = text.splitlines()
  for _ in range(rng.randint(1, 3)):
    at = rng.randrange(len(lines))
    name, equals, _ = lines[at].partition('=')
    match rng.randrange(7):
      case 0 if equals:
        lines[at] = f'{name}= {rng.choice(ODD_WORDS)}'
      case 1 if equals:
        lines[at] = f'{rng.choice(["x", "a/", ".", "é", "1", "x."])}{lines[at]}'
      case 2:
        del lines[at]
      case 3:
        lines.insert(at, rng.choice(lines))
      case 4:
        lines.insert(at, rng.choice(_ODD_LINES))
      case _ if lines[at]:
        cut = rng.randrange(len(lines[at]))
        odd = rng.choice(
          ['', '(', '"', ' ', '=', '@', '%', '\t', '\\', ':', '/']
        )
        lines[at] = lines[at][:cut] + odd + lines[at][cut + 1 :]
    lines = lines or ['']
  return '\n'.join(lines) + '\n'


_ODD_LINES = (
  'include', 'include 3', "include 'nothing.gin'", "include '../../..'",
  'import', 'import nothing', 'from dap import', 'from dap import nothing',
  'import dap.nothing', 'from __gin__ import dynamic_registration',
  'from __gin__ import x', 'X', '= 1', 'X = ', 'X = 1 = 2', '  X = 1',
  'train.Run:', 'train.Run:\n  x = 1', 'a/b/c/d = 1', '"""', '#', '\x00',
  '\ufeffX = 1', 'macro = 1', 'X/macro.value = %X', 'X = %X', 'X = %Y\nY = %X',
  'train.Run.num_steps = @train.Run()', 'def f(): pass',
)  # fmt: skip
