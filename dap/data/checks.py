"""Layer 3. What is wrong with the ids of a row, and what becomes of it.

A vocabulary may turn texts that differ into ids that do not, or a text into
nothing: NFKC, white space that is dropped, characters without a piece. What a
model reads are the ids, so that they are what is checked, of every source:

- a mistake of the row (`fault`) is refused, or left out and counted, as
  `MISTAKES` says: no ids, ids that are no pieces, ids after an end, two
  responses of the same ids, a label against the row's own scores or votes;
- two responses that are the same only once they are cut are nobody's mistake
  but the limit's: the pair is left out and counted, always;
- a test prompt that stands in `train` is counted, and left out on request.
"""

import hashlib
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dap.data.schema import Row, shortened
from dap.data.sources import Mistakes, refuse
from dap.errors import InputError
from dap.records import END, PADDING

PAIR_KEYS = ('chosen', 'rejected')
SHARE = 'chosen_share'  # of the votes for the chosen response, in [0, 1]
CURE = (
  'Remove the row, or leave such rows out: --gin.MISTAKES=@sources.leave_out'
)
_SCORES = {'score', 'rating', 'reward'}
_OF_ALL = {'overall', 'mean', 'average', 'avg', 'total'}  # may stand beside

# The place of a pair whose responses are the same ids: whether it stays.
KeepsSame = Callable[[str], bool]
# A test row whose prompt stands in `train`: whether it stays in `test`.
Repeats = Callable[[Row], bool]


def no_pair(where: str) -> bool:
  """Two equal responses are no pair: nothing is preferred to itself."""
  del where
  return False


def keep_repeated(row: Row) -> bool:
  """Test prompts that stand in `train` stay in `test`, and are warned of."""
  del row
  return True


def leave_out_repeated(row: Row) -> bool:
  """Test prompts that stand in `train` are left out of `test`, and counted."""
  del row
  return False


class Rules(NamedTuple):
  """What becomes of rows whose ids are not what training needs.

  Attributes:
    mistakes: `sources.refuse` or `leave_out`, for mistakes of a row.
    keeps_same: of pairs whose responses are the same ids; where it says no,
      they are a mistake of the row, unless only the cut made them so.
    num_ids: of the vocabulary; None where it is not known.
    limit: of responses, which may have come cut to it; None where none has.
    repeats: of test rows whose prompt stands in `train`.
    of_train: what `prompt_key` gives for each prompt of `train`.
    before: what the source has counted by the time that all rows are read: the
      `malformed` ones that it left out.
  """

  mistakes: Mistakes = refuse
  keeps_same: KeepsSame = no_pair
  num_ids: int | None = None
  limit: int | None = None
  repeats: Repeats = keep_repeated
  of_train: frozenset[bytes] = frozenset()
  before: Mapping[str, int] = types.MappingProxyType({})


class Fault(NamedTuple):
  """A mistake of a row: under which name it is counted, and in words."""

  kind: str
  error: InputError


def fault(
  where: str,
  row: Row,
  prompt: Sequence[int],
  responses: Mapping[str, Sequence[int]],
  rules: Rules,
) -> Fault | None:
  """What is wrong with a row before it is cut; None where nothing is.

  Args:
    where: its place, which opens the message.
    row: its texts and other keys.
    prompt: ids.
    responses: ids by key of the row, each with its end where it has one.
    rules: whose `num_ids` and `keeps_same` are asked.
  """

  def told(kind: str, what: str) -> Fault:
    return Fault(kind, InputError(f'{where}: {what} {CURE}.'))

  for key, ids in (('prompt', prompt), *responses.items()):
    wrong = _no_pieces(ids, rules.num_ids)
    if wrong is not None:
      return told('no_ids', f'{key} {wrong}')
    if key != 'prompt' and END in ids[:-1]:
      return told(
        'beyond_end',
        f'{key} has the end, id {END}, before its last token: what follows'
        ' would be trained on and never written.',
      )
    if [*ids] in ([], [END]):
      text = shortened(repr(row.get(key, '')))
      return told(
        'no_ids',
        f'{key} has no token in this vocabulary, as an empty text: {text}.',
      )
  pair = [responses[key] for key in PAIR_KEYS if key in responses]
  cut = len(pair[0]) == rules.limit and pair[0][-1] != END if pair else False
  same = len(pair) == 2 and pair[0] == pair[1] and not cut
  if same and not rules.keeps_same(where):
    return told(
      'same_ids',
      'chosen and rejected are the same token ids in this vocabulary, so that'
      f' nothing is preferred: {shortened(repr(row.get("chosen")))} and'
      f' {shortened(repr(row.get("rejected")))}.',
    )
  if len(pair) != 2:
    return None
  against = _votes(row) or against_scores(row)
  return None if against is None else told('against_scores', against)


