"""Layer 7. A report as one HTML page with all that it needs inside.

The page fetches nothing, and its policy forbids it to: plots, samples and
tables are drawn from the JSON in it by the scripts in it.
"""

import importlib.resources
import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence

from dap.study.reading.evidence import NOT_REACHED, Figure, Predicate
from dap.study.report.drawing.looks import FAINT, INK, Style
from dap.study.report.pages import blocks, numbers, texts
from dap.study.report.pages.blocks import Block
from dap.study.report.pages.texts import of_html

_SCRIPTS = ('shared.js', 'legends.js', 'figures.js', 'samples.js', 'tables.js')


def text(
  title: str, parts: Sequence[Block], data: Mapping[str, object], style: Style
) -> str:
  """The whole page.

  Args:
    title: of the report.
    parts: in the order of the page.
    data: of `data.of_report`; plain JSON.
    style: of the figures.
  """
  from plotly import offline

  headings = [part for part in parts if isinstance(part, blocks.Heading)]
  return string.Template(_file('page.html')).substitute(
    title=of_html(title),
    style=_file('page.css') + _colours(style),
    contents=_contents(each for each in headings if each.level == 2),
    body='\n'.join(map(_block, parts)),
    data=script_json(data),
    plotly=offline.get_plotlyjs(),
    scripts='\n'.join(map(_file, _SCRIPTS)),
  )


def script_json(value: object) -> str:
  """JSON that nothing inside can end the script element of."""
  written = _json(value)
  if texts.MARKS.search(written):
    written = _json(texts.isolated_json(value))
  return written.replace('<', '\\u003c')


def _json(value: object) -> str:
  return json.dumps(
    value, ensure_ascii=False, allow_nan=False, separators=(',', ':')
  )


def anchor(heading: str) -> str:
  """'At equal KL' -> 'at-equal-kl'."""
  return re.sub(r'[^a-z0-9]+', '-', heading.lower()).strip('-')


def _file(name: str) -> str:
  return (
    importlib.resources.files('dap.study.report.pages')
    .joinpath(name)
    .read_text('utf-8')
  )


def _colours(style: Style) -> str:
  """The colours of the series, which the scripts read from the style."""
  named = {'ink': INK, 'faint': FAINT}
  named |= {f'series-{i}': c for i, c in enumerate(style.colours.values())}
  light = ''.join(f'--{name}:{c.light};' for name, c in named.items())
  dark = ''.join(f'--{name}:{c.dark};' for name, c in named.items())
  return (
    f':root{{{light}}}\n'
    f'@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n'
  )


def _contents(headings: Iterable[blocks.Heading]) -> str:
  return ''.join(
    f'<li><a href="#{anchor(each.text)}">{of_html(each.text)}</a></li>'
    for each in headings
  )


def _block(block: Block) -> str:
  match block:
    case blocks.Heading(heading, level):
      place = f' id="{anchor(heading)}"' if level == 2 else ''
      return f'<h{level}{place}>{of_html(heading)}</h{level}>'
    case blocks.Text(paragraph, strong):
      kind = ' class="finding"' if strong else ''
      return f'<p{kind}>{of_html(paragraph)}</p>'
    case blocks.Bullets(items):
      inner = ''.join(f'<li>{of_html(item)}</li>' for item in items)
      return f'<ul>{inner}</ul>'
    case blocks.Table(header, rows, folded):
      table = _table(header, rows)
      return _folded(folded, table) if folded else table
    case blocks.Verdicts(groups):
      return _verdicts(groups)
    case blocks.Chart(figure, _):
      return _chart(figure)
    case blocks.Browser():
      return '<div id="samples-browser" class="browser"></div>'
    case blocks.AllPoints(count):
      return _folded(f'All {count} points', '<div></div>', 'id="all-points"')
    case blocks.Configurations():
      return _folded(
        'Resolved, of each run', '<div></div>', 'id="configurations"'
      )


def _chart(figure: Figure) -> str:
  name, title = of_html(figure.name), of_html(figure.title)
  label = of_html(
    f'{figure.title}. Left and right go from mark to mark, up and down from'
    ' series to series, Enter picks a checkpoint.'
  )
  return (
    f'<figure class="chart" id="figure-{name}" data-figure="{name}">'
    f'<h3>{title}</h3>'
    f'<div class="plot" role="application" tabindex="0" aria-label="{label}">'
    '</div><div class="legend"></div>'
    f'<figcaption>{of_html(figure.caption)}</figcaption>'
    '<details class="values"><summary>Values</summary><div></div></details>'
    '</figure>'
  )


def _verdicts(groups: Sequence[tuple[str, Sequence[Predicate]]]) -> str:
  bodies = ''.join(
    '<tbody><tr class="group"><th colspan="4" scope="rowgroup">'
    f'{of_html(name)}</th></tr>{"".join(map(_verdict, predicates))}</tbody>'
    for name, predicates in groups
  )
  return (
    '<table class="verdicts"><thead><tr><th scope="col">Claim</th>'
    '<th scope="col">Verdict</th><th scope="col">Estimate [95 %]</th>'
    f'<th scope="col">By seed</th></tr></thead>{bodies}</table>'
  )


def _verdict(predicate: Predicate) -> str:
  kind = predicate.verdict.replace(' ', '-')
  tags = ''
  if predicate.primary:
    tags += ' <span class="tag primary">★ primary endpoint</span>'
  if predicate.conditional:
    tags += ' <span class="tag">these seeds only</span>'
  detail = ''
  if predicate.detail:
    detail = f'<div class="detail">{of_html(predicate.detail)}</div>'
  seeds = ''.join(
    f'<span class="seed"><i>{seed}</i> {numbers.number(value)}</span> '
    for seed, value in sorted(predicate.by_seed.items())
  )
  empty = ' class="empty"' if predicate.verdict == NOT_REACHED else ''
  return (
    f'<tr><th scope="row"><b>{of_html(predicate.name)}</b> '
    f'{of_html(predicate.claim)} '
    f'<span class="place">{of_html(predicate.place)}</span>{tags}{detail}'
    f'</th><td><span class="verdict {of_html(kind)}">'
    f'<svg aria-hidden="true"><use href="#sign-{of_html(kind)}"/></svg>'
    f'{of_html(predicate.verdict)}</span></td>'
    f'<td{empty} data-label="Estimate [95 %]">{_estimate(predicate)}</td>'
    f'<td{empty} data-label="By seed">{seeds or numbers.NONE}</td></tr>'
  )


def _estimate(predicate: Predicate) -> str:
  if predicate.estimate is None:
    return numbers.NONE
  ends = numbers.interval(predicate.low, predicate.high)
  return (
    f'<b>{numbers.number(predicate.estimate)}</b> '
    f'<span class="interval">{ends}</span> '
    f'<span class="unit">{of_html(predicate.unit)}</span>'
  )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  head = ''.join(f'<th scope="col">{of_html(cell)}</th>' for cell in header)
  body = ''.join(
    '<tr>' + ''.join(f'<td>{of_html(cell)}</td>' for cell in row) + '</tr>'
    for row in rows
  )
  return (
    '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>'
    f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
  )


def _folded(summary: str, inner: str, attributes: str = '') -> str:
  opened = f'<details {attributes}>' if attributes else '<details>'
  return f'{opened}<summary>{of_html(summary)}</summary>{inner}</details>'
