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


_TEN, _HIGH, _LOW = 10.0, 4.0, 2.0


def overall_score(completion: Row, where: str) -> float:
  """The score, 1 to 10, that goes with the critique of the whole.

  A rating of 1 was multiplied by ten when the set was first made, so that some
  of its worst responses have a 10. A 10 stands where the mean rating of the
  four aspects, 1 to 5, is above 4 or missing; where that is 2 or less it is
  read as 1, and between as what the mean is on the scale of 1 to 10.
  """
  score = require_number(completion, 'overall_score', where)
  if not _doubtful(completion):
    return score
  mean = float(completion['fine-grained_score'])
  return 1.0 if mean <= _LOW else 1.0 + 9.0 / 4.0 * (mean - 1.0)


def _doubtful(completion: Row) -> bool:
  """Whether a score of 10 stands beside ratings that are not high."""
  mean = completion.get('fine-grained_score')
  return (
    completion.get('overall_score') == _TEN
    and isinstance(mean, int | float)
    and not isinstance(mean, bool)
    and mean <= _HIGH
  )


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
    Its pairs; none when there are fewer than two completions. Those of a row
    with scores of 10 that its ratings do not bear out have `doubtful_scores`,
    how many there are, whatever `score` reads.

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

  doubtful = sum(_doubtful(completion) for _, completion in placed)
  marks = {'doubtful_scores': doubtful} if doubtful else {}
  try:
    made = ranking.pairs(
      (prompt, 'ultrafeedback', where), placed, scored, choice, tie_rule
    )
  except schema.PartlyMalformed as error:
    error.pairs = [each | marks for each in error.pairs]
    raise
  return [each | marks for each in made]


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
      score_chosen, score_rejected; prompt and messages repeat these. It has
      no ratings beside its scores that would tell a 10 that was a 1.
    where: its place.
    tie_rule: what two equal scores give; the set's own label by default.
    render: messages as the text of a prompt.

  Raises:
    InputError: a key is missing, a turn is empty, the prompts differ, or the
      rejected response has the higher score.
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
  if scores[0] < scores[1]:
    raise InputError(
      f"{where}: the label is against the row's own scores: score_chosen"
      f' {scores[0]:g} is below score_rejected {scores[1]:g}. Remove the row.'
    )
  responses = first[-1].content, second[-1].content
  made = [responses]
  if scores[0] == scores[1]:
    made = tie_rule(*responses, 'tie')
  prompt = render(first[:-1])
  source = 'ultrafeedback_binarized'
  return [schema.pair(prompt, *pair, source, own_id, where) for pair in made]
