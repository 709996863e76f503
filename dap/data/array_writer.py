"""Layer 3. Writes the arrays of `arrays.prepare`, row by row."""

import contextlib
import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dap.data.schema import Row
from dap.data.vocabulary import UNKNOWN_ID, Vocabulary
from dap.errors import InputError
from dap.records import END, PADDING

# Takes a response with its end and the limit, gives what stays of it, at most
# `limit` ids, or None to leave its example out; called only beyond the limit.
LongResponses = Callable[[list[int], int], list[int] | None]

# Takes counts, lengths and the rule, says for people what became of the rows.
Report = Callable[[Counter[str], tuple[int, int], LongResponses], str]

_PAIR_KEYS = ('chosen', 'rejected')


class Encoded(NamedTuple):
  """A row with its token ids.

  Attributes:
    row: its texts and other keys.
    prompt: ids without an end.
    responses: ids by key of the row, `chosen` and `rejected` or `response`,
      each with its end unless it is cut already.
  """

  row: Row
  prompt: list[int]
  responses: dict[str, list[int]]


def encode(rows: Sequence[Row], vocabulary: Vocabulary) -> Iterator[Encoded]:
  """The rows with the ids of their texts, ends appended."""
  keys = ('response',) if rows and 'response' in rows[0] else _PAIR_KEYS
  for row in rows:
    responses = {k: [*vocabulary.encode(row[k]), END] for k in keys}
    yield Encoded(row, vocabulary.encode(row['prompt']), responses)


def write_rows(
  folder: Path,
  examples: Iterable[Encoded],
  lengths: tuple[int, int],
  long_responses: LongResponses,
  make_report: Report,
) -> None:
  """Writes the arrays row by row: neither ids nor texts are held twice."""
  examples = iter(examples)
  first = next(examples, None)
  keys = _PAIR_KEYS if first is None else tuple(first.responses)
  head = () if first is None else (first,)
  prompt_length, response_length = lengths
  counts: Counter[str] = Counter(rows=0, responses=0)
  prompt_ids: dict[str, int] = {}
  with contextlib.ExitStack() as stack:

    def column(name: str, *shape: int) -> _Column:
      return stack.enter_context(_Column(folder / f'{name}.npy', shape))

    prompts = column('prompts', prompt_length)
    names, starts = column('prompt_ids'), column('row_starts')
    responses = [column(key, response_length) for key in keys]
    texts = stack.enter_context(open(folder / 'rows.jsonl', 'wb'))
    for row, prompt, ids in itertools.chain(head, examples):
      counts['rows'] += 1
      try:
        kept = _keep([*ids.values()], response_length, long_responses, counts)
      except InputError as error:
        raise InputError(f'Example {counts["rows"]}: {error}') from error
      if kept is None:
        continue
      counts['cut_prompts'] += len(prompt) > prompt_length
      counts['unknown'] += sum(x.count(UNKNOWN_ID) for x in (prompt, *kept))
      counts['tokens'] += sum(map(len, (prompt, *kept)))
      prompts.append(prompt[-prompt_length:])
      names.append(prompt_ids.setdefault(row['prompt'], len(prompt_ids)))
      starts.append(texts.tell())
      texts.write(json.dumps(row).encode() + b'\n')
      for to, response in zip(responses, kept):
        to.append(response)
    counts['examples'] = prompts.num_rows
  report = make_report(counts, lengths, long_responses)
  facts = {'responses': keys, 'counts': counts, 'report': report}
  (folder / 'facts.json').write_text(json.dumps(facts, indent=2))


def _keep(
  responses: list[list[int]],
  limit: int,
  long_responses: LongResponses,
  counts: Counter[str],
) -> list[list[int]] | None:
  """The responses of a row within the limit, or None to leave it out."""
  too_long = [len(ids) > limit for ids in responses]
  kept = [
    long_responses(ids, limit) if long else ids
    for ids, long in zip(responses, too_long)
  ]
  counts['responses'] += len(responses)
  counts['long_responses'] += sum(too_long)
  if None in kept:
    counts['left_out'] += 1
    return None
  counts['cut_responses'] += sum(too_long)
  return [ids for ids in kept if ids is not None]


def cut_report(
  counts: Counter[str], lengths: tuple[int, int], rule: LongResponses
) -> str:
  """What the rule did, and what was long."""
  share = functools.partial(_share, counts)
  name = getattr(rule, '__name__', repr(rule))
  outcome = 'were cut'
  if counts['left_out']:
    outcome = share('left_out', 'rows').format('examples') + ' were left out'
  report = (
    f'{counts["examples"]} examples.'
    f' {share("long_responses", "responses").format("responses")} were longer'
    f' than {lengths[1]} tokens and {outcome} (rule: {name}).'
    f' {share("cut_prompts", "examples").format("prompts")} were longer than'
    f' {lengths[0]} tokens and lost their beginning.'
  )
  return report + _unknown(counts)


def given_report(
  counts: Counter[str], lengths: tuple[int, int], rule: LongResponses
) -> str:
  """Of ids that came cut: what was long is not known."""
  del rule
  return (
    f'{counts["examples"]} examples, whose ids seqio had cut already where'
    f' prompts were longer than {lengths[0]} and responses longer than'
    f' {lengths[1]} tokens: how many were is not counted.' + _unknown(counts)
  )


def _unknown(counts: Counter[str]) -> str:
  if not counts['unknown']:
    return ''
  unknown = _share(counts, 'unknown', 'tokens').format('tokens')
  return f' {unknown} are unknown to the vocabulary.'


def _share(counts: Counter[str], part: str, whole: str) -> str:
  percent = 100 * counts[part] / max(counts[whole], 1)
  return f'{counts[part]} of {counts[whole]} {{}} ({percent:.1f} %)'


def qualified_name(rule: LongResponses) -> str:
  """The name of a function in its module, or what a value looks like."""
  return getattr(rule, '__qualname__', repr(rule))


class _Column:
  """A .npy file that grows by rows; the last to be written is its header."""

  def __init__(self, path: Path, row_shape: tuple[int, ...]):
    self._file = open(path, 'wb')  # noqa: SIM115, it is closed at the exit
    self._row_shape = row_shape
    self.num_rows = 0
    self._write_header()

  def _write_header(self) -> None:
    # numpy leaves room in the header for any number of rows.
    self._file.seek(0)
    shape = (self.num_rows, *self._row_shape)
    header = {'descr': '<i4', 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(self._file, header)

  def append(self, values: int | list[int]) -> None:
    row = np.full(self._row_shape, PADDING, '<i4')
    row[() if isinstance(values, int) else slice(len(values))] = values
    self._file.write(row.tobytes())
    self.num_rows += 1

  def __enter__(self) -> '_Column':
    return self

  def __exit__(
    self, error_type: type[BaseException] | None, *_: object
  ) -> None:
    with self._file:
      if error_type is None:
        self._write_header()
