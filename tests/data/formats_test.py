import json
import logging
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap.data import formats, public_sets, schema, sources
from dap.data.formats import dialogues, ranking
from dap.data.formats.dialogues import Message
from dap.data.readers import JsonlFiles
from dap.errors import InputError

LAWS = settings(deadline=None, derandomize=True, max_examples=60)
RAW = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data' / 'raw'
TURN = '\n\nHuman: {}\n\nAssistant:'


def first_row(name):
  """A raw row of a set, to spoil."""
  files = public_sets.local_source(name, str(RAW)).reader
  where, row = next(iter(files.read('train')))
  return json.loads(json.dumps(row))


def sides(rows):
  return [(row['chosen'], row['rejected']) for row in rows]


def talk(*texts):
  roles = ('user', 'assistant')
  return [Message(roles[i % 2], text) for i, text in enumerate(texts)]


# What the sets mean


def test_the_chosen_summary_is_the_one_of_the_choice():
  row = first_row('summaries')
  (pair,) = formats.summaries(row, 'here')
  assert pair['prompt'] == (
    'SUBREDDIT: r/tea\n\nTITLE: The kettle again\n\nPOST: My kettle whistles at'
    ' night.\nWhat now?\n\nTL;DR:'
  )
  assert pair['rejected'] == 'The kettle whistles.'  # choice is 1, the second
  (other,) = formats.summaries(row | {'choice': 0}, 'here')
  assert sides([other]) == [(pair['rejected'], pair['chosen'])]
  (t5,) = formats.summaries(row, 'here', prompt=formats.summarize_prompt)
  assert t5['prompt'] == 'summarize: My kettle whistles at night.\nWhat now?'


def test_comparisons_of_one_post_have_different_ids():
  row = first_row('summaries')
  other = formats.summaries(row | {'worker': 'w9'}, 'here')[0]['id']
  own = formats.summaries(row, 'here')[0]['id']
  assert own != other and own.startswith('t3_aaa111:')


def test_articles_can_be_left_out():
  source = public_sets.local_source('summaries', str(RAW))
  posts = sources.Formatted(
    source.reader, source.format, keep=formats.posts_only
  )
  assert (len(source.load('test')), len(posts.load('test'))) == (2, 1)


ARENA_TIES = [
  (formats.drop_ties, []),
  (formats.ties_both_ways, [('Mug.', 'Goblet.'), ('Goblet.', 'Mug.')]),
  (formats.first_on_ties, [('Mug.', 'Goblet.')]),
]


@pytest.mark.parametrize(('rule', 'expected'), ARENA_TIES)
@pytest.mark.parametrize('winner', ['tie', 'tie (bothbad)'])
def test_a_named_rule_says_what_a_tie_gives(rule, expected, winner):
  row = first_row('arena') | {'winner': winner}
  row['conversation_a'][1]['content'] = 'Mug.'
  row['conversation_b'][1]['content'] = 'Goblet.'
  assert sides(formats.arena(row, 'here', tie_rule=rule)) == expected
  good = formats.arena(row, 'here', tie_rule=formats.good_ties_both_ways)
  assert len(good) == (2 if winner == 'tie' else 0)


def test_two_orders_of_a_tie_have_different_ids():
  source = public_sets.local_source('arena', str(RAW))
  both = sources.Formatted(
    source.reader,
    lambda row, at: formats.arena(row, at, tie_rule=formats.ties_both_ways),
  )
  ids = [row['id'] for row in both.load('train')]
  assert ids == ['q1', 'q2', 'q3', 'q3-2', 'q4', 'q4-2', 'q5']


def test_dialogues_part_at_the_first_difference():
  first = talk('Hi', 'Yes?', 'Tea', 'Here', 'More', 'No')
  second = talk('Hi', 'Yes?', 'Tea', 'There', 'More', 'Of course')
  parted = dialogues.where_they_part(first, second, formats.transcript, 'x')
  assert parted == (
    '\n\nHuman: Hi\n\nAssistant: Yes?' + TURN.format('Tea'),
    'Here' + TURN.format('More') + ' No',
    'There' + TURN.format('More') + ' Of course',
  )


