"""Which response of each public set is the chosen one, in plain words."""

import pathlib

import pytest

from dap.data import public_sets

RAW = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data' / 'raw'
TURN = '\n\nHuman: {}\n\nAssistant:'
POST = (
  'SUBREDDIT: r/tea\n\nTITLE: The kettle again\n\nPOST: My kettle whistles at'
  ' night.\nWhat now?\n\nTL;DR:'
)


def hh(thing, subset, own_id):
  prompt = TURN.format(f'Name a {thing}.')
  return (prompt, f'A good {thing}.', 'No.', f'hh-rlhf/{subset}', own_id)


def helpsteer(source):
  texts = TURN.format('c#'), 'A language.', 'A note.'
  return (*texts, source, 'a7ad3614b0937f43')


# prompt, chosen, rejected, source and id of each set's first training row.
FIRST = {
  'summaries': (
    POST,
    'Kettle whistles at night, asks what to do.',  # choice is 1, the second
    'The kettle whistles.',
    'summarize_from_feedback/comparisons',
    't3_aaa111:d811d38a9dcc8c1e',
  ),
  'hh_helpful_base': hh('fruit', 'helpful-base', '494f9dfc592dd338'),
  'hh_helpful_online': hh('river', 'helpful-online', '5d3d623c26aa39eb'),
  'hh_helpful_rejection_sampled': hh(
    'colour', 'helpful-rejection-sampled', '9249775981f46af1'
  ),
  'hh_harmless_base': hh('weapon', 'harmless-base', '4c7c89ac38a8b71b'),
  'arena': (
    TURN.format('What is tea?'),
    'Leaves in hot water.',  # the winner is model_a
    'A drink.',
    'chatbot_arena',
    'q1',
  ),
  'ultrafeedback': (
    TURN.format('Write a line about tea.'),
    'Tea warms 漢字 🙂.',  # scored 8.5, the first of two such
    'Coffee.',
    'ultrafeedback',
    'c4db1290c11b9e5b',
  ),
  'ultrafeedback_binarized': (
    TURN.format('What is a cup?'),
    'A vessel.',
    'No idea.',
    'ultrafeedback_binarized',
    '0a1b',
  ),
  'helpsteer': helpsteer('helpsteer'),  # helpfulness 3 against 1
  'helpsteer2': helpsteer('helpsteer2'),
  'helpsteer2_preference': helpsteer('helpsteer2/preference'),  # strength -2
}
FILES = {
  'summaries': (
    'summarize_from_feedback/comparisons/train.jsonl',
    'summarize_from_feedback/comparisons/validation.jsonl',
  ),
  'hh_helpful_base': (
    'hh-rlhf/helpful-base/train.jsonl',
    'hh-rlhf/helpful-base/test.jsonl',
  ),
  'hh_helpful_online': (
    'hh-rlhf/helpful-online/train.jsonl',
    'hh-rlhf/helpful-online/test.jsonl',
  ),
  'hh_helpful_rejection_sampled': (
    'hh-rlhf/helpful-rejection-sampled/train.jsonl',
    'hh-rlhf/helpful-rejection-sampled/test.jsonl',
  ),
  'hh_harmless_base': (
    'hh-rlhf/harmless-base/train.jsonl',
    'hh-rlhf/harmless-base/test.jsonl',
  ),
  'arena': (
    'chatbot_arena_conversations/train.jsonl',
    'chatbot_arena_conversations/test.jsonl',
  ),
  'ultrafeedback': ('UltraFeedback/train.jsonl', 'UltraFeedback/test.jsonl'),
  'ultrafeedback_binarized': (
    'ultrafeedback_binarized/train_prefs.jsonl',
    'ultrafeedback_binarized/test_prefs.jsonl',
  ),
  'helpsteer': ('HelpSteer/train.jsonl', 'HelpSteer/validation.jsonl'),
  'helpsteer2': ('HelpSteer2/train.jsonl', 'HelpSteer2/validation.jsonl'),
  'helpsteer2_preference': (
    'HelpSteer2/preference/preference.jsonl',
    'HelpSteer2/preference/preference.jsonl',
  ),
}


def test_every_set_is_pinned():
  assert [*FIRST] == [*FILES] == [*public_sets.SETS]


@pytest.mark.parametrize('name', FIRST)
def test_the_first_row_of_a_set_prefers_what_its_people_preferred(name):
  row = public_sets.local_source(name, str(RAW)).load('train')[0]
  keys = ('prompt', 'chosen', 'rejected', 'source', 'id')
  assert tuple(row[key] for key in keys) == FIRST[name]


def test_the_second_model_of_the_arena_may_win():
  second = public_sets.local_source('arena', str(RAW)).load('train')[1]
  assert second['chosen'].startswith('Hi\n\n')  # q2: the winner is model_b
  assert second['rejected'].startswith('Guten Tag')


@pytest.mark.parametrize('name', FILES)
def test_the_splits_of_a_set_are_its_files(name):
  reader = public_sets.local_source(name, str(RAW)).reader
  found = (reader.train, reader.test)
  assert found == tuple(f'{RAW}/{path}' for path in FILES[name])
