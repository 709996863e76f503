"""Layer 3. Preference data as rows of one schema, read and checked.

A source is a value with `load(split)`, the rows of a split as dictionaries, and
`fingerprint()`, which names their content and never where it lies. Rows of
pairs have `prompt`, `chosen`, `rejected`, `source` and `id`
(`dap/data/schema.py`); rows of targets, for supervised training, have `prompt`
and `response`.

`Formatted` is a reader, where raw rows lie, and a format, what they mean.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from dap.data.readers import Reader
from dap.data.schema import (
  SPLITS,
  PartlyMalformed,
  Placed,
  Row,
  unique_id,
)
from dap.errors import InputError
from dap.stages import code, values

_log = logging.getLogger(__name__)
_LEFT_OUT = '%s: left out of %s for their mistakes: %d in all.'

# Takes a raw row and its place, gives its pairs (none where it has none), or
# raises an InputError that names the place and the cure.
Format = Callable[[Row, str], list[Row]]
# Takes raw rows as they are read, gives what the format sees as one.
Group = Callable[[Iterable[Placed]], Iterable[Placed]]
# Takes a raw row, its place and a split: whether it belongs to the split,
# where one file holds several; may raise as a format does.
Keep = Callable[[Row, str, str], bool]
# What to do about a row that its format refuses: raise the error or not.
Mistakes = Callable[[InputError], None]


@runtime_checkable
class Source(Protocol):
  """What `arrays.prepare` needs of a source."""

  def load(self, split: str) -> list[Row]: ...

  def fingerprint(self) -> str: ...


@runtime_checkable
class Truthful(Source, Protocol):
  """A source that knows how good any response is: a simulated one."""

  def utilities(
    self,
    posts: Sequence[str],
    responses: Sequence[str],
    finished: Sequence[bool],
  ) -> Float[np.ndarray, ' batch']: ...


@runtime_checkable
class Peopled(Source, Protocol):
  """A source whose people can be asked about any two responses.

  `seed` is of all that is random in what they say.
  """

  @property
  def seed(self) -> int: ...

  def votes(
    self,
    posts: Sequence[str],
    responses: tuple[Sequence[str], Sequence[str]],
    finished: tuple[Sequence[bool], Sequence[bool]],
  ) -> Float[np.ndarray, ' batch']:
    """The share of their votes for the first response of each two."""
    ...


def each_row(rows: Iterable[Placed]) -> Iterable[Placed]:
  """Every raw row stands for itself."""
  return rows


def every_row(row: Row, where: str, split: str) -> bool:
  """A file holds one split."""
  del row, where, split
  return True


def refuse(error: InputError) -> None:
  """Stops at the first row with a mistake."""
  raise error


def leave_out(error: InputError) -> None:
  """Goes on without the row, and warns."""
  _log.warning('Left out: %s', error)


@dataclass(frozen=True)
class Formatted:
  """The pairs of raw rows.

  Attributes:
    reader: where the raw rows lie.
    format: of `dap/data/formats`: what they mean.
    group: which raw rows belong together; `formats.by_prompt` for a set with a
      row for each response.
    keep: which raw rows belong to a split; `formats.by_own_split` for a file
      that holds several.
    mistakes: `refuse` or `leave_out`, for rows with a mistake, in their texts
      or in their ids (`dap/data/checks.py`); whoever leaves them out is warned
      of each, and of how many they were. Of a row with several responses only
      those with a mistake go. What cannot be read at all, such as a line that
      is no JSON, always stops.
    held_out: which raw rows of `train` are `test`, as `formats.twentieth` has
      it, when the reader has nothing for `test`; None where it must have.
  """

  reader: Reader
  format: Format
  group: Group = each_row
  keep: Keep = every_row
  mistakes: Mistakes = refuse
  held_out: Keep | None = None

  @property
  def name(self) -> str:
    """What the data is called in reports: its format's name."""
    return _name(self.format)

  def load(self, split: str) -> list[Row]:
    """The rows of a split, in the order of the raw ones."""
    return [row for _, row in self.placed(split)]

  def placed(
    self, split: str, counts: Counter[str] | None = None
  ) -> Iterator[Placed]:
    """The same, each with the place of the raw row that it is from.

    Mistakes that are left out are added to `counts`, as `malformed`.
    """
    if split == 'stress':
      return  # only the embedded corpus has such pairs
    if split not in SPLITS:
      raise InputError(f'A split is one of {", ".join(SPLITS)}; got {split!r}.')
    seen: Counter[str] = Counter()
    for where, row in self._rows(split, counts):
      name = unique_id(row['id'], seen)
      yield where, row if name == row['id'] else row | {'id': name}
    if not seen:
      raise InputError(
        f'{self.reader}: no examples for the {split} split, which needs at'
        f' least one: the rows have no pairs as {self.name} reads them. Give'
        ' rows of its format, or leave out fewer.'
      )

  def _rows(self, split: str, counts: Counter[str] | None) -> Iterator[Placed]:
    left_out: list[str] = []

    def mistake(error: InputError) -> None:
      self.mistakes(error)
      left_out.append(split)
      if counts is not None:
        counts['malformed'] += 1

    for where, row in self.group(self._kept(split, mistake)):
      try:
        found = self.format(row, where)
      except PartlyMalformed as error:
        found = error.pairs
        for each in error.errors:
          mistake(each)
      except InputError as error:
        mistake(error)
        continue
      yield from ((where, made) for made in found)
    if left_out:
      _log.warning(_LEFT_OUT, self.reader, split, len(left_out))

  def _kept(self, split: str, mistake: Mistakes) -> Iterator[Placed]:
    own, keeps = split, [self.keep]
    if self.held_out is not None and self.reader.test is None:
      own, keeps = 'train', [self.keep, self.held_out]
    for where, row in self.reader.read(own):
      try:
        kept = all(keep(row, where, split) for keep in keeps)
      except InputError as error:
        mistake(error)
        continue
      if kept:
        yield where, row

  def fingerprint(self) -> str:
    """Names what the reader reads and how it is understood."""
    choices = self.format, self.group, self.keep, self.mistakes, self.held_out
    digest = values.digest((self.reader.fingerprint(), choices))
    return f'{self.name}-{digest}'


