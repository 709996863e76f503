"""Layer 1. Ranges of a loss's numbers, in the annotations of its arguments.

A number may be traced, so a loss does not check it; whoever builds an algorithm
does (`dap/algorithms/objectives.py`), from the annotation.
"""

import dataclasses
import math
from typing import Annotated

from jaxtyping import ScalarLike


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
      return f'{">=" if self.low_closed else ">"} {self.low:g}'
    left, right = '(['[self.low_closed], ')]'[self.high_closed]
    return f'in {left}{self.low:g}, {self.high:g}{right}'


Positive = Annotated[ScalarLike, Range(0)]
NonNegative = Annotated[ScalarLike, Range(0, low_closed=True)]
Probability = Annotated[
  ScalarLike, Range(0, 1, low_closed=True, high_closed=True)
]
