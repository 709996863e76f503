"""Layer 3. Pairs as lists of messages: the usual rows of conversations."""

from collections.abc import Sequence

from dap.data import schema
from dap.data.formats import dialogues
from dap.data.schema import PAIR_KEYS, Row, require, require_text
from dap.errors import InputError

PART = 'gin/data/messages.gin'


def conversations(
  row: Row,
  where: str,
  *,
  prompt: str = 'prompt',
  chosen: str = 'chosen',
  rejected: str = 'rejected',
  source: str = 'own',
  part: dialogues.Part = dialogues.where_they_part,
  render: dialogues.Render = dialogues.transcript,
) -> list[Row]:
  """Two dialogues that part somewhere, as lists of {'role', 'content'}.

  The prompt is given, as such a list or as the text of one question, and stands
  before both or is repeated by both; or it is not, and is what `chosen` and
  `rejected` share. Roles are user and assistant in turn, after a system turn or
  not; as text a dialogue is what those of all other sets are.

  Args:
    row: chosen, rejected and perhaps a prompt; other keys are kept.
    where: its place.
    prompt: the key of the prompt, which may be missing, null or empty.
    chosen: the key of the chosen dialogue, or of its end.
    rejected: the key of the rejected one.
    source: the `source` of rows that name none.
    part: where prompt and response meet in a dialogue of several turns.
    render: messages as the text of a prompt.

  Raises:
    InputError: a key has no such list, a turn is empty or not its speaker's,
      or the two dialogues do not begin with the same question.
  """
  asked = _asked(row, prompt, where)
  first, second = (_whole(row, k, asked, where) for k in (chosen, rejected))
  parted = part(first, second, render, where)
  if parted is None:
    return []
  own_id = schema.optional_text(row, 'id', where)
  own_source = schema.optional_text(row, 'source', where) or source
  made = schema.pair(*parted, own_source, own_id, where)
  others = (prompt, chosen, rejected, *PAIR_KEYS)
  return [{k: v for k, v in row.items() if k not in others} | made]


def is_messages(value: object) -> bool:
  """Whether a value looks like a list of messages."""
  return isinstance(value, list) and any(
    isinstance(each, dict) and 'role' in each for each in value
  )


def _asked(row: Row, key: str, where: str) -> list[Row]:
  """The turns of the prompt's own key; none where it is not given."""
  given = row.get(key)
  if given is None or given == []:
    return []
  if isinstance(given, str):
    text = require_text(row, key, (key,), where)
    return [{'role': 'user', 'content': text}]
  return require(row, key, list, where)


def _whole(
  row: Row, key: str, asked: Sequence[Row], where: str
) -> list[dialogues.Message]:
  """The dialogue of a key from its first turn, whether it repeats the prompt.

  Raises:
    InputError: it begins with a question, and not with the prompt's.
  """
  if isinstance(row.get(key), str):
    raise InputError(
      f'{where}: {key} must be a list of messages, got a text:'
      f' {schema.shortened(row[key])}. Rows of texts are for'
      ' gin/data/jsonl.gin.'
    )
  own = require(row, key, list, where, (key,))
  if _repeats(own, asked):
    return dialogues.messages(row, key, where)
  if 'assistant' in (_role(own[0]), _role(asked[-1])):
    return dialogues.messages({key: [*asked, *own]}, key, where)
  raise InputError(
    f'{where}: {key} begins with a question, and not with those of the prompt.'
    ' Give it without the prompt, or the same prompt, or remove the row.'
  )


def _repeats(own: Sequence[object], asked: Sequence[object]) -> bool:
  """Whether a dialogue begins as the prompt does, or there is nothing to."""
  given, said = ([*map(_content, each)] for each in (asked, own))
  if said[: len(given)] == given or not own:
    return True
  return _role(own[0]) == 'system' and said[1 : 1 + len(given)] == given


def _role(message: object) -> object:
  return message.get('role') if isinstance(message, dict) else None


def _content(message: object) -> object:
  content = message.get('content') if isinstance(message, dict) else None
  return content.strip() if isinstance(content, str) else content
