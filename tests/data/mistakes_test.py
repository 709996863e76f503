"""Rows that are refused or left out, by row and with a cure."""

import dataclasses
import json
import logging
import pathlib

import pytest

from dap.data import formats, public_sets, sources
from dap.data.readers import JsonlFiles
from dap.errors import InputError

RAW = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data' / 'raw'
TURN = '\n\nHuman: {}\n\nAssistant:'


def first_row(name):
  """A raw row of a set, to spoil."""
  files = public_sets.local_source(name, str(RAW)).reader
  where, row = next(iter(files.read('train')))
  return json.loads(json.dumps(row))


def sides(rows):
  return [(row['chosen'], row['rejected']) for row in rows]


def without(key):
  return lambda row: row.pop(key)


def putting(key, value):
  return lambda row: row.update({key: value})


def said(key, turn, text):
  return lambda row: row[key][turn].update({'content': text})


REFUSED = [
  ('summaries', without('info'), 'needs the keys info; info is missing'),
  ('summaries', putting('info', []), 'info must be an object, got a list'),
  (
    'summaries',
    lambda row: row['info'].update(post=None),
    'info: post must be a',
  ),
  (
    'summaries',
    lambda row: row['summaries'].pop(),
    'summaries must be two, got 1',
  ),
  (
    'summaries',
    putting('summaries', ['a', 'b']),
    'list of objects; number 1 is',
  ),
  (
    'summaries',
    lambda row: row['summaries'][1].update(text=' '),
    'summaries 2: text is empty. Remove the row',
  ),
  ('summaries', putting('choice', 2), 'choice must be 0 or 1.* got 2'),
  (
    'summaries',
    putting('choice', True),
    'choice must be a whole number, got a b',
  ),
  (
    'hh_helpful_base',
    without('chosen'),
    'chosen is missing, there are rejected',
  ),
  (
    'hh_helpful_base',
    putting('chosen', 7),
    'chosen must be a text, got a number',
  ),
  (
    'hh_helpful_base',
    putting('chosen', 'Hi'),
    'chosen needs a turn that begins',
  ),
  (
    'hh_helpful_base',
    putting('rejected', TURN.format('Name a fruit.') + ' '),
    'the last turn of rejected is empty. Remove the row',
  ),
  (
    'hh_helpful_base',
    putting('rejected', TURN.format('Name a river.') + ' x'),
    'must be the same dialogue .* part at character 17',
  ),
  (
    'hh_helpful_base',
    putting('rejected', TURN.format('Name a fruit.') + ' x\n\nHuman: Yes'),
    r"rejected must end with the assistant; .* another '\\n\\nHuman:'",
  ),
  ('arena', without('winner'), 'winner is missing'),
  (
    'arena',
    putting('winner', 'model_c'),
    r"winner must be one of model_a, .*\(bothbad\); got 'model_c'. Correct it",
  ),
  ('arena', putting('question_id', 3), 'question_id must be a text'),
  (
    'arena',
    putting('conversation_a', 'Hi'),
    'conversation_a must be a list, got',
  ),
  (
    'arena',
    putting('conversation_b', []),
    'conversation_b needs turns .* none',
  ),
  (
    'arena',
    said('conversation_a', 1, ''),
    'conversation_a 2: content is empty',
  ),
  (
    'arena',
    said('conversation_a', 0, 'No?'),
    'must be the same; they have 1 and',
  ),
  (
    'arena',
    lambda row: row['conversation_a'][0].update(role='human'),
    "role must be system, user, assistant; got 'human'",
  ),
  (
    'arena',
    lambda row: row['conversation_a'].pop(),
    'conversation_a needs turns',
  ),
  ('ultrafeedback', without('instruction'), 'instruction is missing'),
  (
    'ultrafeedback',
    lambda row: row['completions'][2].update(overall_score=None),
    'completions 3: overall_score must be a finite number, got null',
  ),
  (
    'ultrafeedback',
    lambda row: row['completions'][0].update(response=''),
    'completions 1: response is empty',
  ),
  ('ultrafeedback_binarized', putting('score_chosen', '8'), 'got a text'),
  (
    'ultrafeedback_binarized',
    said('rejected', 0, 'Other?'),
    'must be the same dialogue up to the last turn. Remove the row',
  ),
  ('helpsteer2', without('prompt'), 'line 1: .*prompt is missing'),
  ('helpsteer2', without('response'), 'line 1: .*response is missing'),
  (
    'helpsteer2',
    putting('helpfulness', float('nan')),
    'helpfulness must be a f',
  ),
  (
    'helpsteer2',
    putting('prompt', 'a\n<extra_id_1>Assistant\nb'),
    "prompt needs turns of User and Assistant .* the last the user's",
  ),
  (
    'helpsteer2_preference',
    putting('preference_strength', 4),
    'from -3 to 3, got 4',
  ),
  ('helpsteer2_preference', without('split'), 'split is missing'),
  (
    'helpsteer2_preference',
    putting('split', 'dev'),
    "validation or test, got 'dev'",
  ),
  ('helpsteer2_preference', putting('response_1', ' '), 'response_1 is empty'),
]


