"""Layer 7. What a report is made of, before it is Markdown or HTML."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dap.study.reading.evidence import Figure, Predicate

# An object of a JSON file, whose readers know what its keys hold.
Json = Mapping[str, Any]


class Heading(NamedTuple):
  """Of a section, or of a part of one."""

  text: str
  level: int = 2


class Text(NamedTuple):
  """A paragraph; `strong` is a finding."""

  text: str
  strong: bool = False


class Bullets(NamedTuple):
  """A list of sentences."""

  items: Sequence[str]


class Table(NamedTuple):
  """A table; `folded` names it when it is too long to stand open."""

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  folded: str = ''


class Verdicts(NamedTuple):
  """Predicates, with the name of the question that each group answers."""

  groups: Sequence[tuple[str, Sequence[Predicate]]]


class Chart(NamedTuple):
  """A figure; `file` is its picture's path from the report, less `.png`."""

  figure: Figure
  file: str


class Sample(NamedTuple):
  """A prompt and what policies answer: (policy, response)."""

  prompt: str
  answers: Sequence[tuple[str, str]]


class Browser(NamedTuple):
  """All samples on the page; in Markdown a few."""

  few: Sequence[Sample]


class AllPoints(NamedTuple):
  """All checkpoints on the page; in Markdown their number and file."""

  count: int


class Configurations(NamedTuple):
  """Of each run, on the page; in Markdown their file."""


Block = (
  Heading
  | Text
  | Bullets
  | Table
  | Verdicts
  | Chart
  | Browser
  | AllPoints
  | Configurations
)
