import json
import re
from html.parser import HTMLParser

import pytest
import report_parts
from report_parts import HOSTILE, figure, points, predicates, samples

from dap.study.report import findings
from dap.study.report.drawing import looks
from dap.study.report.pages import blocks, data, html, markdown

VOID = {'meta', 'link', 'br', 'input'}


class Page(HTMLParser):
  """Collects ids, links, texts and scripts; tags must close in order."""

  def __init__(self, text):
    super().__init__()
    self.open, self.ids, self.links, self.text = [], [], [], ''
    self.scripts = []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    if tag not in VOID:
      self.open.append(tag)
    if tag == 'script':
      self.scripts.append('')
    self.ids += [value for name, value in attrs if name == 'id']
    self.links += [
      value for name, value in attrs if name in ('src', 'href', 'action')
    ]

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in VOID:
      self.handle_endtag(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] == 'script':
      self.scripts[-1] += data
    else:
      self.text += data


def text(title='A <title>'):
  own = points()
  whole = figure(own)
  style = looks.style([whole])
  parts = [
    blocks.Text('Online < offline & more', strong=True),
    blocks.Heading('Verdicts'),
    blocks.Verdicts([('<Gap>', predicates())]),
    blocks.Heading('Figures'),
    blocks.Chart(whole, 'figures/fig1'),
    blocks.Table(['run', '<KL>'], [['<a>', '1.0']]),
    blocks.Table(['run'], [['hidden']], folded='By stage'),
    blocks.Bullets(['one', '<two>']),
    blocks.Browser([]),
    blocks.AllPoints(len(own)),
    blocks.Configurations(),
  ]
  page_data = data.of_report(
    own, [whole], style, samples(own), report_parts.STUDY, ['online']
  )
  return html.text(title, parts, page_data, style)


@pytest.fixture(scope='module')
def page():
  return Page(text())


def test_the_page_is_well_formed_and_ids_are_its_own(page):
  assert page.open == []
  assert len(set(page.ids)) == len(page.ids)
  assert {'data', 'verdicts', 'figures', 'figure-fig1'} <= set(page.ids)


def test_the_page_fetches_nothing(page):
  assert page.links and all(link.startswith('#') for link in page.links)
  whole = text()
  policy = re.search(r'Content-Security-Policy" content="([^"]*)"', whole)
  assert policy and policy.group(1).startswith("default-src 'none';")
  assert 'http' not in policy.group(1)
  assert '@import' not in whole.split('</style>')[0]


def test_links_lead_to_parts_of_the_page(page):
  signs = {f'sign-{word}' for word in ('reproduced', 'contradicted',
                                       'undecided', 'not-reached')}  # fmt: skip
  wanted = {link.removeprefix('#') for link in page.links}
  assert wanted <= set(page.ids) and signs <= wanted


def test_the_data_in_the_page_are_json_that_cannot_end_their_script(page):
  stored, plotly, own = page.scripts
  assert '<' not in stored
  found = json.loads(stored)
  assert found['samples']['points'][0]['texts'][0] == HOSTILE
  assert 'plotly.js v' in plotly[:2000]
  assert '$scripts' not in own and 'Plotly.newPlot' in own


def test_texts_of_others_are_texts(page):
  for expected in (
    'A <title>',
    'Online < offline & more',
    '<Gap>',
    '<i>No</i> relation',
    '<KL>',
    '<two>',
  ):
    assert expected in page.text


def test_verdicts_are_words_with_a_sign_and_what_limits_them():
  whole = text()
  for word in ('reproduced', 'contradicted', 'undecided', 'not-reached'):
    assert f'<span class="verdict {word}"><svg aria-hidden="true">' in whole
  assert '★ primary endpoint' in whole and 'these seeds only' in whole
  assert '<span class="seed"><i>1</i> 0.100</span>' in whole


def test_every_word_of_a_verdict_has_its_sign(page):
  words = {*findings._ORDER}
  signs = {f'sign-{word.replace(" ", "-")}' for word in words}
  assert signs <= set(page.ids)
  assert words == markdown.SIGNS.keys()


def test_equal_results_give_equal_bytes():
  assert text() == text()


def test_the_page_knows_light_and_dark_and_narrow():
  style = text().split('<style>')[1].split('</style>')[0]
  assert style.count('prefers-color-scheme: dark') == 2
  assert 'max-width: 40rem' in style
  assert '--series-0:' in style
