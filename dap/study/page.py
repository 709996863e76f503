"""Layer 6. A report as blocks, written as Markdown or as one HTML page.

The page needs no network and no script: it is read on a phone, in the light
and in the dark.
"""

import html
import re
from collections.abc import Sequence
from typing import NamedTuple


class Heading(NamedTuple):
  """The heading of a section."""

  text: str


class Text(NamedTuple):
  """A paragraph; `strong` is the finding of the page."""

  text: str
  strong: bool = False


class Bullets(NamedTuple):
  """A list of sentences."""

  items: Sequence[str]


class Table(NamedTuple):
  """A table; `folded` when it is too long to stand open in the page."""

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  folded: str = ''


class Plot(NamedTuple):
  """A figure: SVG for wide and narrow screens, and a file for Markdown."""

  wide: str
  narrow: str
  file: str
  caption: str


class Sample(NamedTuple):
  """A prompt and what the policies answer: (policy, response)."""

  prompt: str
  answers: Sequence[tuple[str, str]]


class Code(NamedTuple):
  """Text as it is, folded under a summary."""

  summary: str
  text: str


Block = Heading | Text | Bullets | Table | Plot | Sample | Code


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
  """The report as Markdown; figures are files beside it."""
  parts = [f'# {title}', *(_markdown(block) for block in blocks)]
  return '\n\n'.join(parts) + '\n'


def to_html(title: str, blocks: Sequence[Block]) -> str:
  """The report as one page with all that it shows inside."""
  body = '\n'.join(_html(block, index) for index, block in enumerate(blocks))
  return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _markdown(block: Block) -> str:
  match block:
    case Heading(text):
      return f'## {text}'
    case Text(text, strong):
      return f'**{text}**' if strong else text
    case Bullets(items):
      return '\n'.join(f'- {item}' for item in items)
    case Table(header, rows, folded):
      rule = ['---'] * len(header)
      lines = [header, rule, *rows]
      table = '\n'.join(f'| {" | ".join(map(_cell, row))} |' for row in lines)
      return _details(folded, table) if folded else table
    case Plot(file=file, caption=caption):
      return f'![{caption}]({file})\n\n{caption}'
    case Sample(prompt, answers):
      lines = [('prompt', prompt), *answers]
      return '\n'.join(
        f'    {name:<8} {" ".join(text.split())}' for name, text in lines
      )
    case Code(summary, text):
      indented = '\n'.join('    ' + line for line in text.splitlines())
      return _details(summary, indented)


def _details(summary: str, inner: str) -> str:
  return f'<details><summary>{summary}</summary>\n\n{inner}\n\n</details>'


def _cell(text: str) -> str:
  return text.replace('|', '\\|').replace('\n', ' ')


def _html(block: Block, index: int) -> str:
  match block:
    case Heading(text):
      return f'<h2>{html.escape(text)}</h2>'
    case Text(text, strong):
      kind = ' class="finding"' if strong else ''
      return f'<p{kind}>{html.escape(text)}</p>'
    case Bullets(items):
      inner = ''.join(f'<li>{html.escape(item)}</li>' for item in items)
      return f'<ul>{inner}</ul>'
    case Table(header, rows, folded):
      table = _table(header, rows)
      return _folded(folded, table) if folded else table
    case Plot(wide, narrow, _, caption):
      return (
        f'<figure role="img" aria-label="{html.escape(caption)}">'
        f'<div class="wide">{_inline(wide, f"w{index}-")}</div>'
        f'<div class="narrow">{_inline(narrow, f"n{index}-")}</div>'
        f'<figcaption>{html.escape(caption)}</figcaption></figure>'
      )
    case Sample(prompt, answers):
      cards = ''.join(
        f'<div class="answer {html.escape(name)}"><b>{html.escape(name)}</b>'
        f'<p>{html.escape(text)}</p></div>'
        for name, text in answers
      )
      return (
        f'<section class="sample"><p class="prompt">{html.escape(prompt)}</p>'
        f'<div class="answers">{cards}</div></section>'
      )
    case Code(summary, text):
      return _folded(summary, f'<pre>{html.escape(text)}</pre>')


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  head = ''.join(f'<th>{html.escape(cell)}</th>' for cell in header)
  body = ''.join(
    '<tr>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row) + '</tr>'
    for row in rows
  )
  return (
    f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
    f'<tbody>{body}</tbody></table></div>'
  )


def _folded(summary: str, inner: str) -> str:
  return f'<details><summary>{html.escape(summary)}</summary>{inner}</details>'


def _inline(svg: str, prefix: str) -> str:
  """An SVG file as an element whose ids are its own in the page."""
  svg = svg[svg.index('<svg') :]
  svg = re.sub(r'\bid="', f'id="{prefix}', svg)
  svg = re.sub(r'href="#', f'href="#{prefix}', svg)
  return re.sub(r'url\(#', f'url(#{prefix}', svg)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { --back: #fff; --ink: #1a1a1a; --faint: #767676; --line: #ddd;
  --card: #f6f6f4; --online: #0072b2; --offline: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --back: #14161a; --ink: #e6e6e3;
  --faint: #9a9a96; --line: #3a3d43; --card: #1e2127; --online: #56b4e9;
  --offline: #f08a3c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
.finding { font-size: 1.15rem; font-weight: 600; }
figure { margin: 1.5rem 0; }
figure svg { width: 100%; height: auto; }
figcaption { color: var(--faint); font-size: .9rem; }
.narrow { display: none; }
@media (max-width: 40rem) { .wide { display: none; }
  .narrow { display: block; } }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
.sample { background: var(--card); border-radius: .5rem; padding: .8rem 1rem;
  margin: .8rem 0; overflow-wrap: anywhere; }
.sample p { margin: .2rem 0; }
.prompt { white-space: pre-line; }
.answers { display: grid; gap: .8rem; margin-top: .7rem;
  grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.answer { border-left: 3px solid var(--faint); padding-left: .7rem; }
.answer.online { border-color: var(--online); }
.answer.offline { border-color: var(--offline); }
.answer b { font-size: .8rem; color: var(--faint); }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--faint); }
pre { overflow-x: auto; background: var(--card); padding: .8rem;
  border-radius: .5rem; font-size: .82rem; }
"""