def test_dialogues_of_several_turns_can_be_left_out():
  render = formats.transcript
  long = talk('Hi', 'Yes?', 'Tea', 'Here')
  assert dialogues.single_turns(long, long, render, 'x') is None
  short = dialogues.single_turns(long[:2], talk('Hi', 'No'), render, 'x')
  assert short == (TURN.format('Hi'), 'Yes?', 'No')


@LAWS
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data())
def test_prompt_and_responses_are_the_whole_dialogues(answers, data):
  others = data.draw(
    st.lists(st.integers(0, 2), min_size=len(answers), max_size=len(answers))
  )
  both = [
    talk(*(t for i, a in enumerate(each) for t in (f'q{i}', f'a{a}')))
    for each in (answers, others)
  ]
  prompt, *responses = dialogues.where_they_part(*both, formats.transcript, 'x')
  for messages, response in zip(both, responses):
    whole = formats.transcript([*messages, Message('user', '')])
    assert whole.startswith(f'{prompt} {response}')


def test_completions_are_paired_by_their_scores():
  row = first_row('ultrafeedback')
  best, *_ = formats.ultrafeedback(row, 'here')
  assert best['prompt'] == TURN.format('Write a line about tea.')
  assert sides([best]) == [('Tea warms 漢字 🙂.', 'Coffee.')]
  every = formats.ultrafeedback(row, 'here', choice=formats.every_two)
  assert len(every) == 5  # six pairs of four, one of them a tie at 8.5
  fine = formats.ultrafeedback(
    row, 'here', choice=formats.every_two, score=formats.fine_grained_score
  )
  assert len(fine) == 6 and ('Tea warms 漢字 🙂.', 'Tea is hot.') in sides(fine)
  one = row | {'completions': row['completions'][:1]}
  assert formats.ultrafeedback(one, 'here') == []


def test_equal_scores_keep_the_label_of_the_binarized_set():
  row = first_row('ultrafeedback_binarized') | {'score_rejected': 8.0}
  assert len(formats.ultrafeedback_binarized(row, 'here')) == 1
  rule = formats.drop_ties
  assert formats.ultrafeedback_binarized(row, 'here', tie_rule=rule) == []


@pytest.mark.parametrize(
  ('strength', 'chosen'),
  [(-3, 'A language.'), (-1, 'A language.'), (2, 'A note.')],
)
def test_a_negative_strength_prefers_the_first(strength, chosen):
  row = first_row('helpsteer2_preference') | {'preference_strength': strength}
  assert formats.helpsteer2_preference(row, 'here')[0]['chosen'] == chosen


def test_responses_are_grouped_by_prompt_wherever_they_stand():
  rows = [
    ('1', {'prompt': 'a'}),
    ('2', {'prompt': 'b'}),
    ('3', {'prompt': 'a'}),
  ]
  groups = list(formats.by_prompt(rows))
  assert [(where, len(g['rows'])) for where, g in groups] == [
    ('1', 2),
    ('2', 1),
  ]


@LAWS
@given(st.lists(st.integers(0, 3), max_size=6))
def test_the_better_of_a_ranked_pair_is_first(scores):
  pairs = list(ranking.every_two(scores))
  assert len(pairs) == len(scores) * (len(scores) - 1) // 2
  assert all(scores[i] >= scores[j] and i != j for i, j in pairs)
  for i, j in ranking.best_and_worst(scores):
    assert (scores[i], scores[j]) == (max(scores), min(scores)) and i != j


@LAWS
@given(st.lists(st.sampled_from(['a', 'a-2', 'a-3', 'b'])))
def test_ids_are_unique_and_keep_their_beginning(ids):
  rows = list(schema.with_unique_ids({'id': each} for each in ids))
  assert len({row['id'] for row in rows}) == len(ids)
  for row, own in zip(rows, ids):
    assert row['id'] == own or row['id'].startswith(f'{own}-')


# Rows that are refused, by row and with a cure


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