def _no_pieces(ids: Sequence[int], num_ids: int | None) -> str | None:
  """What is said of ids that are padding, negative or of no piece."""
  if not len(ids):
    return None
  low, high = min(ids), max(ids)
  if low > PADDING and (num_ids is None or high < num_ids):
    return None
  most = 'up' if num_ids is None else f'to {num_ids - 1}'
  return (
    f'needs ids from 1 {most}, as 0 is padding and each id a piece of the'
    f' vocabulary; got {low} to {high}.'
  )


def check_votes(where: str, row: Row, voted: bool) -> None:
  """Refuses a row with votes among rows without, and the other way round.

  Args:
    where: its place.
    row: its texts and other keys.
    voted: whether the first row has a share of votes.

  Raises:
    InputError: it differs.
  """
  if (SHARE in row) != voted:
    has, others = ('a', 'none') if SHARE in row else ('no', 'one')
    raise InputError(
      f'{where}: the row has {has} {SHARE} and rows before it have {others}.'
      ' Give all rows the share of votes for their chosen response, or none.'
    )


def _votes(row: Row) -> str | None:
  """What is said of a share that is none, or of the minority's choice."""
  share = row.get(SHARE, 1.0)
  if not _is_number(share) or not 0 <= share <= 1:
    return (
      f'{SHARE} must be a number from 0 to 1, got {shortened(repr(share))}.'
    )
  if share < 0.5:
    return (
      f'the label is against its own votes: {SHARE} {share:g} is less than'
      ' half.'
    )
  return None


def against_scores(row: Row) -> str | None:
  """What is said of a row that scores its rejected response higher.

  Two numbers are its scores where their keys differ in `chosen` and `rejected`
  alone and say score, rating or reward besides: `score_chosen`,
  `rejected-rating`, `chosen_overall_score`. A score of something, such as
  `chosen_toxicity_score`, may be better when it is lower, and is not read. Nor
  are utilities: the embedded corpus has them as the hidden truth behind labels
  that are noisy on purpose.
  """
  for key, better in row.items():
    other = key.replace('chosen', 'rejected')
    if other == key or other not in row or not _is_score(key):
      continue
    worse = row[other]
    if _is_number(better) and _is_number(worse) and better < worse:
      return (
        f"the label is against the row's own scores: {key} {better:g} is below"
        f' {other} {worse:g}.'
      )
  return None


def _is_score(key: str) -> bool:
  words = set(re.findall('[a-z]+', key.lower().replace('chosen', ' ')))
  return bool(words & _SCORES) and words <= _SCORES | _OF_ALL


def _is_number(value: object) -> bool:
  return (
    isinstance(value, int | float)
    and not isinstance(value, bool)
    and math.isfinite(value)
  )


def prompt_key(padded: np.ndarray) -> bytes:
  """16 bytes that name a prompt by its ids, padded as in the arrays.

  Prompts are told apart by what a model reads, their ids after the cut: equal
  texts have equal ids, and two texts whose ids are the same by then are one
  prompt to the policy that learns one and is judged on the other.
  """
  content = np.ascontiguousarray(padded, '<i4').tobytes()
  return hashlib.blake2b(content, digest_size=16).digest()
