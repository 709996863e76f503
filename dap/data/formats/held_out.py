"""Layer 3. Test rows of a set that has none of its own."""

from collections.abc import Callable

from dap.data import schema
from dap.data.formats import dialogues
from dap.data.schema import Row, require_text

# A raw row and its place to what was asked in it first.
Question = Callable[[Row, str], str]


def first_question(row: Row, where: str) -> str:
  """The user's first turn in a row of the arena."""
  found = dialogues.messages(row, 'conversation_a', where)
  return next(m.content for m in found if m.role == 'user')


def instruction(row: Row, where: str) -> str:
  """The instruction of a row of UltraFeedback."""
  return require_text(row, 'instruction', ('instruction',), where).strip()


def twentieth(
  row: Row, where: str, split: str, *, question: Question = first_question
) -> bool:
  """5 % of all questions are `test`, chosen by a hash of each.

  The same rows however they are read and in whatever order; as the question
  decides, no prompt is in both splits.
  """
  is_test = int(schema.digest(question(row, where)), 16) % 20 == 0
  return is_test == (split == 'test')
