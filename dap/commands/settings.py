"""Layer 8. `dap COMMAND --gin_file=FILE --help`: what there is to set.

Macros that the command reads, grouped by the part that gives them, each with
its value and a line on it: the comment beside it in the gin file, or what the
docstring of its reader says of the argument.
"""

import inspect
import pathlib
import re
import textwrap
import tokenize
from collections.abc import Iterator

from dap.commands import places, reads, said
from dap.commands.bindings import (
  REQUIRED,
  Binding,
  Bindings,
  Macro,
  Reference,
  map_value,
)

_WIDTH, _COLUMN, _LONG = 79, 32, 46
_MUST = 'must be given'
_END = """\
Any other argument is set by its name, which --show_config prints with all
values: --gin.SCOPE/MODULE.FUNCTION.ARGUMENT=VALUE. A choice of a part, such as
a loss, is made by --gin_file=gin/losses/dpo.gin after the file above."""


def text(bindings: Bindings, function: object) -> str:
  """The list for a run function; what must be given comes first."""
  walked = [each for each, _ in reads.walk(bindings, [function], reads.live)]
  macros = {each.name: each for each in walked if each.is_macro}
  groups: dict[str, list[str]] = {}
  for name, binding in sorted(
    macros.items(), key=lambda item: (item[1].value != REQUIRED, item[0])
  ):
    told = comment_on(binding) or _of_readers(walked, bindings, name)
    title = _MUST if binding.value == REQUIRED else _title(binding)
    groups.setdefault(title, []).append(_line(name, binding.value, told))
  parts = [f'{title}\n' + '\n'.join(lines) for title, lines in groups.items()]
  return '\n\n'.join([*parts, _END])


def _title(binding: Binding) -> str:
  if binding.file is None:
    return 'given on the command line'
  lines = binding.file.read_text(encoding='utf-8').splitlines()
  about = lines[0].lstrip('# ') if lines and lines[0].startswith('#') else ''
  title = f'{places.shorten(binding.file)}: {about}'.rstrip(': ')
  return textwrap.shorten(title, _WIDTH, placeholder=' ...')


def _line(name: str, value: object, told: str) -> str:
  shown = '' if value == REQUIRED else f'={as_written(value)}'
  start = f'  --gin.{name}{shown}'
  if not told:
    return start
  beside = len(start) < _COLUMN
  place = f'{start:<{_COLUMN}}' if beside else f'{start}\n{"":{_COLUMN}}'
  return place + textwrap.shorten(told, _WIDTH - _COLUMN, placeholder=' ...')


def as_written(value: object) -> str:
  """A bound value as a gin file has it, cut where it is long."""

  def spelled(each: object) -> object:
    match each:
      case Macro(name):
        return _Word(f'%{name}')
      case Reference(target, scope, call):
        name = '/'.join([*scope, said.name_of(target)])
        return _Word(f'@{name}{"()" if call else ""}')
    return map_value(spelled, each, '')

  written = repr(spelled(value))
  return written if len(written) < _LONG else f'{written[: _LONG - 3]}...'


class _Word(str):
  """A text that is shown without quotes."""

  __slots__ = ()

  def __repr__(self) -> str:
    return str(self)


def comment_on(binding: Binding) -> str:
  """The comment on the line of a binding, or alone on the lines above it."""
  if binding.file is None:
    return ''
  number = int(binding.origin.rpartition(':')[2])
  beside, alone = _comments(binding.file)
  if number in beside:
    return beside[number]
  above = []
  while (number := number - 1) in alone:
    above.insert(0, alone[number])
  return ' '.join(above) if number else ''  # the head of the file is of it all


def _comments(path: pathlib.Path) -> tuple[dict[int, str], dict[int, str]]:
  """Comments by line: those beside something, and those alone."""
  beside, alone = {}, {}
  with path.open('rb') as file:
    for token in tokenize.tokenize(file.readline):
      if token.type == tokenize.COMMENT:
        found = beside if token.line[: token.start[1]].strip() else alone
        found[token.start[0]] = token.string.lstrip('# ')
  return beside, alone


def _of_readers(walked: list[Binding], bindings: Bindings, macro: str) -> str:
  """What docstrings say of the arguments that read a macro."""
  for binding in walked:
    for target, argument in _read_as(binding, bindings, macro):
      if told := of_argument(target, argument):
        return told
  return ''


def _read_as(
  binding: Binding, bindings: Bindings, macro: str
) -> Iterator[tuple[object, str]]:
  if binding.is_macro:
    return
  if binding.value == Macro(macro):
    yield binding.target, binding.argument
  if type(binding.value) is dict:  # numbers of the function that stands beside
    for key, value in binding.value.items():
      if value == Macro(macro):
        for other in bindings.of(binding.target):
          for each in reads.references(other.value):
            if isinstance(each, Reference):
              yield each.target, str(key)


def of_argument(target: object, argument: str) -> str:
  """What a docstring says of an argument or attribute; '' if nothing."""
  lines = (inspect.getdoc(target) or '').splitlines()
  found: list[str] = []
  for line in lines:
    if found and re.match(r'^\s{3,}\S', line):
      found.append(line.strip())
    elif found:
      break
    elif match := re.match(rf'^\s+{re.escape(argument)}: (.*)$', line):
      found.append(match[1])
  return ' '.join(found)
