"""Layer 7. Texts of others within a page: no mark of theirs leaves them."""

import html
import re

# Marks of direction that hold until they are closed, or close others.
_ISOLATES, _END_ISOLATE = '\u2066\u2067\u2068', '\u2069'
_EMBEDDINGS, _END_EMBEDDING = '\u202a\u202b\u202d\u202e', '\u202c'
MARKS = re.compile('[\u202a-\u202e\u2066-\u2069]')
# What opens a tag, an entity or a link in Markdown.
_TAG = re.compile(r'<(?=[A-Za-z/!?])')
_ENTITY = re.compile(r'&(?=#?\w+;)')
_LINK = re.compile(r'\](?=\s*[(\[:])')


def isolated(text: str) -> str:
  """The text, whose marks of direction end with it and turn nothing beside."""
  if not MARKS.search(text):
    return text
  kept, opened = [], []
  for letter in text:
    if letter in _ISOLATES:
      opened.append(_END_ISOLATE)
    elif letter in _EMBEDDINGS:
      opened.append(_END_EMBEDDING)
    elif letter in (_END_ISOLATE, _END_EMBEDDING):
      if not opened or opened[-1] != letter:
        continue  # it would close what is not of this text
      opened.pop()
    kept.append(letter)
  return f'\u2068{"".join(kept)}{"".join(reversed(opened))}\u2069'


def of_html(text: str) -> str:
  """The text as HTML shows it as it is."""
  return html.escape(isolated(text))


def of_markdown(text: str) -> str:
  """The text as Markdown shows it: no tag, no link, one line."""
  words = ' '.join(isolated(text).splitlines())
  words = _ENTITY.sub('&amp;', words)
  return _LINK.sub('&#93;', _TAG.sub('&lt;', words))


def isolated_json(value: object) -> object:
  """The same of all texts within plain JSON."""
  if isinstance(value, str):
    return isolated(value)
  if isinstance(value, dict):
    return {isolated(k): isolated_json(x) for k, x in value.items()}
  if isinstance(value, list | tuple):
    return [isolated_json(each) for each in value]
  return value
