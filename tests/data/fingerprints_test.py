import dataclasses
import functools
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from dap.data import arrays, formats, sources
from dap.data.readers import JsonlFiles
from dap.data.sources import Formatted
from dap.data.vocabulary import Words
from dap.errors import InputError

ROOT = str(pathlib.Path(__file__).parents[2])
ROW = '{"prompt": "p", "chosen": "a b c d", "rejected": "r"}\n'
OWN = """
import re

LEFT_OUT = {'spam', 'adverts'}
STARS = re.compile('[*]+')

def cleaned(text):
  return STARS.sub('', text)

def own(row, where, *, source='own'):
  if row.get('kind') in LEFT_OUT:
    return []
  texts = {k: cleaned(row[k]) for k in ('prompt', 'chosen', 'rejected')}
  return [texts | {'source': source, 'id': where}]

def cut(ids, limit):
  return ids[:limit]
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
  """A function that loads a text as the module `own_formats` of a user."""

  def load(text):
    folder = tmp_path / f'text-{len(list(tmp_path.iterdir()))}'
    folder.mkdir()
    path = folder / 'own_formats.py'
    path.write_text(text)
    spec = importlib.util.spec_from_file_location('own_formats', path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'own_formats', module)
    spec.loader.exec_module(module)
    return module

  return load


@pytest.fixture
def rows(tmp_path):
  path = tmp_path / 'rows.jsonl'
  path.write_text(ROW)
  return JsonlFiles(str(path))


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    ("if row.get('kind') in", "if row.get('label') in"),  # its own text
    ("STARS.sub('', text)", "STARS.sub(' ', text)"),  # of a function it calls
    ("{'spam', 'adverts'}", "{'spam'}"),  # a constant that it reads
    ("'[*]+'", "'[*#]+'"),
    ("re.compile('[*]+')", "re.compile('[*]+', re.ASCII)"),
    ("source='own'", "source='ours'"),  # a default
  ],
)
def test_an_edit_of_a_format_changes_the_fingerprint(load, rows, old, new):
  def fingerprint(text):
    return Formatted(rows, load(text).own).fingerprint()

  before = fingerprint(OWN)
  assert fingerprint(OWN + '# nothing of it\n') == before
  assert fingerprint(OWN.replace(old, new)) != before
  assert before.startswith('own-')


@pytest.mark.parametrize('field', ['group', 'keep', 'mistakes', 'held_out'])
def test_every_choice_is_told_by_its_text(load, rows, field):
  def fingerprint(text):
    source = Formatted(rows, formats.pairs, **{field: load(text).choice})
    return source.fingerprint()

  choices = [f'def choice(*of):\n  return {n}\n' for n in (1, 2)]
  assert fingerprint(choices[0]) == fingerprint(choices[0])
  assert fingerprint(choices[0]) != fingerprint(choices[1])


def test_arguments_that_are_given_already_count(rows):
  given = [
    formats.pairs,
    functools.partial(formats.pairs, source='a'),
    functools.partial(formats.pairs, source='b'),
    functools.partial(formats.pairs, prompt='a'),
    functools.partial(formats.ultrafeedback, score=formats.overall_score),
    functools.partial(formats.ultrafeedback, score=formats.fine_grained_score),
    functools.partial(formats.ultrafeedback, score=lambda row, where: 0.0),
    functools.partial(formats.ultrafeedback, score=lambda row, where: 1.0),
  ]
  names = [Formatted(rows, each).fingerprint() for each in given]
  assert len(set(names)) == len(names)
  assert names == [Formatted(rows, each).fingerprint() for each in given]
  assert Formatted(rows, given[1]).name == 'pairs'


@dataclasses.dataclass(frozen=True)
class Rated:
  """A format with settings."""

  least: float

  def __call__(self, row, where):
    return [row | {'least': self.least}]


def test_a_format_that_is_a_value_is_told_by_its_fields(rows):
  one, two = (Formatted(rows, Rated(least)) for least in (1.0, 2.0))
  assert one.fingerprint() == Formatted(rows, Rated(1.0)).fingerprint()
  assert one.fingerprint() != two.fingerprint()
  assert one.name == 'Rated'


def test_a_fingerprint_is_the_same_in_every_process(load, rows):
  folder = pathlib.Path(load(OWN).__file__).parent
  program = (
    'import own_formats; from dap.data import readers, sources;'
    f'rows = readers.JsonlFiles({rows.train!r});'
    'print(sources.Formatted(rows, own_formats.own).fingerprint())'
  )
  here = Formatted(rows, load(OWN).own).fingerprint()
  for seed in ('1', '2'):
    done = subprocess.run(
      [sys.executable, '-c', program],
      env={
        **os.environ,
        'PYTHONHASHSEED': seed,
        'PYTHONPATH': os.pathsep.join([ROOT, str(folder), *sys.path]),
      },
      check=True,
      capture_output=True,
      text=True,
    )
    assert done.stdout.strip() == here


@dataclasses.dataclass(frozen=True)
class Table:
  """A file that a format reads."""

  path: str

  def fingerprint(self):
    return pathlib.Path(self.path).read_text()


def with_table(row, where, *, table):
  return [row | {'table': table.path}]


def test_a_path_counts_by_its_content_alone(rows, tmp_path):
  def fingerprint(place, rated):
    folder = tmp_path / place
    folder.mkdir()
    (folder / 'rows.jsonl').write_text(ROW)
    (folder / 'table').write_text(rated)
    table = Table(str(folder / 'table'))
    read = JsonlFiles(str(folder / 'rows.jsonl'))
    format = functools.partial(with_table, table=table)
    return Formatted(read, format).fingerprint()

  here = fingerprint('here', '1')
  assert fingerprint('there', '1') == here
  assert fingerprint('elsewhere', '2') != here
  bare = functools.partial(with_table, table=tmp_path)
  with pytest.raises(InputError, match='the path .* the content of'):
    Formatted(rows, bare).fingerprint()


def test_targets_of_pairs_follow_the_fingerprint_of_the_pairs(load, rows):
  texts = OWN, OWN.replace("source='own'", "source='ours'")
  pairs = [Formatted(rows, load(text).own) for text in texts]
  for targets in (sources.ChosenResponses, sources.BothResponses):
    before, after = (targets(each).fingerprint() for each in pairs)
    assert before != after


def test_arrays_of_an_edited_format_or_rule_are_made_anew(load, rows, tmp_path):
  def prepared(text):
    module = load(text)
    return arrays.prepare(
      Formatted(rows, module.own),
      'train',
      Words(('a', 'b', 'c', 'd', 'r', 'p', 'q')),
      prompt_length=2,
      response_length=2,
      cache_dir=str(tmp_path / 'cache'),
      long_responses=module.cut,
    )

  first = prepared(OWN)
  assert prepared(OWN).folder == first.folder
  rule = prepared(OWN.replace('ids[:limit]', 'ids[-limit:]'))
  assert rule.responses['chosen'].tolist() != first.responses['chosen'].tolist()
  format = prepared(OWN.replace('cleaned(row[k])', "'q ' + cleaned(row[k])"))
  assert format.prompts.tolist() != first.prompts.tolist()
