"""Layer 3. UltraFeedback, as it was made and in pairs.

openbmb/UltraFeedback has four scored completions an instruction;
HuggingFaceH4/ultrafeedback_binarized has pairs of them.
"""

from collections.abc import Callable

from dap.data import schema
from dap.data.formats import dialogues, ranking, ties
from dap.data.schema import (
  Row,
  require_number,
  require_objects,
  require_text,
)
from dap.errors import InputError

# A completion and its place to its score; higher is better.
Score = Callable[[Row, str], float]


def overall_score(completion: Row, where: str) -> float:
  """The score, 1 to 10, that goes with the critique of the whole."""
  return require_number(completion, 'overall_score', where)


def fine_grained_score(completion: Row, where: str) -> float:
  """The mean, 1 to 5, of the ratings of four aspects."""
  return require_number(completion, 'fine-grained_score', where)


def ultrafeedback(
  row: Row,
  where: str,
  *,
  choice: ranking.Choice = ranking.best_and_worst,
  score: Score = overall_score,
  tie_rule: ties.TieRule = ties.drop_ties,
  render: dialogues.Render = dialogues.transcript,
) -> list[Row]:
  """An instruction and its scored completions.

  Args:
    row: instruction, completions (each with `response` and its scores); other
      keys (source, models, ...) are not read.
    where: its place.
    choice: which completions make pairs, of `formats.ranking`.
    score: of a completion.
    tie_rule: what two equal scores give, of `formats.ties`.
    render: messages as the text of a prompt.

  Returns:
    Its pairs; none when there are fewer than two completions.

  Raises:
    InputError: a key is missing, a text is empty, a score no number, or the
      responses of a pair are the same; `PartlyMalformed` with the other pairs.
  """
  asked = require_text(row, 'instruction', ('instruction',), where).strip()
  placed = require_objects(row, 'completions', where)
  prompt = render([dialogues.Message('user', asked)])

  def scored(at: str, completion: Row) -> tuple[str, float]:
    response = require_text(completion, 'response', ('response',), at)
    return response.strip(), score(completion, at)

  return ranking.pairs(
    (prompt, 'ultrafeedback', where), placed, scored, choice, tie_rule
  )


def ultrafeedback_binarized(
  row: Row,
  where: str,
  *,
  tie_rule: ties.TieRule = ties.first_on_ties,
  render: dialogues.Render = dialogues.transcript,
) -> list[Row]:
  """Two dialogues that differ in their last turn, with a score each.

  Args:
    row: prompt_id, chosen and rejected (lists of {'role', 'content'}),
      score_chosen, score_rejected; prompt and messages repeat these.
    where: its place.
    tie_rule: what two equal scores give; the set's own label by default.
    render: messages as the text of a prompt.

  Raises:
    InputError: a key is missing, a turn is empty, or the prompts differ.
  """
  own_id = require_text(row, 'prompt_id', ('prompt_id',), where)
  first = dialogues.messages(row, 'chosen', where)
  second = dialogues.messages(row, 'rejected', where)
  if first[:-1] != second[:-1]:
    raise InputError(
      f'{where}: chosen and rejected must be the same dialogue up to the last'
      ' turn. Remove the row.'
    )
  scores = [
    require_number(row, f'score_{side}', where)
    for side in ('chosen', 'rejected')
  ]
  responses = first[-1].content, second[-1].content
  made = [responses]
  if scores[0] == scores[1]:
    made = tie_rule(*responses, 'tie')
  prompt = render(first[:-1])
  source = 'ultrafeedback_binarized'
  return [schema.pair(prompt, *pair, source, own_id, where) for pair in made]
