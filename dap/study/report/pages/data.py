"""Layer 7. The numbers and texts of the page, as plain JSON."""

import math
from collections.abc import Mapping, Sequence

from dap.study.reading.evidence import Axis, Figure, Series
from dap.study.reading.runs import Point
from dap.study.report.drawing import looks, marks
from dap.study.report.drawing.looks import Style
from dap.study.report.drawing.marks import Span
from dap.study.report.pages.blocks import Json

_DIGITS = 5  # significant, of the numbers of plots and tables
_LEFT_OUT = ('per_prompt', 'scalars')
SCALAR = 'scalars.{}'  # the column of a number of the loss

Places = Mapping[tuple[str, int, int], int]  # (run, seed, step) to a row


def of_report(
  points: Sequence[Point],
  figures: Sequence[Figure],
  style: Style,
  samples: Json,
  study: Json,
  arms: Sequence[str],
) -> dict[str, object]:
  """All that the scripts of the page read.

  Args:
    points: of runs.jsonl.
    figures: of the report.
    style: of the figures.
    samples: of samples.json; empty where there is none.
    study: of study.json; empty where there is none.
    arms: names of arms; the first of a side stands in the samples' columns.
  """
  columns = [name for name in Point._fields if name not in _LEFT_OUT]
  scalars = list(dict.fromkeys(name for p in points for name in p.scalars))
  places = {
    (point.run, point.seed, point.step): row for row, point in enumerate(points)
  }
  seeds = sorted({point.seed for point in points})
  return {
    'points': {
      'columns': [*columns, *map(SCALAR.format, scalars)],
      'rows': [
        [_value(getattr(p, name)) for name in columns]
        + [_number(p.scalars.get(name)) for name in scalars]
        for p in points
      ],
      'scalars': scalars,
    },
    'seeds': seeds,
    'shapes': {str(s): looks.shape(style, s).screen for s in style.seeds},
    'figures': {
      figure.name: _figure(figure, style, places) for figure in figures
    },
    'samples': _samples(samples, points),
    'columns': {
      str(seed): shown(points, seed, arms, kl_limit(study)) for seed in seeds
    },
    'runs': {**_whole(study), **(study.get('runs') or {})},
  }


def shown(
  points: Sequence[Point], seed: int, arms: Sequence[str], largest_kl: float
) -> dict[str, int]:
  """Rows of the SFT policy and of the best checkpoint of either side.

  Best up to a KL, beyond which the judge itself is over-optimised; the nearest
  where an arm has none so near. The arms come in order of preference.
  """
  own = [row for row, point in enumerate(points) if point.seed == seed]
  ordered = [*arms, *sorted({points[row].algorithm for row in own})]
  found = {}
  for side in ('sft', 'online', 'offline'):
    of_side = (arm for arm in ordered if arm.startswith(side))
    arm = 'sft' if side == 'sft' else next(of_side, side)
    rows = [row for row in own if points[row].algorithm == arm]
    near = [row for row in rows if points[row].kl_nats <= largest_kl]
    if near:
      found[side] = max(near, key=lambda row: points[row].win_rate)
    elif rows:
      found[side] = min(rows, key=lambda row: points[row].kl_nats)
  return found


def answer(samples: Json, point: Point, index: int) -> str | None:
  """What a checkpoint answers to a prompt; None where it is not kept."""
  found = samples['points'].get(f'{point.run}/{point.seed}/{point.step}')
  return found['texts'][index] if found else None


def kl_limit(study: Json) -> float:
  """Nats up to which a study compares its arms; infinite where it is silent."""
  for place in (study, *(study.get('analyses') or ())):
    if isinstance(place, Mapping) and place.get('kl_range'):
      return float(place['kl_range'][1])
  return math.inf


def _whole(study: Json) -> dict[str, object]:
  config = study.get('config')
  return {'the whole study': config} if config else {}


def _figure(figure: Figure, style: Style, places: Places) -> dict[str, object]:
  shares = looks.shares(figure)
  variants = looks.variants(figure.series)
  x, y = marks.spans(figure)
  return {
    'x': _axis(figure.x, x),
    'y': _axis(figure.y, y),
    'series': [
      _series(figure, series, style, places, shares)
      | {'variant': variants[place]}
      for place, series in enumerate(figure.series)
    ],
    'shades': [
      [name, [[x, share] for x, share in of_value.items()]]
      for name, of_value in shares.items()
    ],
  }


def _axis(axis: Axis, span: Span) -> dict[str, object]:
  def placed(value: float) -> float:
    return math.log10(value) if axis.log else value

  return {
    'label': marks.label(axis),
    'log': axis.log,
    'range': [_number(placed(span.low)), _number(placed(span.high))],
    'ticks': [[tick, marks.tick_text(tick)] for tick in span.ticks],
  }


def _series(
  figure: Figure,
  series: Series,
  style: Style,
  places: Places,
  shares: looks.Shares,
) -> dict[str, object]:
  """A series; those of points hold no marks but what is drawn."""
  made: dict[str, object] = {
    'label': series.label,
    'kind': series.kind,
    'colour': list(style.colours).index(series.role),
    'dots': marks.has_dots(series),
  }
  if series.kind == 'level':
    ends = {'low': series.low, 'high': series.high}
    made |= {name: [_number(v[0])] for name, v in ends.items() if len(v)}
    return made | {'y': [marks.level(figure, series)]}
  drawn = marks.drawn(figure, series)
  kept = drawn if series.kind == 'points' else range(len(series.x))
  has_place = set(drawn)
  made['x'] = [_number(series.x[index]) for index in kept]
  made['y'] = [
    _number(series.y[index]) if index in has_place else None for index in kept
  ]
  for name, ends in (('low', series.low), ('high', series.high)):
    if len(ends):
      made[name] = [_number(ends[index]) for index in kept]
  if series.points:
    own = [series.points[index] for index in kept]
    made['points'] = [places.get((p.run, p.seed, p.step)) for p in own]
    position = {index: place for place, index in enumerate(kept)}
    made['paths'] = [
      [position[index] for index in path]
      for path in marks.paths(figure, series)
    ]
    full = looks.fullness(series, shares)
    made['shares'] = [full[index] for index in kept]
  return made


def _samples(
  samples: Json, points: Sequence[Point]
) -> dict[str, object] | None:
  """By seed the prompts and stored answers, by row of points the rest."""
  if not samples:
    return None
  of_point = samples.get('points', {})
  found = [
    of_point.get(f'{point.run}/{point.seed}/{point.step}') for point in points
  ]
  return {
    'seeds': samples.get('seeds', {}),
    'points': [
      each
      and {
        'texts': each['texts'],
        'prefers': [_number(p) for p in each['prefers']],
      }
      for each in found
    ],
  }


def _value(value: object) -> object:
  return _number(value) if isinstance(value, float) else value


def _number(value: float | None) -> float | int | None:
  """Rounded; None for what is not finite, whole numbers without a point."""
  if value is None or not math.isfinite(value):
    return None
  rounded = float(f'{float(value):.{_DIGITS}g}')
  return int(rounded) if rounded.is_integer() else rounded
