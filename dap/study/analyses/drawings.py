"""Layer 7. Series and axes that the figures of several analyses share."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dap.estimators import Effect
from dap.study.analyses import comparisons
from dap.study.reading import frontiers
from dap.study.reading.evidence import Axis, Evidence, Figure, Series, Setting
from dap.study.reading.runs import Point

SFT, GOLDEN = 'sft', 'golden_policy'
KL_AXIS = Axis('KL(policy ‖ SFT), nats per response', log=True)
WIN_AXIS = Axis('win rate against the golden policy')
HOW = (
  'A dot is a checkpoint. A thick line is the best checkpoint near each KL,'
  ' chosen on one half of the prompts and judged on the other, both ways; mean'
  ' over seeds with its 95 % interval.'
)

Value = Callable[[Point], float | None]  # of a checkpoint


class Drawn(NamedTuple):
  """An arm in a figure: its role names its colour."""

  arm: str
  role: str
  label: str
  setting: Setting | None = None


def kl(point: Point) -> float:
  """Nats per response; 0 has no place on a logarithmic axis."""
  return point.kl_nats


def win_rate(point: Point) -> float:
  """Over the golden policy, by the golden model."""
  return point.win_rate


def dots(
  evidence: Evidence, drawn: Drawn, x: Value = kl, y: Value = win_rate
) -> Series:
  """Checkpoints that have both coordinates, those at an x of 0 left out."""
  shown = [
    point
    for point in evidence.of(drawn.arm, drawn.setting)
    if (x(point) or 0.0) > 0 and y(point) is not None
  ]
  xs, ys = ([_float(of(point)) for point in shown] for of in (x, y))
  return Series(drawn.label, drawn.role, xs, ys, points=shown)


def band(
  evidence: Evidence,
  drawn: Drawn,
  x: Value = kl,
  windows: frontiers.Windows = frontiers.around,
  read: frontiers.Read = frontiers.wins,
) -> Series:
  """The best win rate of an arm over x, with its interval."""
  found = frontiers.frontiers(evidence, drawn.arm, drawn.setting, read)
  best = frontiers.envelope_band(found, comparisons.rng(), x, windows)
  columns = (list(map(float, column)) for column in best)
  return Series(f'{drawn.label}, best', drawn.role, *columns, kind='band')


def level(
  evidence: Evidence, arm: str, role: str, label: str, y: Value = win_rate
) -> Series:
  """The mean of an arm's points as a level; no marks where it has none."""
  values = [_float(y(p)) for p in evidence.of(arm) if y(p) is not None]
  height = [float(np.mean(values))] if values else []
  return Series(label, role, [], height, kind='level')


def frontier(
  evidence: Evidence,
  arms: Sequence[Drawn],
  *,
  name: str,
  title: str,
  caption: str = '',
  y: Value = win_rate,
  y_axis: Axis = WIN_AXIS,
  read: frontiers.Read | None = None,
  behind: Sequence[Drawn] = (),
  more: Sequence[Series] = (),
) -> Figure:
  """Checkpoints of arms over KL; with their best where y is a win rate.

  Args:
    evidence: a study.
    arms: drawn as dots, and bands.
    name: see `Figure`.
    title: ...
    caption: what this figure shows; how to read it is added.
    y: the vertical coordinate.
    y_axis: its axis.
    read: what `y` is the mean of, by prompt, where that is a win rate other
      than the golden model's.
    behind: arms drawn as bands alone.
    more: drawn last.
  """
  if y is win_rate:
    read = frontiers.wins
  series = [level(evidence, SFT, 'sft', 'SFT policy', y)]
  series += [dots(evidence, each, y=y) for each in arms]
  series.append(dots(evidence, Drawn(GOLDEN, 'golden', 'golden policy'), y=y))
  if read is not None:
    series += [band(evidence, each, read=read) for each in (*arms, *behind)]
  how = 'A dot is a checkpoint.' if read is None else HOW
  return Figure(
    name,
    title,
    f'{caption} {how}'.strip(),
    KL_AXIS,
    y_axis,
    kept([*series, *more]),
  )


def lines(
  label: str, role: str, x: Sequence[float], effects: Iterable[Effect | None]
) -> Series:
  """A line of effects with 95 % intervals; None leaves a hole."""
  rows = [
    (np.nan,) * 3 if each is None else (each.mean, *each.interval)
    for each in effects
  ]
  y, low, high = (list(map(float, column)) for column in zip(*rows))
  return Series(label, role, list(map(float, x)), y, low, high, kind='line')


def flat(
  label: str,
  role: str,
  height: float,
  low: float = np.nan,
  high: float = np.nan,
) -> Series:
  """A level with its interval, where it has one."""
  ends = ([], []) if np.isnan(low) else ([low], [high])
  return Series(label, role, [], [height], *ends, kind='level')


def kept(series: Iterable[Series]) -> tuple[Series, ...]:
  """Those that have marks."""
  return tuple(each for each in series if np.isfinite(each.y).any())


def with_marks(figures: Iterable[Figure]) -> list[Figure]:
  """Figures that show more than levels."""
  return [
    figure
    for figure in figures
    if any(
      each.kind != 'level' and np.isfinite(each.y).any()
      for each in figure.series
    )
  ]


def _float(value: float | None) -> float:
  return np.nan if value is None else float(value)
