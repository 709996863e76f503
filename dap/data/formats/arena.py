"""Layer 3. Chatbot Arena side by side (lmsys/chatbot_arena_conversations)."""

from dap.data import schema
from dap.data.formats import dialogues, ties
from dap.data.schema import Row, require, require_text
from dap.errors import InputError, shown

_TIES = ('tie', ties.BOTH_BAD)
_WINNERS = ('model_a', 'model_b', *_TIES)


def arena(
  row: Row,
  where: str,
  *,
  tie_rule: ties.TieRule = ties.drop_ties,
  part: dialogues.Part = dialogues.where_they_part,
  render: dialogues.Render = dialogues.transcript,
) -> list[Row]:
  """Two models' dialogues with one person, who named the better or a tie.

  Args:
    row: question_id, winner ('model_a', 'model_b', 'tie', 'tie (bothbad)'),
      conversation_a and conversation_b, lists of {'role', 'content'}; other
      keys (model_a, model_b, judge, turn, language, ...) are not read.
    where: its place.
    tie_rule: what a tie gives, of `formats.ties`.
    part: where prompt and response meet in a dialogue of several turns.
    render: messages as the text of a prompt.

  Raises:
    InputError: a key is missing, the winner unknown, a turn empty, or the
      person did not ask both models the same.
  """
  own_id = require_text(row, 'question_id', ('question_id',), where)
  winner = require(row, 'winner', str, where)
  if winner not in _WINNERS:
    raise InputError(
      f'{where}: winner must be one of {", ".join(_WINNERS)}; got'
      f' {shown(winner)}. Correct it, or remove the row.'
    )
  first = dialogues.messages(row, 'conversation_a', where)
  second = dialogues.messages(row, 'conversation_b', where)
  parted = part(first, second, render, where)
  if parted is None:
    return []
  prompt, response_a, response_b = parted
  made = {
    'model_a': [(response_a, response_b)],
    'model_b': [(response_b, response_a)],
  }.get(winner)
  if made is None:
    made = tie_rule(response_a, response_b, winner)
  source = 'chatbot_arena'
  return [schema.pair(prompt, *pair, source, own_id, where) for pair in made]
