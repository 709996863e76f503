"""Layer 3. Anthropic's helpful and harmless dialogues (Anthropic/hh-rlhf)."""

from dap.data import schema
from dap.data.formats.dialogues import LAST_TURN, NEXT_TURN, parting
from dap.data.schema import Row, require_text, shortened
from dap.errors import InputError


def hh(row: Row, where: str, *, subset: str = 'helpful-base') -> list[Row]:
  """Two whole transcripts, `chosen` and `rejected`, of one dialogue.

  The last turn of each, after the last "\\n\\nAssistant:", is the response; all
  before it, that mark included, is the prompt and must be the same in both.

  Args:
    row: chosen, rejected.
    where: its place.
    subset: helpful-base, helpful-online, helpful-rejection-sampled or
      harmless-base, for `source`.

  Raises:
    InputError: a key is missing, a turn is empty, the user has the last
      word, or the prompts differ or the responses do not.
  """
  prompts, responses = [], []
  for key in ('chosen', 'rejected'):
    dialogue = require_text(row, key, ('chosen', 'rejected'), where)
    before, mark, response = dialogue.rpartition(LAST_TURN)
    if not mark:
      raise InputError(
        f'{where}: {key} needs a turn that begins {LAST_TURN!r}; got'
        f' {shortened(dialogue)}.'
      )
    if NEXT_TURN in response:
      raise InputError(
        f'{where}: {key} must end with the assistant; after its last'
        f' {LAST_TURN!r} comes another {NEXT_TURN!r}. Remove the row.'
      )
    if not response.strip():
      raise InputError(
        f'{where}: the last turn of {key} is empty. Remove the row.'
      )
    prompts.append(before + mark)
    responses.append(response.strip())
  if prompts[0] != prompts[1]:
    raise InputError(
      f'{where}: chosen and rejected must be the same dialogue up to the last'
      f' {LAST_TURN!r}; they part at character {parting(*prompts)}.'
      ' Remove the row.'
    )
  chosen, rejected = responses
  source = f'hh-rlhf/{subset}'
  return [schema.pair(prompts[0], chosen, rejected, source, None, where)]
