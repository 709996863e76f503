import json
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap.data import formats, public_sets, schema, sources
from dap.data.formats import dialogues, ranking
from dap.data.formats.dialogues import Message
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


def test_a_strength_may_tell_how_sure_people_were():
  row = first_row('helpsteer2_preference')
  shares = []
  for strength in (1, -2, 3):
    given = row | {'preference_strength': strength}
    (made,) = formats.helpsteer2_preference(
      given, 'here', share=formats.graded_share
    )
    shares.append(made['chosen_share'])
  assert shares == pytest.approx([2 / 3, 5 / 6, 1.0])
  plain = formats.helpsteer2_preference(row, 'here')[0]
  assert 'chosen_share' not in plain


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


def scored(*completions):
  """A row of UltraFeedback: (response, overall score, mean rating) of each."""
  keys = ('response', 'overall_score', 'fine-grained_score')
  made = [dict(zip(keys, each)) for each in completions]
  return {'instruction': 'Ask.', 'completions': made}


@pytest.mark.parametrize(
  ('mean', 'score'),
  [
    (1.0, 1.0),
    (2.0, 1.0),
    (2.25, 3.8125),  # 1 + 9 / 4 * 1.25
    (4.0, 7.75),
    (4.25, 10.0),
    (None, 10.0),  # nothing speaks against it
    ('5', 10.0),
  ],
)
def test_a_ten_beside_low_ratings_is_read_as_they_say(mean, score):
  completion = {'overall_score': 10, 'fine-grained_score': mean}
  assert formats.overall_score(completion, 'here') == score
  nine = completion | {'overall_score': 9}
  assert formats.overall_score(nine, 'here') == 9


def test_a_one_that_was_multiplied_by_ten_is_not_the_best():
  row = scored(('Bad', 10.0, 1.0), ('Good', 8.0, 4.5), ('Fair', 5.0, 3.0))
  (pair,) = formats.ultrafeedback(row, 'here')
  assert (pair['chosen'], pair['rejected']) == ('Good', 'Bad')
  assert pair['doubtful_scores'] == 1
  by_ratings = formats.ultrafeedback(
    row, 'here', score=formats.fine_grained_score
  )
  assert by_ratings == [pair]
  row['completions'][0]['fine-grained_score'] = 5.0
  (pair,) = formats.ultrafeedback(row, 'here')
  assert pair['chosen'] == 'Bad' and 'doubtful_scores' not in pair


def test_a_binarized_row_may_not_score_its_rejected_response_higher():
  dialogue = [{'role': 'user', 'content': 'Ask.'}]
  row = {
    'prompt_id': 'a', 'score_chosen': 1.0, 'score_rejected': 10.0,
    'chosen': [*dialogue, {'role': 'assistant', 'content': 'Good'}],
    'rejected': [*dialogue, {'role': 'assistant', 'content': 'Bad'}],
  }  # fmt: skip
  with pytest.raises(InputError, match='here: the label is against the row'):
    formats.ultrafeedback_binarized(row, 'here')
  assert formats.ultrafeedback_binarized(row | {'score_chosen': 10.0}, 'here')
