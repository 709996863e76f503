import numpy as np
import pytest

from dap.data import ghost_attention
from dap.data.formats.dialogues import Message
from dap.errors import InputError

RULE = 'Figure: Napoleon.'
QUESTIONS = ['Who are you?', 'Where were you born?', 'And then?']


def answered():
  heard = []

  def answer(messages):
    heard.append(messages)
    return f'answer {len(heard)}'

  return ghost_attention.dialogue(QUESTIONS, RULE, answer), heard


def test_the_policy_hears_the_instruction_before_every_question():
  dialogue, heard = answered()
  assert [len(each) for each in heard] == [1, 3, 5]
  for messages in heard:
    for message in messages:
      assert (message.role == 'user') == message.content.startswith(RULE)
  assert [m.content for m in dialogue if m.role == 'user'] == QUESTIONS
  assert heard[2][1] == Message('assistant', 'answer 1')


def test_the_example_has_it_once_and_trains_the_last_answer():
  dialogue, _ = answered()
  prompt, response = ghost_attention.example(dialogue, RULE)
  assert prompt.count(RULE) == 1
  assert prompt.startswith(f'\n\nHuman: {RULE} Who are you?')
  assert 'answer 1' in prompt and 'answer 2' in prompt
  assert response == 'answer 3' and response not in prompt


def test_all_turns_before_the_last_answer_are_masked():
  # u = (4, 3, 3) and a = (2, 2, 5): 14 tokens before the last answer.
  mask = ghost_attention.loss_mask((4, 3, 3), (2, 2, 5))
  np.testing.assert_array_equal(mask, [0] * 14 + [1] * 5)


@pytest.mark.parametrize(
  'make, words',
  [
    (lambda: ghost_attention.dialogue([], RULE, str), 'at least one turn'),
    (
      lambda: ghost_attention.example([Message('user', 'x')], RULE),
      'ends with the answer that it trains, got a turn of the user',
    ),
    (
      lambda: ghost_attention.example([Message('assistant', 'x')], ' '),
      'needs an instruction',
    ),
    (lambda: ghost_attention.loss_mask((1, 2), (1,)), '2 questions and 1'),
  ],
)
def test_what_is_no_dialogue_is_refused(make, words):
  with pytest.raises(InputError, match=words):
    make()
