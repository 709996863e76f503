"""Layer 3. The project's own rows: pairs and targets as they are."""

from dap.data import schema
from dap.data.formats.conversations import PART, is_messages
from dap.data.schema import PAIR_KEYS, Row, require_text
from dap.errors import InputError


def pairs(
  row: Row,
  where: str,
  *,
  prompt: str = 'prompt',
  chosen: str = 'chosen',
  rejected: str = 'rejected',
  source: str = 'own',
) -> list[Row]:
  """Rows that have the one schema already, or lack its last two keys.

  Args:
    row: an object with three texts; other keys are kept.
    where: its place.
    prompt: the key of the prompt.
    chosen: the key of the chosen response.
    rejected: the key of the rejected one.
    source: the `source` of rows that name none.

  Raises:
    InputError: a key is missing, a text is empty, or a list of messages, for
      which there is another format; the responses are the same.
  """
  for key in (prompt, chosen, rejected):
    if is_messages(row.get(key)):
      raise InputError(
        f'{where}: {key} must be a text, got a list of messages. Such rows are'
        f' for {PART}: --gin_file={PART} in place of gin/data/jsonl.gin.'
      )
  names = (prompt, chosen, rejected)
  asked, better, worse = (require_text(row, n, names, where) for n in names)
  own_id = schema.optional_text(row, 'id', where)
  own_source = schema.optional_text(row, 'source', where) or source
  made = schema.pair(asked, better, worse, own_source, own_id, where)
  others = {k: v for k, v in row.items() if k not in (*names, *PAIR_KEYS)}
  return [others | made]


def targets(row: Row, where: str) -> list[Row]:
  """Texts to imitate: prompt and response; other keys but a pair's are kept."""
  keys = ('prompt', 'response')
  texts = {key: require_text(row, key, keys, where) for key in keys}
  own_id = schema.optional_text(row, 'id', where)
  others = {k: v for k, v in row.items() if k not in PAIR_KEYS}
  return [others | texts | {'id': own_id or schema.digest(*texts.values())}]
