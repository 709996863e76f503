"""Layer 3. HelpSteer and HelpSteer2 (nvidia/HelpSteer, nvidia/HelpSteer2)."""

import re
from collections.abc import Callable, Iterable, Iterator

from dap.data import schema
from dap.data.formats import dialogues, ranking, ties
from dap.data.schema import (
  Placed,
  Row,
  require,
  require_number,
  require_text,
)
from dap.errors import InputError, shown

# Later turns of a prompt stand in one text, each after such a mark.
_TURN = re.compile(r'\s*<extra_id_1>(User|Assistant)[ \t]*\n?')
_STRONGEST = 3

# A response's row and its place to its score; higher is better.
Score = Callable[[Row, str], float]


def by_prompt(rows: Iterable[Placed]) -> Iterator[Placed]:
  """One row for each prompt, with the rows of its responses under `rows`.

  Prompts keep the order of their first response; a row without a prompt stays
  alone, for the format to refuse.
  """
  groups: dict[str, tuple[str, list[Placed]]] = {}
  for where, row in rows:
    prompt = row.get('prompt')
    if isinstance(prompt, str):
      groups.setdefault(prompt, (where, []))[1].append((where, row))
    else:
      yield where, row
  for prompt, (where, members) in groups.items():
    yield where, {'prompt': prompt, 'rows': members}


def by_own_split(row: Row, where: str, split: str) -> bool:
  """For files with a key `split`: 'train', or 'validation' for our `test`."""
  own = require_text(row, 'split', ('split',), where)
  if not own.startswith(('train', 'val', 'test')):
    raise InputError(
      f'{where}: split must be train, validation or test, got {shown(own)}.'
    )
  return own.startswith('train') == (split == 'train')


def helpfulness(row: Row, where: str) -> float:
  """The rating, 0 to 4, of how helpful a response is overall."""
  return require_number(row, 'helpfulness', where)


def helpsteer(
  row: Row,
  where: str,
  *,
  source: str = 'helpsteer2',
  choice: ranking.Choice = ranking.every_two,
  score: Score = helpfulness,
  tie_rule: ties.TieRule = ties.drop_ties,
  render: dialogues.Render = dialogues.transcript,
) -> list[Row]:
  """The responses to a prompt, each with its ratings.

  Args:
    row: of `by_prompt`; its members have prompt, response, helpfulness (and
      correctness, coherence, complexity, verbosity).
    where: its place.
    source: 'helpsteer' or 'helpsteer2'.
    choice: which responses make pairs, of `formats.ranking`.
    score: of a response.
    tie_rule: what two equal scores give, of `formats.ties`.
    render: messages as the text of a prompt.

  Raises:
    InputError: a key is missing, a text is empty, a rating is no number, or
      the responses of a pair are the same; `PartlyMalformed` with the pairs of
      the other responses.
  """
  prompt = _prompt(row, where, render)
  members = require(row, 'rows', list, where)

  def scored(at: str, member: Row) -> tuple[str, float]:
    response = require_text(member, 'response', ('prompt', 'response'), at)
    return response.strip(), score(member, at)

  return ranking.pairs(
    (prompt, source, where), members, scored, choice, tie_rule
  )


def helpsteer2_preference(
  row: Row,
  where: str,
  *,
  tie_rule: ties.TieRule = ties.drop_ties,
  share: Callable[[int], float] | None = None,
  render: dialogues.Render = dialogues.transcript,
) -> list[Row]:
  """Two responses and how much better the second one is.

  Args:
    row: prompt, response_1, response_2, preference_strength (a whole number
      from -3, the first is much better, to 3, the second is; 0 is a tie); the
      file holds both splits, told by `split`, and the people's reasons, which
      are not read.
    where: its place.
    tie_rule: what a tie gives, of `formats.ties`.
    share: of a strength from 1 to 3, the share of votes that the row is said to
      have (`graded_share`); rows say none when None.
    render: messages as the text of a prompt.

  Raises:
    InputError: a key is missing, a text is empty, or the strength beyond 3.
  """
  prompt = _prompt(row, where, render)
  keys = ('prompt', 'response_1', 'response_2')
  first, second = (require_text(row, k, keys, where).strip() for k in keys[1:])
  strength = require(row, 'preference_strength', int, where)
  if abs(strength) > _STRONGEST:
    raise InputError(
      f'{where}: preference_strength must be from -3 to 3, got {strength}.'
      ' Correct it, or remove the row.'
    )
  if strength:
    made = [(first, second) if strength < 0 else (second, first)]
  else:
    made = tie_rule(first, second, 'tie')
  source = 'helpsteer2/preference'
  told = {}
  if share is not None:
    told['chosen_share'] = share(abs(strength)) if strength else 0.5
  return [
    schema.pair(prompt, *pair, source, None, where) | told for pair in made
  ]


def graded_share(strength: int) -> float:
  """2/3, 5/6 or 1 of the votes for a strength of 1, 2 or 3: evenly apart."""
  return 0.5 + abs(strength) / (2 * _STRONGEST)


def _prompt(row: Row, where: str, render: dialogues.Render) -> str:
  text = require_text(row, 'prompt', ('prompt',), where)
  first, *others = _TURN.split(text)
  turns = [dialogues.Message('user', first.strip())]
  for speaker, content in zip(others[::2], others[1::2]):
    role = 'user' if speaker == 'User' else 'assistant'
    turns.append(dialogues.Message(role, content.strip()))
  expected = ['user', 'assistant'] * len(turns)
  if [turn.role for turn in turns] != expected[: len(turns)] or not (
    len(turns) % 2 and all(turn.content for turn in turns)
  ):
    raise InputError(
      f'{where}: prompt needs turns of User and Assistant in turn, none empty,'
      " the last the user's. Remove the row."
    )
  return render(turns)