def spoilt(name, spoil, folder):
  row = first_row(name)
  spoil(row)
  path = folder / 'spoilt.jsonl'
  path.write_text(json.dumps(row) + '\n')
  files = public_sets.local_source(name, str(RAW))
  reader = JsonlFiles(str(path))
  return sources.Formatted(reader, files.format, files.group, files.keep)


@pytest.mark.parametrize(('name', 'spoil', 'message'), REFUSED)
def test_a_row_that_a_set_cannot_have_is_refused(
  name, spoil, message, tmp_path
):
  with pytest.raises(InputError, match=message) as caught:
    spoilt(name, spoil, tmp_path).load('train')
  assert f'{tmp_path}/spoilt.jsonl, line 1' in str(caught.value)


def test_mistakes_can_be_left_out_with_a_warning(tmp_path, caplog):
  files = JsonlFiles(str(RAW / 'hh-rlhf' / 'helpful-base' / 'train.jsonl'))
  content = pathlib.Path(files.train).read_text()
  path = tmp_path / 'some.jsonl'
  path.write_text(
    json.dumps({'chosen': 'Hi', 'rejected': 'Hi'}) + '\n' + content
  )
  careful = sources.Formatted(
    JsonlFiles(str(path)), formats.hh, mistakes=sources.leave_out
  )
  with caplog.at_level(logging.WARNING):
    rows = careful.load('train')
  assert rows == sources.Formatted(files, formats.hh).load('train')
  assert f'Left out: {path}, line 1: chosen needs a turn' in caplog.text
  strict = sources.Formatted(JsonlFiles(str(path)), formats.hh)
  assert strict.fingerprint() != careful.fingerprint()


def careful_source(name, rows, folder):
  """A set's source of these raw rows, its mistakes left out."""
  path = folder / 'rows.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return dataclasses.replace(
    public_sets.local_source(name, str(RAW)),
    reader=JsonlFiles(str(path)),
    mistakes=sources.leave_out,
    held_out=None,
  )


def test_rows_left_out_are_counted_once_for_all(tmp_path, caplog):
  good = first_row('helpsteer2_preference')
  rows = [good | {'split': 'dev'}, good, good | {'prompt': ''}]
  source = careful_source('helpsteer2_preference', rows, tmp_path)
  with caplog.at_level(logging.WARNING):
    assert len(source.load('train')) == 1
  said = [record.getMessage() for record in caplog.records]
  assert 'line 1: split must be train' in said[0]  # what `keep` refuses
  assert 'line 3: prompt is empty' in said[1]
  assert said[2].endswith('left out of train for their mistakes: 2 in all.')
  assert len(said) == 3