@dataclass(frozen=True)
class BothResponses:
  """Targets from pairs: chosen and rejected alike, to imitate a writer."""

  pairs: Source

  def load(self, split: str) -> list[Row]:
    return [row for _, row in self.placed(split)]

  def placed(
    self, split: str, counts: Counter[str] | None = None
  ) -> Iterator[Placed]:
    """The rows with the places of their pairs; `counts` as of `Formatted`."""
    return _targets(self.pairs, split, ('chosen', 'rejected'), counts)

  @property
  def mistakes(self) -> Mistakes:
    """As of the pairs."""
    return getattr(self.pairs, 'mistakes', refuse)

  def fingerprint(self) -> str:
    return f'both-{self.pairs.fingerprint()}'


@dataclass(frozen=True)
class ChosenResponses:
  """Targets from pairs: the chosen response of each."""

  pairs: Source

  def load(self, split: str) -> list[Row]:
    return [row for _, row in self.placed(split)]

  def placed(
    self, split: str, counts: Counter[str] | None = None
  ) -> Iterator[Placed]:
    """The rows with the places of their pairs; `counts` as of `Formatted`."""
    return _targets(self.pairs, split, ('chosen',), counts)

  @property
  def mistakes(self) -> Mistakes:
    """As of the pairs."""
    return getattr(self.pairs, 'mistakes', refuse)

  def fingerprint(self) -> str:
    return f'chosen-{self.pairs.fingerprint()}'


def _targets(
  pairs: Source,
  split: str,
  sides: tuple[str, ...],
  counts: Counter[str] | None,
) -> Iterator[Placed]:
  for where, row in placed(pairs, split, counts):
    for side in sides:
      yield where, {'prompt': row['prompt'], 'response': row[side]}


def placed(
  source: Source, split: str, counts: Counter[str] | None = None
) -> Iterator[Placed]:
  """The rows of a source with their places, its own where it knows them.

  Such a source adds to `counts` the mistakes that it leaves out, `malformed`.
  """
  own = getattr(source, 'placed', None)
  if own is not None:
    return own(split, counts)
  name = type(source).__name__
  rows = enumerate(source.load(split), start=1)
  return ((f'{name}, {split} row {number}', row) for number, row in rows)


def _name(format: Format) -> str:
  """The name of a function, also of one that was given arguments already."""
  if isinstance(format, partial):
    return _name(format.func)
  function = getattr(format, 'function', None)
  if function is not None:  # a function that configuration gave arguments
    return _name(function)
  named = format if hasattr(format, '__qualname__') else type(format)
  return code.name(named).rpartition('.')[2]
