"""Rows as lists of messages, in the forms that such sets have."""

import json

import pytest

from dap.data import formats, sources
from dap.data.readers import JsonlFiles
from dap.errors import InputError


def turns(*texts, first='user'):
  """Messages of both speakers in turn."""
  roles = ['user', 'assistant'] if first == 'user' else ['assistant', 'user']
  return [
    {'role': roles[i % 2], 'content': text} for i, text in enumerate(texts)
  ]


SYSTEM = {'role': 'system', 'content': 'Be kind.'}
ONE = '\n\nHuman: Tea?\n\nAssistant:'
ANSWERS = {
  'chosen': turns('Yes.', first='assistant'),
  'rejected': turns('No.', first='assistant'),
}
WHOLE = {'chosen': turns('Tea?', 'Yes.'), 'rejected': turns('Tea?', 'No.')}


@pytest.mark.parametrize(
  ('row', 'prompt'),
  [
    ({'prompt': turns('Tea?'), **ANSWERS}, ONE),
    ({'prompt': 'Tea?', **ANSWERS}, ONE),
    ({'prompt': turns('Tea?'), **WHOLE}, ONE),
    ({'prompt': 'Tea?', **WHOLE}, ONE),
    ({'prompt': None, **WHOLE}, ONE),
    ({'prompt': [], **WHOLE}, ONE),
    (WHOLE, ONE),
    (
      {'prompt': [SYSTEM, *turns('Tea?')], **ANSWERS},
      f'\n\nSystem: Be kind.{ONE}',
    ),
    (
      {'prompt': 'Tea?'} | {k: [SYSTEM, *v] for k, v in WHOLE.items()},
      f'\n\nSystem: Be kind.{ONE}',
    ),
    (
      {'prompt': turns('Hi', 'Hello.', 'Tea?'), **ANSWERS},
      f'\n\nHuman: Hi\n\nAssistant: Hello.{ONE}',
    ),
    (
      {'prompt': turns('Hi', 'Hello.'), **WHOLE},
      f'\n\nHuman: Hi\n\nAssistant: Hello.{ONE}',
    ),
    (
      {k: [*turns('Hi', 'Hello.'), *v] for k, v in WHOLE.items()},
      f'\n\nHuman: Hi\n\nAssistant: Hello.{ONE}',
    ),
  ],
)
def test_the_prompt_is_given_or_what_both_share(row, prompt):
  (made,) = formats.conversations(row, 'here')
  assert (made['prompt'], made['chosen'], made['rejected']) == (
    prompt, 'Yes.', 'No.',
  )  # fmt: skip


def test_dialogues_that_part_early_are_read_as_those_of_other_sets():
  row = {
    'chosen': turns('Tea?', 'Yes.', 'Sugar?', 'No.'),
    'rejected': turns('Tea?', 'Perhaps.', 'Sugar?', 'No.'),
    'id': 'a', 'source': 'mine', 'score_chosen': 2,
  }  # fmt: skip
  (made,) = formats.conversations(row, 'here')
  assert made == {
    'prompt': ONE,
    'chosen': 'Yes.\n\nHuman: Sugar?\n\nAssistant: No.',
    'rejected': 'Perhaps.\n\nHuman: Sugar?\n\nAssistant: No.',
    'id': 'a', 'source': 'mine', 'score_chosen': 2,
  }  # fmt: skip
  assert not formats.conversations(row, 'here', part=formats.single_turns)
  other = {k: row[k] for k in row if k not in ('chosen', 'rejected')}
  other |= {'good': row['chosen'], 'bad': row['rejected']}
  named = formats.conversations(other, 'here', chosen='good', rejected='bad')
  assert named == [made]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'chosen': 'Yes.'}, 'chosen must be a list of messages, .*jsonl.gin'),
    ({'chosen': None}, 'chosen must be a list, got null'),
    ({'rejected': []}, 'rejected needs turns of user and assistant'),
    ({'rejected': turns('Tea?')}, 'rejected needs turns .* last the assist'),
    (
      {'rejected': turns('Tee?', 'No.')},
      'prompts of the two dialogues must be',
    ),
    ({'rejected': turns('Tea?', 'Yes.')}, 'chosen and rejected must differ'),
    ({'rejected': turns('Tea?', ' ')}, 'rejected 2: content is empty'),
    (
      {'rejected': [{'role': 'bot', 'content': 'No.'}]},
      "rejected 1: role must be system, user, assistant; got 'bot'",
    ),
    ({'prompt': 'Tee?'}, 'chosen begins with a question, and not with those'),
    ({'prompt': 7}, 'prompt must be a list, got a number'),
  ],
)
def test_messages_that_are_no_pair_are_refused(changes, message):
  with pytest.raises(InputError, match=f'here.*{message}'):
    formats.conversations(WHOLE | changes, 'here')


@pytest.mark.parametrize('key', ['prompt', 'chosen', 'rejected'])
def test_a_format_of_texts_names_the_one_of_messages(key):
  row = {'prompt': 'p', 'chosen': 'c', 'rejected': 'r'} | {key: turns('Tea?')}
  with pytest.raises(InputError, match=f'{key} must be .* gin/data/messages'):
    formats.pairs(row, 'here')


def test_the_part_reads_files_of_messages(tmp_path):
  path = tmp_path / 'rows.jsonl'
  rows = [WHOLE, {'prompt': turns('Tea?'), **ANSWERS}]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  source = sources.Formatted(JsonlFiles(str(path)), formats.conversations)
  first, second = source.load('train')
  assert first | {'id': ''} == second | {'id': ''}
  assert second['id'] == f'{first["id"]}-2'