def test_one_malformed_response_leaves_the_others_of_its_group(
  tmp_path, caplog
):
  row = first_row('helpsteer2')
  ratings = [('One.', 3), ('', 2), ('Two.', None), ('Three.', 1)]
  rows = [row | {'response': r, 'helpfulness': h} for r, h in ratings]
  source = careful_source('helpsteer2', rows, tmp_path)
  with caplog.at_level(logging.WARNING):
    assert sides(source.load('train')) == [('One.', 'Three.')]
  assert 'line 2: response is empty' in caplog.text
  assert 'line 3: helpfulness must be a finite number' in caplog.text
  assert 'mistakes: 2 in all.' in caplog.text
  strict = dataclasses.replace(source, mistakes=sources.refuse)
  with pytest.raises(InputError, match='line 2: response is empty'):
    strict.load('train')


def test_one_malformed_completion_leaves_the_others(tmp_path):
  row = first_row('ultrafeedback')
  best, *_ = row['completions']
  best['overall_score'] = None
  source = careful_source('ultrafeedback', [row], tmp_path)
  (pair,) = source.load('train')
  assert pair['chosen'] == 'Tea is hot.'  # as good, and second


@pytest.mark.parametrize('name', ['hh_helpful_base', 'helpsteer2'])
def test_a_line_that_cannot_be_read_always_stops(name, tmp_path):
  source = careful_source(name, [first_row(name)], tmp_path)
  path = pathlib.Path(source.reader.train)
  path.write_text(path.read_text() + '{"chosen": \n')
  with pytest.raises(InputError, match='line 2: not JSON'):
    source.load('train')


def test_equal_responses_are_no_pair(tmp_path):
  row = first_row('hh_helpful_base')
  rows = [row, row | {'rejected': row['chosen']}]
  source = careful_source('hh_helpful_base', rows, tmp_path)
  assert len(source.load('train')) == 1
  strict = dataclasses.replace(source, mistakes=sources.refuse)
  with pytest.raises(InputError, match='line 2: chosen and rejected must diff'):
    strict.load('train')
  same = [row for row in [first_row('helpsteer2')] for _ in range(3)]
  same[1] = same[1] | {'response': 'Other.', 'helpfulness': 4}
  source = careful_source('helpsteer2', same, tmp_path)
  assert len(source.load('train')) == 2  # not the pair of the first and third


def test_an_id_and_a_source_are_unicode_texts(tmp_path):
  row = {'prompt': 'p', 'chosen': 'c', 'rejected': 'r'}
  for key in ('id', 'source'):
    with pytest.raises(InputError, match=f'here: {key} has half of a surr'):
      formats.pairs(row | {key: 'a\ud800'}, 'here')
    with pytest.raises(InputError, match=f'here: {key} must be a text, got'):
      formats.pairs(row | {key: ['a']}, 'here')
  assert formats.pairs(row | {'id': 0}, 'here')[0]['id'] == '0'
  target = {'prompt': 'p', 'response': 'r'}
  assert formats.targets(target | {'id': 0}, 'here')[0]['id'] == '0'
  with pytest.raises(InputError, match='info: id has half of a surrogate'):
    post = first_row('summaries')
    post['info']['id'] = '\udfff'
    formats.summaries(post, 'here')


def test_when_all_is_left_out_there_are_no_examples(tmp_path):
  path = tmp_path / 'none.jsonl'
  path.write_text('{"prompt": "of another format"}\n')
  source = sources.Formatted(
    JsonlFiles(str(path)), formats.hh, mistakes=sources.leave_out
  )
  with pytest.raises(InputError, match='no pairs as hh reads them'):
    source.load('train')


def test_a_set_without_files_names_the_place(tmp_path):
  with pytest.raises(InputError, match=f'{tmp_path}/HelpSteer2/train.jsonl.gz'):
    public_sets.local_source('helpsteer2', str(tmp_path))
  with pytest.raises(
    InputError, match="called 'tea'; there are summaries, hh_"
  ):
    public_sets.local_source('tea', str(tmp_path))
