"""Layer 7. A report as Markdown; figures are files beside it."""

from collections.abc import Iterator, Sequence

from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  OTHER_WAY,
  REFUSED,
  REPRODUCED,
  SAME_WAY,
  UNDECIDED,
  Predicate,
)
from dap.study.report.pages import blocks, numbers
from dap.study.report.pages.blocks import Block
from dap.study.report.pages.texts import of_markdown

SIGNS = {
  REPRODUCED: '✓',
  CONTRADICTED: '✗',
  SAME_WAY: '(✓)',
  OTHER_WAY: '(✗)',
  UNDECIDED: '?',
  REFUSED: '⊘',
  NOT_REACHED: '–',
}
_SHOWN = 'The page report.html shows all of them side by side.'


def text(title: str, parts: Sequence[Block]) -> str:
  """The whole report."""
  lines = [f'# {of_markdown(title)}', *(_block(part) for part in parts)]
  return '\n\n'.join(lines) + '\n'


def _block(block: Block) -> str:
  match block:
    case blocks.Heading(heading, level):
      return f'{"#" * level} {of_markdown(heading)}'
    case blocks.Text(paragraph, strong):
      words = of_markdown(paragraph)
      return f'**{words}**' if strong else words
    case blocks.Bullets(items):
      return '\n'.join(f'- {of_markdown(item)}' for item in items)
    case blocks.Table(header, rows, folded):
      table = _table(header, rows)
      return _details(folded, table) if folded else table
    case blocks.Verdicts(groups):
      header = ['', 'claim', 'verdict', 'estimate [95 %]', 'by seed']
      return _table(header, list(_verdicts(groups)))
    case blocks.Chart(figure, file):
      caption = of_markdown(figure.caption)
      return f'![{_plain(figure.title)}]({file}.png)\n\n{caption}'.rstrip()
    case blocks.Browser(few):
      return '\n\n'.join([*(_sample(each) for each in few), _SHOWN])
    case blocks.AllPoints(count):
      return f'All {count} points are in [runs.jsonl](runs.jsonl).'
    case blocks.Configurations():
      return 'Resolved, of each run: in [study.json](study.json).'


def _verdicts(
  groups: Sequence[tuple[str, Sequence[Predicate]]],
) -> Iterator[list[str]]:
  for name, predicates in groups:
    yield ['', f'**{name}**', '', '', '']
    for each in predicates:
      yield [
        each.name,
        _claim(each),
        f'{SIGNS.get(each.verdict, "")} {each.verdict}'.strip(),
        numbers.estimate(each),
        numbers.by_seed(each),
      ]


def _claim(predicate: Predicate) -> str:
  parts = [f'{predicate.claim} ({predicate.place})']
  if predicate.primary:
    parts.append('**Primary endpoint.**')
  if predicate.conditional:
    parts.append('These seeds only.')
  return ' '.join([*parts, predicate.detail]).rstrip()


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  lines = [header, ['---'] * len(header), *rows]
  return '\n'.join(f'| {" | ".join(map(_cell, row))} |' for row in lines)


def _sample(sample: blocks.Sample) -> str:
  lines = [('prompt', sample.prompt), *sample.answers]
  width = max(len(name) for name, _ in lines)
  return '\n'.join(
    '    ' + of_markdown(f'{name:<{width}} {" ".join(words.split())}')
    for name, words in lines
  )


def _details(summary: str, inner: str) -> str:
  words = of_markdown(summary)
  return f'<details><summary>{words}</summary>\n\n{inner}\n\n</details>'


def _cell(words: str) -> str:
  return of_markdown(words).replace('|', '\\|')


def _plain(words: str) -> str:
  return of_markdown(words.replace('[', '(').replace(']', ')'))
