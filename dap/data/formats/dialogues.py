"""Layer 3. Dialogues: lists of messages, and their one rendering as text.

A message is {'role', 'content'}; roles are user, assistant and, first, system.
As text every dialogue, of one turn or of many, is what Anthropic's HH files
have: each turn opens with two line feeds and its speaker, and the prompt ends
with "\\n\\nAssistant:". T5's vocabulary reads the line feeds as blanks; the
speakers stay.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dap.data.schema import Row, require_objects, require_text
from dap.errors import InputError, shown

LAST_TURN, NEXT_TURN = '\n\nAssistant:', '\n\nHuman:'
_SPEAKERS = {'system': 'System', 'user': 'Human', 'assistant': 'Assistant'}


class Message(NamedTuple):
  """One turn."""

  role: str
  content: str


# Messages that end with a user's turn, as the text of a prompt.
Render = Callable[[Sequence[Message]], str]
# Two dialogues to (prompt, first response, second response), or None when the
# rule leaves them out; `where` is for messages.
Part = Callable[
  [list[Message], list[Message], Render, str], tuple[str, str, str] | None
]


def transcript(messages: Sequence[Message]) -> str:
  """The dialogue as HH has it, ready for the assistant's next words."""
  return _turns(messages) + LAST_TURN


def _turns(messages: Sequence[Message]) -> str:
  return ''.join(f'\n\n{_SPEAKERS[m.role]}: {m.content}' for m in messages)


def where_they_part(
  first: list[Message], second: list[Message], render: Render, where: str
) -> tuple[str, str, str] | None:
  """The prompt is what two dialogues share; the response is all that follows.

  After one question that is the assistant's answer. After several, to which
  two assistants answered differently, it is the first differing answer and the
  turns after it, as `transcript` has them: people judged the whole.

  Raises:
    InputError: the users of the two did not say the same.
  """
  _require_same_questions(first, second, where)
  same = 0
  while same < len(first) - 2 and first[same + 1] == second[same + 1]:
    same += 1
  cut = max(i for i in range(same + 1) if first[i].role == 'user') + 1
  prompt = render(first[:cut])
  responses = [m[cut].content + _turns(m[cut + 1 :]) for m in (first, second)]
  return prompt, responses[0], responses[1]


def single_turns(
  first: list[Message], second: list[Message], render: Render, where: str
) -> tuple[str, str, str] | None:
  """Dialogues of one question and one answer; longer ones are left out."""
  _require_same_questions(first, second, where)
  if sum(message.role == 'user' for message in first) > 1:
    return None
  return render(first[:-1]), first[-1].content, second[-1].content


def _require_same_questions(
  first: list[Message], second: list[Message], where: str
) -> None:
  asked = [
    [m for m in each if m.role != 'assistant'] for each in (first, second)
  ]
  if asked[0] != asked[1] or len(first) != len(second):
    raise InputError(
      f'{where}: the prompts of the two dialogues must be the same; they have'
      f' {len(asked[0])} and {len(asked[1])} turns of the user, and part in'
      f' turn {parting(*asked)}. Remove the row.'
    )


def parting(first: Sequence[object], second: Sequence[object]) -> int:
  """The place, from 1, of the first items that differ."""
  same = (i for i, (a, b) in enumerate(zip(first, second), 1) if a != b)
  return next(same, 1 + min(len(first), len(second)))


def messages(row: Row, key: str, where: str) -> list[Message]:
  """The dialogue of a key: system or not, then user and assistant in turn.

  White space around a turn is dropped.

  Raises:
    InputError: it is no such list, has an empty turn, or does not end with the
      assistant's answer.
  """
  found = []
  for place, value in require_objects(row, key, where):
    role = require_text(value, 'role', Message._fields, place)
    if role not in _SPEAKERS:
      raise InputError(
        f'{place}: role must be {", ".join(_SPEAKERS)}; got {shown(role)}.'
      )
    content = require_text(value, 'content', Message._fields, place)
    found.append(Message(role, content.strip()))
  roles = [message.role for message in found]
  expected = ['user', 'assistant'] * (len(found) // 2)
  if not expected or roles not in (expected, ['system', *expected]):
    raise InputError(
      f'{where}: {key} needs turns of user and assistant in turn, the last the'
      f" assistant's; got {', '.join(roles) or 'none'}. Remove the row."
    )
  return found
