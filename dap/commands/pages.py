"""Layer 8. `dap algorithms` as plain text of at most 100 columns."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from dap.commands import survey
from dap.commands.described import Description
from dap.commands.experiments import Default

WIDTH = 100
_SLOTS = (
  'algorithm', 'responses', 'pairing', 'loss', 'behaviour', 'reference',
)  # fmt: skip
_NEEDS = (
  'algorithm', 'of the data', 'annotator', 'a prompt', 'a step', 'models',
)  # fmt: skip
_NO_TESTS = (
  'in the repository: tests/algorithms, or the file of tests/losses that names'
  ' its loss'
)


def overview(
  descriptions: Sequence[Description], artefacts: Sequence[str]
) -> str:
  """All algorithms: slots, needs, the survey's table and the derived one."""
  parts = [
    _titled(
      'Slots. Responses: those of a prompt; behaviour: which policy draws'
      ' them; reference: which one the loss compares with.',
      table(_SLOTS, map(_slot_row, descriptions)),
    ),
    _titled(
      'Needs. Annotator: who scores responses, and how many to a prompt and in'
      ' a step; models: distinct sets of parameters that are resident.',
      table(_NEEDS, map(_need_row, descriptions)),
    ),
    _properties(descriptions),
    _wrapped(
      f'Not listed: {", ".join(artefacts)}, which start from nothing and which'
      ' algorithms start from. One algorithm: dap algorithms NAME. All of this'
      ' as JSON: --json.'
    ),
  ]
  return '\n\n'.join(parts)


def page(each: Description) -> str:
  """One algorithm."""
  sources = [
    _wrapped(f'{place}: {words}', '  ') for place, words in each.sources.items()
  ]
  tests = each.tests or (_NO_TESTS,)
  parts = [
    _titled(f'{each.name}: {each.summary}', f'  {each.config}'),
    f'Equation of {each.equation.name}\n'
    + textwrap.indent(each.equation.text, '  '),
    'Slots\n' + _pairs(each.slots),
    'Needs\n' + _pairs(_needs(each)),
    '\n'.join(_own_rows(each)),
    'Defaults, and what is set here\n'
    + ('\n'.join(_defaults(each.defaults)) or '  none'),
    'Sources\n' + '\n'.join(sources),
    f'Command\n  {each.command}\n'
    f'  all that can be set: dap train --gin_file={each.config} --help',
    'Tests\n' + '\n'.join(f'  {path}' for path in tests),
  ]
  return '\n\n'.join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """Columns as wide as their widest cell, two blanks between them."""
  whole = [tuple(head), *(tuple(row) for row in rows)]
  widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
  lines = [
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    for row in whole
  ]
  return '\n'.join(lines)


def _slot_row(each: Description) -> tuple[str, ...]:
  pairing = each.slots['pairing'].partition('(')[0]
  drawn = each.traits.data != 'pairs'
  return (
    each.name,
    each.traits.responses,
    pairing if drawn else '-',
    each.loss,
    each.traits.behaviour,
    each.traits.reference,
  )


def _need_row(each: Description) -> tuple[str, ...]:
  return (
    each.name,
    each.traits.data,
    each.traits.annotator,
    str(each.traits.asked),
    str(each.calls),
    str(len(each.traits.models)),
  )


def _needs(each: Description) -> dict[str, str]:
  needed, told = each.traits, each.traits.annotator
  asked = f'{told}; responses: {needed.asked} a prompt, {each.calls} a step'
  return {
    'of the data': f'{needed.data}, {each.batch} a step',
    'annotator': asked if needed.asked else 'nobody is asked',
    'models': f'{len(needed.models)}: {", ".join(needed.models)}',
  }


def _properties(descriptions: Sequence[Description]) -> str:
  """The survey's table as printed, the derived one, and where they differ."""
  heads = tuple(f'({i + 1})' for i in range(len(survey.COLUMNS)))
  legend = [f'  {n} {c}' for n, c in zip(heads, survey.COLUMNS, strict=True)]
  theirs = table(
    ('', 'Algorithm', *heads),
    ((row.group, row.name, *row.cells) for row in survey.ROWS),
  )
  rows, told = [], []
  for each in descriptions:
    row = survey.of_experiment(each.name)
    differing = survey.differs(row, each.traits) if row else {}
    cells = [
      f'{cell}{"*" if column in differing else ""}'
      for column, cell in enumerate(survey.derived(each.traits))
    ]
    rows.append((each.name, row.name if row else '', *cells))
    told += [_wrapped(f'* {words}', '', '  ') for words in differing.values()]
  absent = ', '.join(row.name for row in survey.ROWS if not row.experiment)
  return '\n'.join(
    [
      'Properties (O yes, X no, △ partly)',
      *legend,
      '',
      "The survey's table, as printed there:",
      theirs,
      '',
      'The same from the slots; * where the survey says something else:',
      table(('algorithm', "survey's name", *heads), rows),
      *told,
      _wrapped(f'{absent}: {survey.ABSENT}.'),
    ]
  )


def _own_rows(each: Description) -> Iterator[str]:
  """Its properties by the slots, beside the survey's."""
  row = survey.of_experiment(each.name)
  theirs = row.cells if row else ('-',) * len(survey.COLUMNS)
  named = f'{row.name} in the survey' if row else 'not in the survey'
  yield f'Properties (O yes, X no, △ partly); {named}'
  whole = zip(survey.COLUMNS, survey.derived(each.traits), theirs, strict=True)
  lines = table(('', 'slots', 'survey'), whole).splitlines()
  yield from (f'  {line}' for line in lines)
  told = survey.differs(row, each.traits).values() if row else ()
  yield from (_wrapped(f'* {words}', '  ') for words in told)


def _defaults(given: Sequence[Default]) -> Iterator[str]:
  """By part, each with what the experiment sets in its place."""
  for part in dict.fromkeys(each.part for each in given):
    yield f'  {part}'
    for each in given:
      if each.part == part:
        yield f'    {_said(each.name, each.value, each.told)}'
        if each.here:
          yield f'      {_said("here", each.here, each.here_told)}'


def _said(name: str, value: str, told: str) -> str:
  return f'{name} = {value}' + (f'  # {told}' if told else '')


def _pairs(values: dict[str, str]) -> str:
  width = max(map(len, values))
  return '\n'.join(
    textwrap.fill(
      f'{name:<{width}}  {text}',
      WIDTH,
      initial_indent='  ',
      subsequent_indent=' ' * (width + 4),
    )
    for name, text in values.items()
  )


def _titled(title: str, body: str) -> str:
  return f'{_wrapped(title)}\n{body}'


def _wrapped(text: str, first: str = '', later: str | None = None) -> str:
  rest = f'{first}  ' if later is None and first else later or ''
  return textwrap.fill(
    text,
    WIDTH,
    initial_indent=first,
    subsequent_indent=rest,
    break_long_words=False,
    break_on_hyphens=False,
  )
