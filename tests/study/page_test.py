import re
from html.parser import HTMLParser

from dap.study import page

SVG = '<?xml version="1.0"?><svg><path id="a"/><use href="#a"/></svg>'
BLOCKS = [
  page.Text('Online < offline & more', strong=True),
  page.Plot(SVG, SVG, 'frontier.svg', 'A caption.'),
  page.Heading('Points'),
  page.Table(['run', 'KL'], [['a|b', '1.0'], ['c', '2.0']]),
  page.Table(['run'], [['hidden']], folded='All points'),
  page.Bullets(['one', 'two']),
  page.Sample('<b>prompt</b>', [('sft', 'a\nb'), ('online', 'c')]),
  page.Code('Configuration', '{"a": 1}'),
]


class Checker(HTMLParser):
  """Collects ids and fails on a tag that is closed out of order."""

  def __init__(self):
    super().__init__()
    self.open, self.ids, self.text = [], [], ''

  def handle_starttag(self, tag, attrs):
    if tag not in ('meta', 'path', 'use'):
      self.open.append(tag)
    self.ids += [value for name, value in attrs if name == 'id']

  def handle_startendtag(self, tag, attrs):
    self.ids += [value for name, value in attrs if name == 'id']

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


def test_the_page_is_well_formed_and_whole():
  text = page.to_html('A <title>', BLOCKS)
  checker = Checker()
  checker.feed(text)
  assert checker.open == []
  assert len(set(checker.ids)) == len(checker.ids) == 2
  assert 'Online < offline & more' in checker.text
  assert '<b>prompt</b>' in checker.text
  assert not re.search(r'(src|href)="(?!#)', text)  # nothing to fetch
  assert 'prefers-color-scheme: dark' in text
  assert 'href="#w1-a"' in text


def test_the_markdown_has_the_same_content():
  text = page.to_markdown('Title', BLOCKS)
  assert text.startswith('# Title\n\n**Online < offline & more**\n\n')
  assert '| run | KL |\n| --- | --- |\n| a\\|b | 1.0 |\n| c | 2.0 |' in text
  assert '![A caption.](frontier.svg)' in text
  assert '    prompt   <b>prompt</b>\n    sft      a b\n' in text
  assert '<summary>All points</summary>' in text
  assert text.endswith('</details>\n')
