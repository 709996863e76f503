"""Layer 3. Writes the arrays of `arrays.prepare`, row by row."""

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dap.data import checks
from dap.data import facts as facts_lib
from dap.data.checks import PAIR_KEYS
from dap.data.facts import Report
from dap.data.schema import Placed, Row
from dap.data.vocabulary import UNKNOWN_ID, Vocabulary
from dap.errors import InputError
from dap.records import END, PADDING

# Takes a response with its end and the limit, gives what stays of it, at most
# `limit` ids, or None to leave its example out; called only beyond the limit.
LongResponses = Callable[[list[int], int], list[int] | None]

Responses = list[list[int]]  # ids of each, in the order of the row's keys


class Encoded(NamedTuple):
  """A row with its token ids.

  Attributes:
    row: its texts and other keys.
    prompt: ids without an end.
    responses: ids by key of the row, `chosen` and `rejected` or `response`,
      each with its end unless it is cut already.
    where: its place, which opens messages about it.
  """

  row: Row
  prompt: list[int]
  responses: dict[str, list[int]]
  where: str = ''


def encode(
  placed: Iterable[Placed], vocabulary: Vocabulary
) -> Iterator[Encoded]:
  """The rows with the ids of their texts, ends appended.

  A row is a pair where it has `chosen` and `rejected`, else it is a target.
  """
  for where, row in placed:
    keys = PAIR_KEYS if all(k in row for k in PAIR_KEYS) else ('response',)
    responses = {k: [*vocabulary.encode(row[k]), END] for k in keys}
    yield Encoded(row, vocabulary.encode(row['prompt']), responses, where)


def write_rows(
  folder: Path,
  examples: Iterable[Encoded],
  lengths: tuple[int, int],
  long_responses: LongResponses,
  make_report: Report,
  rules: checks.Rules = checks.Rules(),  # noqa: B008 (a value)
) -> None:
  """Writes the arrays row by row: neither ids nor texts are held twice.

  The one place where all rows pass, of whatever source, as ids: `rules` says
  what becomes of those that training cannot use.

  Raises:
    InputError: of a row that is refused; no row is left; or of all responses
      with room for an end none has one.
  """
  examples = iter(examples)
  first = next(examples, None)
  keys = PAIR_KEYS if first is None else tuple(first.responses)
  head = () if first is None else (first,)
  tally = _Tally(lengths, long_responses, rules)
  with contextlib.ExitStack() as stack:

    def column(name: str, *shape: int, dtype: str = '<i4') -> _Column:
      made = _Column(folder / f'{name}.npy', shape, dtype)
      return stack.enter_context(made)

    prompts = column('prompts', lengths[0])
    names, starts = column('prompt_ids'), column('row_starts')
    responses = [column(key, lengths[1]) for key in keys]
    paired = keys == PAIR_KEYS
    voted = paired and first is not None and checks.SHARE in first.row
    shares = [column('shares', dtype='<f4')] if voted else []
    texts = stack.enter_context(open(folder / 'rows.jsonl', 'wb'))
    for example in itertools.chain(head, examples):
      kept = tally.kept(example)
      if kept is None:
        continue
      prompts.append(kept.prompt)
      names.append(tally.prompt_number(example.row['prompt']))
      starts.append(texts.tell())
      texts.write(json.dumps(example.row).encode() + b'\n')
      for to, response in zip(responses, kept.responses):
        to.append(response)
      if paired:
        checks.check_votes(example.where, example.row, voted)
      for to in shares:
        to.append(example.row[checks.SHARE])
  tally.close()
  facts = {
    'responses': keys,
    'shares': bool(shares),
    'counts': tally.counts,
    'lengths': tally.quantiles(),
    'report': make_report(tally.counts, lengths, long_responses),
  }
  (folder / 'facts.json').write_text(json.dumps(facts, indent=2))


class _Kept(NamedTuple):
  """The ids of a row within the limits."""

  prompt: list[int]
  responses: list[list[int]]


