"""Layer 1. Ranges of numbers, in the annotations of arguments and fields.

A loss's number may be traced, so a loss does not check it; whoever builds an
algorithm does (`dap/algorithms/objectives.py`), from the annotation. What a
configuration gives is checked as it is read (`dap/commands/kinds.py`), and a
dataclass holds itself to its ranges with `check`.
"""

import dataclasses
import math
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from jaxtyping import ScalarLike

from dap import errors

if TYPE_CHECKING:
  from _typeshed import DataclassInstance
else:
  DataclassInstance = Any  # a class of type checkers alone


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers from `low` to `high`; an end belongs to it where it is closed.

  Attributes:
    low: the lower end.
    high: the upper end.
    low_closed: whether `low` itself is allowed.
    high_closed: whether `high` itself is allowed.
    why: what a number outside would mean, and what to choose instead.
  """

  low: float = -math.inf
  high: float = math.inf
  low_closed: bool = False
  high_closed: bool = False
  why: str = ''

  def __contains__(self, value: float) -> bool:
    above = value >= self.low if self.low_closed else value > self.low
    below = value <= self.high if self.high_closed else value < self.high
    return math.isfinite(value) and above and below

  @property
  def example(self) -> float:
    """A number inside, the same for all runs: what stands in for any number."""
    if math.isfinite(self.low) and math.isfinite(self.high):
      return 0.5 * (self.low + self.high)
    return 1.0 if 1.0 in self else self.low + 1

  def __str__(self) -> str:
    """Such as '> 0' or 'in [0, 0.5)'."""
    if math.isinf(self.high):
      return f'{">=" if self.low_closed else ">"} {self.low:.10g}'
    left, right = '(['[self.low_closed], ')]'[self.high_closed]
    return f'in {left}{self.low:.10g}, {self.high:.10g}{right}'


@dataclasses.dataclass(frozen=True)
class Distinct:
  """Rows of at least one item, none of which stands twice."""

  def __contains__(self, row: Sequence[object]) -> bool:
    return 0 < len(row) == len(set(row))

  def __str__(self) -> str:
    """In a message: after what each of them is."""
    return 'that differ, at least one'


Size = Annotated[int, Range(1, low_closed=True)]
Count = Annotated[int, Range(0, low_closed=True)]
Length = Annotated[
  int,
  Range(
    1,
    2**20,
    low_closed=True,
    high_closed=True,
    why='It is a number of tokens of one text; its arrays are as wide.',
  ),
]
SEEDS = Range(
  0,
  2**32 - 1,
  low_closed=True,
  high_closed=True,
  why='A seed is a whole number from 0 to 2**32 - 1.',
)
Seed = Annotated[int, SEEDS]
Seeds = Annotated[tuple[Seed, ...], Distinct()]
Dropout = Annotated[float, Range(0, 1, low_closed=True)]
Positive = Annotated[ScalarLike, Range(0)]
NonNegative = Annotated[ScalarLike, Range(0, low_closed=True)]
Probability = Annotated[
  ScalarLike, Range(0, 1, low_closed=True, high_closed=True)
]


def check(owner: DataclassInstance) -> None:
  """Holds the fields of a dataclass to the ranges of their annotations.

  Those that may be None are held to it where they are not.

  Raises:
    errors.InputError: a number lies outside; naming field, range and number.
  """
  for field in dataclasses.fields(owner):
    value = getattr(owner, field.name)
    kind: Any = field.type
    if value is not None and get_origin(kind) in (Union, UnionType):
      kind = next((k for k in get_args(kind) if k is not NoneType), None)
    for allowed in getattr(kind, '__metadata__', ()):
      if isinstance(allowed, Range) and value not in allowed:  # pyright: ignore
        raise errors.InputError(
          f'{type(owner).__name__} needs {field.name} {allowed}, got'
          f' {value!r}.{" " if allowed.why else ""}{allowed.why}'
        )
