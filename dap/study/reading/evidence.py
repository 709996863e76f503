"""Layer 7. What analyses read of a finished study, and what they say of it.

An analysis is a value that knows the names of arms and measures. It maps
`Evidence` to predicates and figures; it starts nothing and writes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from dap.estimators import verdicts
from dap.estimators.verdicts import CONTRADICTED as CONTRADICTED
from dap.estimators.verdicts import NOT_REACHED as NOT_REACHED
from dap.estimators.verdicts import OTHER_WAY as OTHER_WAY
from dap.estimators.verdicts import REFUSED as REFUSED
from dap.estimators.verdicts import REPRODUCED as REPRODUCED
from dap.estimators.verdicts import SAME_WAY as SAME_WAY
from dap.estimators.verdicts import UNDECIDED as UNDECIDED
from dap.study.reading import settings
from dap.study.reading.runs import Point
from dap.study.reading.settings import Setting as Setting


class Predicate(NamedTuple):
  """A claim of the paper, or of ours, and what the study says of it.

  Attributes:
    name: of spec 4.4, such as 'P1d'; ours end in a letter of their own.
    claim: in a sentence, in words of the study.
    place: in the paper, such as 'Fig. 1'; 'ours' where it has none.
    verdict: one of the words of `estimators.verdicts`.
    estimate: of the quantity the claim is about; None where none was reached.
    low: end of its 95 % interval.
    high: the other end.
    unit: of the estimate, such as 'win rate' or 'nats'.
    by_seed: the estimate of each seed.
    conditional: the interval holds for these seeds alone, fewer than four.
    primary: the one endpoint that the configuration named beforehand.
    detail: what else a reader must know, such as why it was not reached.
    of_truth: rests on no word of the golden model.
  """

  name: str
  claim: str
  place: str
  verdict: str
  estimate: float | None = None
  low: float | None = None
  high: float | None = None
  unit: str = 'win rate'
  by_seed: Mapping[int, float] = {}  # noqa: RUF012
  conditional: bool = False
  primary: bool = False
  detail: str = ''
  of_truth: bool = False


def of_few_seeds(predicate: Predicate) -> Predicate:
  """In weaker words where its interval holds for these seeds alone."""
  if not predicate.conditional:
    return predicate
  by_seed = list(predicate.by_seed.values())
  weaker = verdicts.of_few_seeds(predicate.verdict, by_seed)
  return predicate._replace(verdict=weaker)


class Series(NamedTuple):
  """A set of marks of one meaning.

  Attributes:
    label: in the legend.
    role: names the colour, equal in all figures: an arm's side ('online',
      'offline', 'shuffled', 'sft', 'golden', 'proxy'), 'limit', or any other
      word.
    x: of each mark.
    y: of each mark; nan leaves a hole in a line.
    low: ends of intervals or of a band; empty where there are none.
    high: the other ends.
    kind: 'points', 'line' (joined marks), 'band' (a thick line with a shaded
      interval) or 'level' (one horizontal line at y[0]).
    points: the checkpoint of each mark, for its hover and samples; empty where
      marks are not checkpoints.
  """

  label: str
  role: str
  x: Sequence[float]
  y: Sequence[float]
  low: Sequence[float] = ()
  high: Sequence[float] = ()
  kind: str = 'points'
  points: Sequence[Point] = ()


class Axis(NamedTuple):
  """A label with its unit, and whether the scale is logarithmic, base 10."""

  label: str
  log: bool = False


class Figure(NamedTuple):
  """A plot, before anyone draws it.

  Attributes:
    name: of its files: lower case, with underscores.
    title: above it.
    caption: below it: what is shown, so that it can be read alone.
    x: the horizontal axis.
    y: the vertical axis.
    series: drawn in this order.
  """

  name: str
  title: str
  caption: str
  x: Axis
  y: Axis
  series: Sequence[Series]


class Table(NamedTuple):
  """Rows of words and numbers, before anyone sets them.

  Attributes:
    title: above it.
    header: of the columns.
    rows: as long as the header.
  """

  title: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Evidence:
  """A finished study.

  Attributes:
    points: all of runs.jsonl; `algorithm` is the name of the arm.
    folder: that the points' arrays are relative to.
    measures: arrays beside the points: by measure, by seed, by array's name.
  """

  points: Sequence[Point]
  folder: Path
  measures: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]]

  @property
  def seeds(self) -> list[int]:
    """All seeds, ascending."""
    return sorted({point.seed for point in self.points})

  def of(self, arm: str, setting: Setting | None = None) -> list[Point]:
    """Checkpoints of an arm, or of its run with a setting.

    Where None in the setting fits several runs, the one that is called so.
    """
    own = [point for point in self.points if point.algorithm == arm]
    if setting is None:
      return own
    found = [p for p in own if settings.fits(setting, p.lr, p.scalars)]
    named = [
      point
      for point in found
      if point.run == settings.run_name(arm, setting, list(point.scalars))
    ]
    return named or found


@runtime_checkable
class Analysis(Protocol):
  """A frozen dataclass of names and plain numbers, kept in study.json."""

  @property
  def arms(self) -> tuple[str, ...]:
    """Names of the arms that must have been run."""
    ...

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """Verdicts; also of claims that these data cannot reach."""
    ...

  def figures(self, evidence: Evidence) -> list[Figure]:
    """In the order of the report."""
    ...


@runtime_checkable
class Cautious(Protocol):
  """An analysis that may say what a reader of the others must know."""

  def cautions(self, evidence: Evidence) -> list[str]:
    """Sentences; none where there is nothing to say."""
    ...


@runtime_checkable
class Tabled(Protocol):
  """An analysis that has tables beside its figures."""

  def tables(self, evidence: Evidence) -> list[Table]:
    """In the order of the report; none where there is nothing to show."""
    ...
