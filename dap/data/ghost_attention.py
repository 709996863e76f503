"""Layer 3. Ghost Attention: an instruction that is said once and kept for long.

Answers are sampled with the instruction before every question; the example that
is trained on has it before the first alone, and trains the last answer alone.

Source: Touvron et al. 2023, section 3.3, https://arxiv.org/abs/2307.09288.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dap.data.formats.dialogues import Message, Render, transcript
from dap.errors import InputError

# Messages that end with a question, to the answer of a policy.
Answer = Callable[[list[Message]], str]


class Example(NamedTuple):
  """What is trained on: of the response alone, the prompt is masked."""

  prompt: str
  response: str


def dialogue(
  questions: Sequence[str], instruction: str, answer: Answer
) -> list[Message]:
  """Asks a policy one question after another, each with the instruction.

  Args:
    questions: of the user, in order.
    instruction: to be kept to, such as 'Figure: Napoleon.'.
    answer: of the newest policy; it sees its earlier answers.

  Returns:
    The questions without the instruction, and the answers.

  Raises:
    InputError: no question, or an empty instruction.
  """
  _check(questions, instruction)
  said: list[Message] = []
  for question in questions:
    said.append(Message('user', question))
    response = answer(instructed(said, instruction))
    said.append(Message('assistant', response))
  return said


def instructed(
  messages: Sequence[Message], instruction: str, *, first_alone: bool = False
) -> list[Message]:
  """The instruction before every turn of the user, or before the first."""
  found, is_first = [], True
  for message in messages:
    if message.role == 'user' and (is_first or not first_alone):
      text = f'{instruction} {message.content}'
      message, is_first = Message('user', text), False
    found.append(message)
  return found


def example(
  messages: Sequence[Message], instruction: str, render: Render = transcript
) -> Example:
  """The example of a finished dialogue: its last answer is the response.

  Args:
    messages: without the instruction, see `dialogue`.
    instruction: stands before the first question alone.
    render: messages as the text of a prompt.

  Raises:
    InputError: the dialogue does not end with an answer, or an empty
      instruction.
  """
  _check(messages, instruction)
  *before, last = messages
  if last.role != 'assistant':
    raise InputError(
      'An example of Ghost Attention ends with the answer that it trains, got'
      f' a turn of the {last.role}. Leave that turn out.'
    )
  told = instructed(before, instruction, first_alone=True)
  return Example(render(told), last.content)


def loss_mask(
  questions: Sequence[int], answers: Sequence[int]
) -> Float[np.ndarray, ' tokens']:
  """1 on the tokens of the last answer, 0 on all before: answers included.

  Where a dialogue is one text, as decoders read it; `example` needs none.

  Args:
    questions: tokens of each turn of the user.
    answers: tokens of each turn of the assistant.

  Raises:
    InputError: not as many answers as questions, or none.
  """
  if not answers or len(questions) != len(answers):
    raise InputError(
      'A dialogue has an answer to each question, got'
      f' {len(questions)} questions and {len(answers)} answers.'
    )
  before = sum(questions) + sum(answers[:-1])
  return np.concatenate([np.zeros(before), np.ones(answers[-1])])


def _check(turns: Sequence[object], instruction: str) -> None:
  if not turns or not instruction.strip():
    raise InputError(
      'Ghost Attention needs an instruction and at least one turn, got'
      f' {instruction!r} and {len(turns)} turns.'
    )
