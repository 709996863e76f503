"""Layer 8. A loss in words: its docstring's equation, and where it is from."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dap.algorithms.signals import Signal
from dap.commands import said

_SECTION = re.compile(r'(Args|Attributes|Raises|Returns|Source):\s*')


class Equation(NamedTuple):
  """What a docstring says of a loss.

  Attributes:
    name: of the function.
    text: the formula with its symbols, what it returns, and the formulas of
      the functions that it names and of the signals that it reads.
    source: paper and equation; '' where the docstring names none.
  """

  name: str
  text: str
  source: str


def of(
  function: Callable[..., object], signals: Sequence[Signal] = ()
) -> Equation:
  """The equation of a loss function, and of signals that it reads."""
  bare = _bare(function)
  sections = _sections(bare)
  told = [sections['']]
  if 'Returns' in sections:
    told.append(f'Returns: {sections["Returns"]}')
  named = _named('\n'.join(told), bare)
  told += [f'`{name}`: {_sections(each)[""]}' for name, each in named]
  told += [f'`{each.name}`: {_sections(type(each))[""]}' for each in signals]
  source = ' '.join(sections.get('Source', '').split())
  return Equation(said.name_of(bare), '\n\n'.join(filter(None, told)), source)


def _bare(function: Callable[..., object]) -> Callable[..., object]:
  """The function of the loss itself, without what is bound or wraps it."""
  inner = getattr(function, 'func', getattr(function, 'function', function))
  return inspect.unwrap(inner)


def _sections(documented: object) -> dict[str, str]:
  """A docstring by its titles; what stands under none is ''."""
  found = {'': ''}
  for paragraph in re.split(r'\n\s*\n', inspect.getdoc(documented) or ''):
    begin = _SECTION.match(paragraph)
    title = begin[1] if begin else ''
    text = inspect.cleandoc(paragraph[begin.end() :] if begin else paragraph)
    found[title] = '\n\n'.join(filter(None, (found.get(title), text)))
  return found


def _named(
  text: str, function: Callable[..., object]
) -> list[tuple[str, Callable[..., object]]]:
  """Functions of losses that a text names in backticks, as its module does."""
  module = sys.modules[function.__module__]
  found: list[tuple[str, Callable[..., object]]] = []
  for name in dict.fromkeys(re.findall(r'`(\w+)`', text)):
    each = getattr(module, name, None)
    if inspect.isfunction(each) and each.__module__.startswith('dap.losses'):
      found.append((name, _bare(each)))
  return found
