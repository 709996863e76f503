"""Layer 7. The legend of a drawing: series, then numbers, then seeds."""

import textwrap
from collections.abc import Sequence
from typing import Any

from dap.study.reading.evidence import Figure, Series
from dap.study.report.drawing import looks
from dap.study.report.drawing.looks import FAINT, INK, Style

# Of matplotlib, which is imported where something is drawn.
Drawn = Any
Dash = str | tuple[int, tuple[float, ...]]

_WIDTH = 24  # letters in a line
_DASHES: tuple[Dash, ...] = ('-', (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def dash(variant: int) -> Dash:
  """The line style of the n-th series of one role and kind."""
  return _DASHES[variant % len(_DASHES)]


def add(
  drawing: Drawn,
  figure: Figure,
  style: Style,
  shares: looks.Shares,
  variants: Sequence[int],
) -> None:
  """Puts the legend beside the axes."""
  handles = [
    _series(each, style, variant)
    for each, variant in zip(figure.series, variants)
    if each.label
  ]
  handles += [
    _dots(f'{name} = {x:g}', 'o', looks.mixed(INK.light, share), INK.light)
    for name, of_value in shares.items()
    for x, share in sorted(of_value.items(), reverse=True)
  ]
  seeds = sorted({p.seed for s in figure.series for p in s.points})
  if len(seeds) > 1:
    handles += [
      _dots(f'seed {s}', looks.shape(style, s).paper, 'none', FAINT.light)
      for s in seeds
    ]
  made = drawing.legend(
    handles=handles, loc='outside right center', frameon=False, fontsize=8.5
  )
  for text in made.get_texts():
    text.set_text(textwrap.fill(text.get_text(), _WIDTH))
    text.set_color(INK.light)


def _series(series: Series, style: Style, variant: int) -> Drawn:
  from matplotlib.lines import Line2D

  colour = style.colours[series.role].light
  if series.kind == 'points':
    face = colour if variant % 2 == 0 else 'none'
    return _dots(series.label, 'o', face, colour)
  width = {'band': 2.2, 'line': 1.5, 'level': 1.1}[series.kind]
  styled = dash(variant)
  if series.kind == 'level':
    styled = level_dash(variant)
  return Line2D([], [], color=colour, lw=width, ls=styled, label=series.label)


def level_dash(variant: int) -> Dash:
  """The line style of the n-th level of one role."""
  return (0, (4, 3)) if variant == 0 else (0, (1, 2))


def _dots(label: str, marker: str, face: str, edge: str) -> Drawn:
  from matplotlib.lines import Line2D

  return Line2D(
    [], [], ls='', marker=marker, markersize=5, markerfacecolor=face,
    markeredgecolor=edge, markeredgewidth=0.8, label=label,
  )  # fmt: skip
