"""Layer 7. Numbers as text, alike in all tables."""

import math
from collections.abc import Mapping

from dap.study.reading.evidence import Predicate

NONE = '–'


def number(value: float | None, digits: int = 3) -> str:
  """'0.081', '−0.012' with a true minus, '3.1e−07'; a dash for no number."""
  if value is None or not math.isfinite(value):
    return NONE
  tiny = 0 < abs(value) < 10**-digits
  text = f'{value:.1e}' if tiny else f'{value:.{digits}f}'
  if float(text) == 0:
    text = text.removeprefix('-')
  return text.replace('-', '−')


def interval(low: float | None, high: float | None) -> str:
  """'[0.050, 0.112]'; nothing where there is none."""
  if low is None or high is None:
    return ''
  return f'[{number(low)}, {number(high)}]'


def proportion(value: object) -> str:
  """'0.880 [0.860, 0.900]' of {value, low, high}, or of a number."""
  if not isinstance(value, Mapping):
    return number(value) if isinstance(value, int | float) else str(value)
  middle = value.get('value', value.get('accuracy'))
  ends = interval(value.get('low'), value.get('high'))
  return f'{number(middle)} {ends}'.rstrip()


def estimate(predicate: Predicate) -> str:
  """'0.081 [0.050, 0.112] win rate'."""
  if predicate.estimate is None:
    return NONE
  ends = interval(predicate.low, predicate.high)
  parts = number(predicate.estimate), ends, predicate.unit
  return ' '.join(part for part in parts if part)


def by_seed(predicate: Predicate) -> str:
  """'seed 0: 0.070, seed 1: 0.080'."""
  return ', '.join(
    f'seed {seed}: {number(value)}'
    for seed, value in sorted(predicate.by_seed.items())
  )
