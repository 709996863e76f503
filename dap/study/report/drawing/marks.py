"""Layer 7. Which marks of a figure can be drawn, and on what axes."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dap.study.reading.evidence import Axis, Figure, Series

_PADDING = 0.04  # of the span, on either side
_FEW = (1.0, 2.0, 5.0)
_RAISED = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')
_MANY = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)


class Span(NamedTuple):
  """Ends of an axis, and its marked values where it is logarithmic."""

  low: float
  high: float
  ticks: tuple[float, ...] = ()


def drawn(figure: Figure, series: Series) -> list[int]:
  """Marks that have a place on the axes: finite, and > 0 where logarithmic."""
  return [
    index
    for index, (x, y) in enumerate(zip(series.x, series.y))
    if _has_place(x, figure.x) and _has_place(y, figure.y)
  ]


def label(axis: Axis) -> str:
  """An axis' label, which says when its scale is logarithmic."""
  return f'{axis.label}, log₁₀ scale' if axis.log else axis.label


def level(figure: Figure, series: Series) -> float | None:
  """Where a level stands; None where it has no place."""
  if len(series.y) == 0 or not _has_place(series.y[0], figure.y):
    return None
  return float(series.y[0])


def has_dots(series: Series) -> bool:
  """Whether a line shows its marks: not where it is a curve, or a band."""
  return series.kind == 'line' and bool(len(series.low) or series.points)


def is_empty(figure: Figure) -> bool:
  """Whether a figure has nothing but levels to show."""
  return not any(
    drawn(figure, each) for each in figure.series if each.kind != 'level'
  )


def stretches(indices: Sequence[int]) -> list[list[int]]:
  """Marks that follow each other without a hole, such as a band's parts."""
  found: list[list[int]] = []
  for index in indices:
    if not found or found[-1][-1] + 1 != index:
      found.append([])
    found[-1].append(index)
  return found


def paths(figure: Figure, series: Series) -> list[list[int]]:
  """The marks of each run with several, in the order of its steps."""
  of_run: dict[tuple[str, int], list[int]] = {}
  if series.points:
    for index in drawn(figure, series):
      point = series.points[index]
      of_run.setdefault((point.run, point.seed), []).append(index)
  return [
    sorted(indices, key=lambda index: series.points[index].step)
    for _, indices in sorted(of_run.items())
    if len(indices) > 1
  ]


def spans(figure: Figure) -> tuple[Span, Span]:
  """The two axes: all marks with their intervals, and a little room."""
  return (
    _span(list(_xs(figure)), figure.x, from_zero=False),
    _span(list(_ys(figure)), figure.y, from_zero=True),
  )


def log_ticks(low: float, high: float) -> tuple[float, ...]:
  """Values to mark on a logarithmic axis, as many as are easily read."""
  decades = math.log10(high / low)
  digits = _MANY if decades <= 1 else _FEW if decades <= 3 else (1.0,)
  powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  ticks = (float(f'{d}e{power}') for power in powers for d in digits)
  return tuple(tick for tick in ticks if low <= tick <= high)


def tick_text(tick: float) -> str:
  """'0.5', '20' or, far from 1, '2×10¹¹'."""
  if 1e-3 <= tick < 1e4:
    return f'{tick:g}'
  digits, _, power = f'{tick:.0e}'.partition('e')
  raised = str(int(power)).translate(_RAISED)
  return f'10{raised}' if digits == '1' else f'{digits}×10{raised}'


def _span(values: list[float], axis: Axis, *, from_zero: bool) -> Span:
  if not values:
    return Span(1.0, 10.0, (1.0, 2.0, 5.0, 10.0)) if axis.log else Span(0, 1)
  if axis.log:
    low, high = _padded(math.log10(min(values)), math.log10(max(values)), 0.3)
    ends = 10**low, 10**high
    return Span(*ends, log_ticks(*ends))
  low, high = min(values), max(values)
  starts_at_zero = from_zero and 0 <= low < 0.5 * high
  low, high = _padded(low, high, 0.1 * abs(high) or 1.0)
  return Span(0.0 if starts_at_zero else low, high)


def _padded(low: float, high: float, least: float) -> tuple[float, float]:
  room = max(_PADDING * (high - low), 0.0 if high > low else least)
  return low - room, high + room


def _xs(figure: Figure) -> Iterator[float]:
  for each in figure.series:
    if each.kind != 'level':
      yield from (float(each.x[index]) for index in drawn(figure, each))


def _ys(figure: Figure) -> Iterator[float]:
  for each in figure.series:
    if each.kind == 'level':
      ends = (each.y[:1], each.low[:1], each.high[:1])
      heights = [float(values[0]) for values in ends if len(values)]
      yield from (h for h in heights if _has_place(h, figure.y))
      continue
    for index in drawn(figure, each):
      yield float(each.y[index])
      for ends in (each.low, each.high):
        if len(ends) and _has_place(ends[index], figure.y):
          yield float(ends[index])


def _has_place(value: float, axis: Axis) -> bool:
  return math.isfinite(value) and (not axis.log or value > 0)
