"""Layer 3. The embedded corpus's hidden utility: the truth behind its labels.

Counted in whole hundredths, so that numpy and a compiled program of jax give
equal numbers, and equal responses tie.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dap.data import corpus_text as text

# Hundredths. Weights of the facts are in the order of `FACTS`.
FACT_WEIGHTS = (100, 100, 35, 35, 70, 100)
WRONG_FACT = 60  # and .6 times the fact's weight
REPEAT = 25
POLITE_ONCE, POLITE_AGAIN = 50, 40
RUDE = 100
FILLER = 15
WORD_BEYOND_LIMIT, WORD_LIMIT = 12, 12
UNLICENSED_BIGRAM = 40
UNFINISHED = 100

# Ids inside the utility: words follow three marks and the unknown word.
PAD, START, END, UNKNOWN, _FIRST_WORD = range(5)
WORD_IDS = {word: _FIRST_WORD + i for i, word in enumerate(text.WORDS)}
_IDS = {**WORD_IDS, text.START: START, text.END: END}
_NUM_FACTS = len(text.FACTS)
_GLUE, _POLITE, _RUDE, _FILLER, _NO_WORD, _STRANGE = range(
  _NUM_FACTS, _NUM_FACTS + 6
)


def utilities(
  posts: Sequence[str], responses: Sequence[str], finished: Sequence[bool]
) -> Float[np.ndarray, ' batch']:
  """The hidden utility of each response to its post.

  Facts told count their weight once; a wrong fact, a repeated word (the word
  before it, or a word other than glue said before), politeness beyond once,
  rude words, fillers, words beyond twelve, neighbours that no careful writer
  puts together, and a missing end cost. Any text can be scored; words that are
  not of the corpus are only unlicensed neighbours.

  Args:
    posts: prompts as the corpus wrote them.
    responses: texts without end marks.
    finished: False where a response was cut before its end.

  Raises:
    InputError: a prompt is no post of the corpus.
  """
  facts = [text.parse_facts(post) for post in posts]
  return of_texts(facts, responses, np.asarray(finished, bool))


def utility(post: str, response: str, finished: bool) -> float:
  """The hidden utility of one response, as `utilities` has it."""
  return float(utilities([post], [response], [finished])[0])


def of_texts(
  facts: Sequence[tuple[str, ...]],
  responses: Sequence[str],
  finished: Bool[np.ndarray, ' batch'],
) -> Float[np.ndarray, ' batch']:
  """`utilities` of responses to posts that tell these facts."""
  truth = np.array([[WORD_IDS[word] for word in row] for row in facts])
  rows = _rows(responses, finished)
  return hundredths(truth, rows, finished, np) / 100


def hundredths(truth: Any, rows: Any, finished: Any, xp: Any) -> Any:
  """The utility as an array of integers, of ids in arrays of numpy or jax.

  Args:
    truth: [*any, facts], ids of the post's facts.
    rows: [*any, length], `START`, the words, `END` if there is one, `PAD`.
    finished: [*any] bool.
    xp: the arrays' module, `numpy` or `jax.numpy`.
  """
  kinds_of, licensed = (xp.asarray(table) for table in tables())
  count = lambda mask: xp.sum(mask, axis=-1, dtype=np.int32)
  kinds = kinds_of[rows]
  is_word = kinds != _NO_WORD

  pairs_alike = rows[..., :, None] == rows[..., None, :]
  before = xp.broadcast_to(
    xp.tril(xp.ones((rows.shape[-1],) * 2, bool), -1), pairs_alike.shape
  )
  said_before = xp.any(pairs_alike & before, axis=-1)
  stutters = rows[..., 1:] == rows[..., :-1]
  stutter = xp.concatenate([xp.zeros_like(stutters[..., :1]), stutters], -1)
  repeated = is_word & (stutter | (said_before & (kinds != _GLUE)))
  fact_kinds = xp.minimum(kinds, _NUM_FACTS - 1)
  is_wrong = xp.take_along_axis(truth, fact_kinds, axis=-1) != rows
  is_wrong = is_wrong & (kinds < _NUM_FACTS) & ~said_before
  told = xp.any(rows[..., :, None] == truth[..., None, :], axis=-2)
  polite = count(kinds == _POLITE)
  words_beyond = xp.maximum(count(is_word) - WORD_LIMIT, 0)
  unlicensed = ~licensed[rows[..., :-1], rows[..., 1:]]
  weights = xp.broadcast_to(xp.asarray(FACT_WEIGHTS), told.shape)
  wrong_cost = (
    WRONG_FACT + WRONG_FACT * xp.asarray(FACT_WEIGHTS)[fact_kinds] // 100
  )
  return (
    count(told * weights)
    - count(wrong_cost * is_wrong)
    - REPEAT * count(repeated)
    + POLITE_ONCE * (polite > 0)
    - POLITE_AGAIN * xp.maximum(polite - 1, 0)
    - RUDE * count(kinds == _RUDE)
    - FILLER * count(kinds == _FILLER)
    - WORD_BEYOND_LIMIT * words_beyond
    - UNLICENSED_BIGRAM * count(unlicensed)
    - UNFINISHED * ~finished
  )


def _word_kinds() -> Int[np.ndarray, ' ids']:
  kinds = np.full(_FIRST_WORD + len(text.WORDS), _GLUE)
  kinds[[PAD, START, END]] = _NO_WORD
  kinds[UNKNOWN] = _STRANGE
  groups = (*text.FACTS.values(), (), text.POLITE, text.RUDE, text.FILLERS)
  for kind, words in enumerate(groups):
    kinds[[_IDS[word] for word in words]] = kind
  return kinds


@cache
def tables() -> tuple[Int[np.ndarray, ' ids'], Bool[np.ndarray, 'ids ids']]:
  """Kind of each id, and which id may follow which."""
  licensed = np.zeros((len(_IDS) + 2, len(_IDS) + 2), bool)
  first, second = zip(*text.licensed_bigrams())
  licensed[[_IDS[w] for w in first], [_IDS[w] for w in second]] = True
  licensed[:, PAD] = True
  return _word_kinds(), licensed


def _rows(
  responses: Sequence[str], finished: Bool[np.ndarray, ' batch']
) -> Int[np.ndarray, 'batch length']:
  split = [response.split() for response in responses]
  rows = np.full((len(split), 2 + max(map(len, split), default=0)), PAD)
  rows[:, 0] = START
  for row, words, ends in zip(rows, split, finished):
    row[1 : 1 + len(words)] = [WORD_IDS.get(word, UNKNOWN) for word in words]
    if ends:
      row[1 + len(words)] = END
  return rows
