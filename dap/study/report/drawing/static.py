"""Layer 7. Figures as PNG and SVG, by matplotlib.

Equal figures give equal bytes: no dates, no random names inside the SVG.
"""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dap import files
from dap.study.reading.evidence import Axis, Figure, Series
from dap.study.report.drawing import legend, looks, marks
from dap.study.report.drawing.legend import Drawn
from dap.study.report.drawing.looks import FAINT, INK, Style
from dap.study.report.drawing.marks import Span

_SIZE = (8.2, 4.6)  # inches
_TITLE_WIDTH = 92  # letters


def write(folder: str | Path, name: str, figure: Figure, style: Style) -> None:
  """Writes NAME.png and NAME.svg."""
  drawing = draw(figure, style)
  with files.atomic_file(Path(folder) / f'{name}.png') as file:
    file.write(png_bytes(drawing))
  files.write_atomically(Path(folder) / f'{name}.svg', svg_text(drawing))


def draw(figure: Figure, style: Style) -> Drawn:
  """The figure: a matplotlib Figure on a canvas of its own; $ is a letter.

  Marks that are checkpoints have the shape of their seed and the shade of
  the number of the loss that differs, and thin lines join those of a run in
  the order of its steps.
  """
  import matplotlib

  with matplotlib.rc_context({'text.parse_math': False}):
    return _drawn(figure, style)


def _drawn(figure: Figure, style: Style) -> Drawn:
  from matplotlib.backends import backend_agg
  from matplotlib.figure import Figure as Drawing

  drawing = Drawing(figsize=_SIZE, layout='constrained')
  backend_agg.FigureCanvasAgg(drawing)
  axes = drawing.add_subplot()
  shares, variants = looks.shares(figure), looks.variants(figure.series)
  for place, series in enumerate(figure.series):
    colour = style.colours[series.role].light
    if series.kind == 'points':
      _points(axes, figure, series, style, shares, variants[place] % 2 == 0)
    elif series.kind == 'level':
      _level(axes, figure, series, colour, variants[place])
    else:
      _line(axes, figure, series, colour, variants[place])
  _dress(axes, figure)
  legend.add(drawing, figure, style, shares, variants)
  return drawing


def png_bytes(drawing: Drawn, dpi: int = 200) -> bytes:
  """The drawing on white."""
  file = io.BytesIO()
  drawing.savefig(
    file, format='png', dpi=dpi, facecolor='white', metadata={'Software': None}
  )
  return file.getvalue()


def svg_text(drawing: Drawn) -> str:
  """The drawing on white, its letters as paths: it looks alike anywhere."""
  import matplotlib

  file = io.StringIO()
  # matplotlib's stub takes keys of a type of its own.
  settings: dict[Any, str] = {'svg.hashsalt': 'dap', 'svg.fonttype': 'path'}
  with matplotlib.rc_context(settings):
    drawing.savefig(
      file, format='svg', facecolor='white', metadata={'Date': None}
    )
  return file.getvalue()


def _points(
  axes: Drawn,
  figure: Figure,
  series: Series,
  style: Style,
  shares: looks.Shares,
  filled: bool,
) -> None:
  colour = style.colours[series.role].light
  shown = marks.drawn(figure, series)
  joined = [
    index for path in marks.paths(figure, series) for index in [*path, -1]
  ]
  axes.plot(
    _taken(series.x, joined), _taken(series.y, joined),
    color=colour, alpha=0.18, linewidth=0.7, zorder=2,
  )  # fmt: skip
  _intervals(axes, series, shown, colour)
  by_shape: dict[str, list[int]] = {}
  for index in shown:
    marker = 'o'
    if series.points:
      marker = looks.shape(style, series.points[index].seed).paper
    by_shape.setdefault(marker, []).append(index)
  full = looks.fullness(series, shares)
  for marker, indices in by_shape.items():
    faces = [looks.mixed(colour, full[index]) for index in indices]
    axes.scatter(
      _taken(series.x, indices), _taken(series.y, indices), s=15,
      marker=marker, facecolors=faces if filled else 'none', edgecolors=colour,
      linewidths=0.4 if filled else 0.8, zorder=3,
    )  # fmt: skip


def _line(
  axes: Drawn, figure: Figure, series: Series, colour: str, variant: int
) -> None:
  is_band = series.kind == 'band'
  for part in marks.stretches(marks.drawn(figure, series)):
    x, y = _taken(series.x, part), _taken(series.y, part)
    if is_band and len(series.low):
      low, high = _taken(series.low, part), _taken(series.high, part)
      axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0, zorder=1)
    elif len(series.low):
      _intervals(axes, series, part, colour)
    axes.plot(
      x,
      y,
      color=colour,
      linewidth=2.2 if is_band else 1.5,
      linestyle=legend.dash(variant),
      marker='o' if len(part) == 1 or marks.has_dots(series) else '',
      markersize=4,
      zorder=4,
    )


def _intervals(
  axes: Drawn, series: Series, indices: Sequence[int], colour: str
) -> None:
  if not len(series.low):
    return
  y = _taken(series.y, indices)
  below = np.fmax(y - _taken(series.low, indices), 0)
  above = np.fmax(_taken(series.high, indices) - y, 0)
  axes.errorbar(
    _taken(series.x, indices), y, yerr=[below, above], fmt='none',
    ecolor=colour, elinewidth=0.9, alpha=0.6, capsize=2, zorder=2,
  )  # fmt: skip


def _level(
  axes: Drawn, figure: Figure, series: Series, colour: str, variant: int
) -> None:
  height = marks.level(figure, series)
  if height is None:
    return
  if len(series.low):
    low, high = float(series.low[0]), float(series.high[0])
    axes.axhspan(low, high, color=colour, alpha=0.12, lw=0, zorder=1)
  axes.axhline(
    height, color=colour, lw=1.1, ls=legend.level_dash(variant), zorder=1
  )


def _taken(values: Sequence[float], indices: Sequence[int]) -> np.ndarray:
  """The values at indices; a hole where an index is -1."""
  padded = np.append(np.asarray(values, dtype=np.float64), np.nan)
  return padded[np.asarray(indices, dtype=np.int64)]


def _dress(axes: Drawn, figure: Figure) -> None:
  spans = marks.spans(figure)
  for side, axis, span in zip(
    (axes.xaxis, axes.yaxis), (figure.x, figure.y), spans
  ):
    _scale(axes, side, axis, span)
    side.label.set_color(INK.light)
  axes.set_title(
    textwrap.fill(figure.title, _TITLE_WIDTH), loc='left', fontsize=10.5,
    color=INK.light,
  )  # fmt: skip
  axes.grid(True, color=FAINT.light, alpha=0.25, linewidth=0.6)
  axes.set_axisbelow(True)
  for side in ('top', 'right'):
    axes.spines[side].set_visible(False)
  for side in ('left', 'bottom'):
    axes.spines[side].set_color(INK.light)
  axes.tick_params(colors=INK.light, labelsize=9, which='both')


def _scale(axes: Drawn, side: Drawn, axis: Axis, span: Span) -> None:
  from matplotlib import ticker

  name = side.axis_name
  if axis.log:
    getattr(axes, f'set_{name}scale')('log', base=10)
    side.set_major_locator(ticker.FixedLocator(list(span.ticks)))
    side.set_major_formatter(
      ticker.FixedFormatter([marks.tick_text(tick) for tick in span.ticks])
    )
    side.set_minor_formatter(ticker.NullFormatter())
  getattr(axes, f'set_{name}lim')(span.low, span.high)
  side.set_label_text(marks.label(axis))
