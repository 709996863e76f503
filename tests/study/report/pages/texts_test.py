"""Texts of others: no tag, link or mark of direction leaves them."""

import json
import re

import pytest
from report_parts import figure, points

from dap.study.report.drawing import looks, static
from dap.study.report.pages import blocks, html, markdown, texts

RLO, PDF, FSI, PDI = '\u202e', '\u202c', '\u2068', '\u2069'
ODD = [
  '<script>alert(1)</script>',
  '<img src=x onerror=a>',
  '[go](javascript:alert(1))',
  'see [go] (javascript:x) or [a]: javascript:x',
  'a &lt;b&gt; &#60;script&#62;',
  '\\[go\\\\](javascript:x)',
  'two\nlines\n# of it',
]


@pytest.mark.parametrize('text', ODD)
def test_markdown_has_no_tag_and_no_link_of_a_text(text):
  parts = [
    blocks.Text(text),
    blocks.Heading(text),
    blocks.Bullets([text]),
    blocks.Table([text], [[text]], folded=text),
    blocks.Browser([blocks.Sample(text, [(text, text)])]),
  ]
  written = markdown.text(text, parts)
  assert not re.search(r'<(?!/?(details|summary)>)[A-Za-z/!?]', written)
  assert not re.search(r'\]\s*[(\[:](?!samples|runs)', written)
  assert not re.search(r'^# of it', written, re.MULTILINE)


def test_a_plain_text_is_as_it_was():
  for text in ('a < b & c', '0.1 [0.0, 0.2] win rate', 'x_1 * 2', 'AT&T'):
    assert texts.of_markdown(text) == text == texts.isolated(text)


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    (f'a{RLO}b', f'{FSI}a{RLO}b{PDF}{PDI}'),
    (f'a{PDI}{PDF}b{RLO}', f'{FSI}ab{RLO}{PDF}{PDI}'),
    (f'{FSI}{RLO}x', f'{FSI}{FSI}{RLO}x{PDF}{PDI}{PDI}'),
    (f'{RLO}ok{PDF}', f'{FSI}{RLO}ok{PDF}{PDI}'),
  ],
)
def test_marks_of_direction_end_with_their_text(text, expected):
  assert texts.isolated(text) == expected


def test_every_mark_of_a_page_is_closed_where_its_text_ends():
  text = f'good{RLO}evil'
  shown = html._block(blocks.Table([text], [[text]]))
  assert shown.count(f'{FSI}{text}{PDF}{PDI}') == 2
  data = json.loads(html.script_json({'samples': [{'text': text}], text: 1}))
  assert data['samples'][0]['text'] == f'{FSI}{text}{PDF}{PDI}'


def test_a_dollar_in_a_title_is_a_dollar():
  odd = figure(points())._replace(title='It costs $x_{ and $\\frac')
  style = looks.style([odd])
  drawing = static.draw(odd, style)
  assert len(static.png_bytes(drawing)) > 1000
  assert '$x_{' in drawing.axes[0].get_title(loc='left')