class _Tally:
  """Which rows stay, and how many did what."""

  def __init__(
    self,
    lengths: tuple[int, int],
    long_responses: LongResponses,
    rules: checks.Rules,
  ):
    self._lengths, self._long, self._rules = lengths, long_responses, rules
    self.counts: Counter[str] = Counter(rows=0, responses=0, examples=0)
    self._histograms: dict[str, Counter[int]] = {
      'prompts': Counter(),
      'responses': Counter(),
    }
    self._numbers: dict[str, int] = {}
    self._prompts: set[bytes] = set()
    self._in_train: set[bytes] = set()
    # By key: responses with room for an end, and how many of them have one.
    self._ends: dict[str, Counter[str]] = {}
    self._short: dict[str, str] = {}  # the place of the first of these

  def prompt_number(self, text: str) -> int:
    """From 0; the same for the same text."""
    return self._numbers.setdefault(text, len(self._numbers))

  def quantiles(self) -> dict[str, dict[str, int]]:
    """Lengths before the cut; of responses with their end."""
    return {k: facts_lib.quantiles(h) for k, h in self._histograms.items()}

  def kept(self, example: Encoded) -> _Kept | None:
    """The ids of a row within the limits, or None to leave it out."""
    counts, rules = self.counts, self._rules
    counts['rows'] += 1
    where = example.where or f'Example {counts["rows"]}'
    fault = checks.fault(
      where, example.row, example.prompt, example.responses, rules
    )
    if fault is not None:
      rules.mistakes(fault.error)
      counts.update(['mistakes', fault.kind])
      return None
    self._measure(example, where)
    responses = self._cut([*example.responses.values()], where)
    if responses is None:
      return None
    if len(responses) == 2 and responses[0] == responses[1]:
      stays = rules.keeps_same(where)
      counts['same_kept' if stays else 'same_cut'] += 1
      if not stays:
        return None
    prompt = example.prompt[-self._lengths[0] :]
    if not self._prompt_stays(prompt, example.row):
      return None
    self._count(example, _Kept(prompt, responses))
    return _Kept(prompt, responses)

  def _measure(self, example: Encoded, where: str) -> None:
    """Lengths before the cut, and which responses with room have an end."""
    limit = self._lengths[1]
    self._histograms['prompts'][len(example.prompt)] += 1
    for key, ids in example.responses.items():
      self._histograms['responses'][len(ids)] += 1
      ended = ids[-1] == END
      self.counts['full_responses'] += len(ids) == limit and not ended
      if len(ids) < limit:
        own = self._ends.setdefault(key, Counter())
        own.update(['short'], ended=int(ended))
        self._short.setdefault(key, where)
        self.counts['no_end'] += not ended

  def _cut(self, responses: list[list[int]], where: str) -> Responses | None:
    """The responses of a row within the limit, or None to leave it out."""
    counts, limit = self.counts, self._lengths[1]
    too_long = [len(ids) > limit for ids in responses]
    try:
      kept = [
        self._long(ids, limit) if long else ids
        for ids, long in zip(responses, too_long)
      ]
    except InputError as error:
      raise InputError(f'{where}: {error}') from error
    counts['responses'] += len(responses)
    counts['long_responses'] += sum(too_long)
    if None in kept:
      counts['left_out'] += 1
      return None
    counts['cut_responses'] += sum(too_long)
    found = [ids for ids in kept if ids is not None]
    if not all(0 < len(ids) <= limit for ids in found):
      raise InputError(
        f'{where}: a rule for long responses must leave from 1 to {limit}'
        f' tokens; {qualified_name(self._long)} left'
        f' {" and ".join(str(len(ids)) for ids in found)}.'
      )
    return found

  def _prompt_stays(self, prompt: list[int], row: Row) -> bool:
    """Counts a prompt that stands in `train`, and asks what becomes of it."""
    padded = np.zeros(self._lengths[0], '<i4')
    padded[: len(prompt)] = prompt
    key = checks.prompt_key(padded)
    self._prompts.add(key)
    if key not in self._rules.of_train:
      return True
    self._in_train.add(key)
    stays = self._rules.repeats(row)
    self.counts['repeats_left_out'] += not stays
    return stays

  def _count(self, example: Encoded, kept: _Kept) -> None:
    counts, limit = self.counts, self._lengths[0]
    both = (example.prompt, *kept.responses)
    counts['examples'] += 1
    counts['cut_prompts'] += len(example.prompt) > limit
    counts['full_prompts'] += len(example.prompt) == limit
    counts['unknown'] += sum(x.count(UNKNOWN_ID) for x in both)
    counts['tokens'] += sum(map(len, both))
    counts['doubtful_scores'] += bool(example.row.get('doubtful_scores'))

  def close(self) -> None:
    """Counts what is known at the end.

    Raises:
      InputError: no example is left, or no response has an end.
    """
    counts = self.counts
    malformed = self._rules.before.get('malformed', 0)
    counts.update(rows=malformed, mistakes=malformed, malformed=malformed)
    counts['prompts'] = len(self._prompts)
    counts['prompts_in_train'] = len(self._in_train)
    merged = len(self._numbers) - len(self._prompts)
    counts['merged_prompts'] = max(0, merged)
    for key, own in self._ends.items():
      if not own['ended']:
        raise InputError(
          f'{self._short[key]}: neither this {key} response nor any other of'
          f' {own["short"]} with room for an end has one, id {END}, so that a'
          ' policy would not learn to stop: append_eos is missing. Add'
          ' seqio.preprocessors.append_eos, or append_eos_after_trim, at the'
          ' end of the preprocessors of the Task, and add_eos=True to its'
          ' features.'
        )
    if counts['rows'] and not counts['examples']:
      raise InputError(_none_left(counts))


def _none_left(counts: Counter[str]) -> str:
  reasons = {
    'mistakes': 'have a mistake',
    'left_out': 'have a long response',
    'same_cut': 'have two responses that are the same once cut',
    'repeats_left_out': 'have a prompt of train',
  }
  said = [f'{counts[k]} {words}' for k, words in reasons.items() if counts[k]]
  return (
    f'No example is left of {counts["rows"]} rows: {", ".join(said)}. Give'
    ' other rows, more room (PROMPT_LENGTH, RESPONSE_LENGTH), or rules that'
    ' leave out fewer.'
  )


def qualified_name(rule: LongResponses) -> str:
  """The name of a function in its module, or what a value looks like."""
  return getattr(rule, '__qualname__', repr(rule))


class _Column:
  """A .npy file that grows by rows; the last to be written is its header."""

  def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: str):
    self._file = open(path, 'wb')  # noqa: SIM115, it is closed at the exit
    self._row_shape, self._dtype = row_shape, dtype
    self.num_rows = 0
    self._write_header()

  def _write_header(self) -> None:
    # numpy leaves room in the header for any number of rows.
    self._file.seek(0)
    shape = (self.num_rows, *self._row_shape)
    header = {'descr': self._dtype, 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(self._file, header)

  def append(self, values: float | list[int]) -> None:
    row = np.full(self._row_shape, PADDING, self._dtype)
    row[slice(len(values)) if isinstance(values, list) else ()] = values
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
