"""Layer 8. How messages spell values and names: short, as gin has them."""

import inspect

_MOST = 60  # characters of a value in a message


def name_of(target: object) -> str:
  """How to speak of a function, class or macro: `losses.pairwise.ipo_loss`."""
  if isinstance(target, str):
    return target
  return full_name(target).removeprefix('dap.')


def full_name(target: object) -> str:
  """The same with the package: `dap.losses.pairwise.ipo_loss`."""
  module = getattr(target, '__module__', None) or ''
  name = getattr(target, '__qualname__', None) or _text(target)
  return f'{module}.{name}'


def short(value: object, most: int = _MOST) -> str:
  """The value's text, cut where it is long; never thousands of digits."""
  if inspect.isroutine(value) or isinstance(value, type):
    return name_of(value)
  return cut(_text(value), most)


def told(value: object) -> str:
  """What came in place of what was wanted: "'32' (str)"."""
  plain = bool | int | float | str | list | tuple | dict | None
  if isinstance(value, plain):
    return f'{short(value)} ({type(value).__name__})'
  if inspect.isroutine(value) or isinstance(value, type):
    return short(value)
  name = name_of(getattr(value, 'function', None) or type(value))
  return f'{"an" if name[:1] in "aeiou" else "a"} {name}'


def cut(text: str, most: int = _MOST) -> str:
  """The beginning of a long text, its end, and how long it is."""
  if len(text) <= most:
    return text
  return f'{text[: most - 10]}...{text[-7:]} ({len(text)} characters)'


def as_gin(value: object) -> str:
  """How a gin file writes a value; '%NAME' for what it makes or names."""
  if isinstance(value, type) or inspect.isroutine(value):
    return f'@{name_of(value)}'
  if isinstance(value, list | tuple) and type(value) in (list, tuple):
    inner = ', '.join(map(as_gin, value))
    return cut(f'({inner}{"," if len(value) == 1 else ""})')
  if value is None or isinstance(value, bool | int | float | str):
    return short(value)
  return '%NAME'


def _text(value: object) -> str:
  try:
    return repr(value)
  except ValueError:  # Python writes no number of more than 4,300 digits
    return f'a {type(value).__name__} too long to write'
