"""Layer 6. KL against win rate for both arms, as PNG and SVG.

Equal points give equal bytes: no dates, no random names inside the SVG.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from dap import files
from dap.study.frontiers import ARMS, Band
from dap.study.points import Point

# Okabe and Ito's blue and vermilion: told apart with any colour vision.
COLOURS = {'online': '#0072b2', 'offline': '#d55e00'}
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')  # by seed
INK, FAINT = '#1a1a1a', '#8a8a8a'
_PALEST = 0.30  # share of the arm's colour in the shade of the smallest beta


class Shape(NamedTuple):
  """Size of a figure, in inches, and where its legend stands."""

  width: float
  height: float
  legend_beside: bool


WIDE = Shape(8.2, 4.6, legend_beside=True)
NARROW = Shape(4.3, 5.4, legend_beside=False)


def write_frontier(
  folder: str | Path,
  points: Sequence[Point],
  bands: Mapping[str, Band],
  *,
  title: str,
  name: str = 'frontier',
) -> list[Path]:
  """Writes NAME.png and NAME.svg; returns their paths."""
  folder = Path(folder)
  figure = frontier(points, bands, title=title, shape=WIDE)
  png, svg = folder / f'{name}.png', folder / f'{name}.svg'
  with files.atomic_file(png) as file:
    file.write(png_bytes(figure))
  files.write_atomically(svg, svg_text(figure))
  return [png, svg]


def frontier(
  points: Sequence[Point],
  bands: Mapping[str, Band],
  *,
  title: str,
  shape: Shape = WIDE,
) -> Any:
  """The figure: a matplotlib Figure on a canvas of its own.

  Args:
    points: colour by arm, shade by beta, marker by seed; the points of a run
      are joined in the order of its steps. Those at a KL of 0 have no place on
      a logarithmic axis: the SFT policy is a line at its win rate.
    bands: upper envelope of each arm, drawn with its interval.
    title: names the data set and the seeds.
    shape: size and legend.
  """
  from matplotlib.backends import backend_agg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(shape.width, shape.height), layout='constrained')
  backend_agg.FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  seeds = sorted({point.seed for point in points})
  _levels(axes, points)
  for arm in ARMS:
    _runs(axes, [point for point in points if point.arm == arm], seeds)
    if arm in bands:
      _band(axes, arm, bands[arm])
  _golden(axes, points, seeds)
  _dress(axes, title)
  _legends(figure, points, bands, seeds, shape)
  return figure


def png_bytes(figure: Any, dpi: int = 200) -> bytes:
  """The figure on white."""
  file = io.BytesIO()
  figure.savefig(
    file, format='png', dpi=dpi, facecolor='white', metadata={'Software': None}
  )
  return file.getvalue()


def svg_text(
  figure: Any, colours: Mapping[str, str] = MappingProxyType({})
) -> str:
  """The figure without a background.

  Args:
    figure: from `frontier`.
    colours: what to write for INK, FAINT and COLOURS, which a page gives its
      own: `currentColor` takes the colour of its text.
  """
  import matplotlib

  file = io.StringIO()
  settings: Any = {'svg.hashsalt': 'dap', 'svg.fonttype': 'path'}
  with matplotlib.rc_context(settings):
    figure.savefig(
      file, format='svg', transparent=True, metadata={'Date': None}
    )
  text = file.getvalue()
  for own, other in colours.items():
    text = text.replace(own, other)
  return text


def shade(colour: str, share: float) -> str:
  """A colour mixed with white, of which it is `share`."""
  parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
  mixed = [round(255 - share * (255 - part)) for part in parts]
  return '#' + ''.join(f'{part:02x}' for part in mixed)


def _runs(axes: Any, points: Sequence[Point], seeds: Sequence[int]) -> None:
  shares = _shares(points)
  for key in sorted({(point.run, point.seed) for point in points}):
    own = [p for p in points if (p.run, p.seed) == key and p.kl_nats > 0]
    if not own:
      continue
    own = sorted(own, key=lambda point: point.step)
    colour = COLOURS[own[0].arm]
    kl, rate = [p.kl_nats for p in own], [p.win_rate for p in own]
    axes.plot(kl, rate, color=colour, alpha=0.18, linewidth=0.7, zorder=2)
    axes.scatter(
      kl,
      rate,
      s=15,
      marker=_MARKERS[seeds.index(own[0].seed) % len(_MARKERS)],
      color=shade(colour, shares[own[0].beta]),
      edgecolor=colour,
      linewidth=0.4,
      zorder=3,
    )


def _shares(points: Sequence[Point]) -> dict[float | None, float]:
  """How full the colour of each beta is: the greatest is fullest."""
  betas = sorted({p.beta for p in points if p.beta is not None})
  full = np.linspace(_PALEST, 1.0, len(betas)) if len(betas) > 1 else [1.0]
  return {None: 1.0, **dict(zip(betas, map(float, full)))}


def _band(axes: Any, arm: str, band: Band) -> None:
  colour = COLOURS[arm]
  axes.fill_between(
    band.kl, band.low, band.high, color=colour, alpha=0.16, lw=0, zorder=1
  )
  axes.plot(band.kl, band.win_rate, color=colour, linewidth=2.2, zorder=4)


def _levels(axes: Any, points: Sequence[Point]) -> None:
  """The SFT policy, which stands at a KL of 0, as a level."""
  rates = [point.win_rate for point in points if point.arm == 'sft']
  if rates:
    axes.axhline(np.mean(rates), color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1)
    below = np.mean(rates) > 0.04
    axes.annotate(
      f'SFT policy, KL 0: {np.mean(rates):.2f}',
      (1.0, float(np.mean(rates))),
      xycoords=('axes fraction', 'data'),
      xytext=(-4, -3 if below else 3),
      textcoords='offset points',
      ha='right',
      va='top' if below else 'bottom',
      fontsize=8,
      color=FAINT,
    )


def _golden(axes: Any, points: Sequence[Point], seeds: Sequence[int]) -> None:
  for point in points:
    if point.arm == 'golden' and point.kl_nats > 0:
      axes.scatter(
        point.kl_nats,
        point.win_rate,
        s=34,
        marker=_MARKERS[seeds.index(point.seed) % len(_MARKERS)],
        facecolor='none',
        edgecolor=INK,
        linewidth=1.1,
        zorder=5,
      )


def _dress(axes: Any, title: str) -> None:
  from matplotlib import ticker

  axes.set_xscale('log', base=10)
  axes.xaxis.set_major_locator(ticker.LogLocator(10, (1.0, 2.0, 5.0)))
  axes.xaxis.set_major_formatter(ticker.FormatStrFormatter('%g'))
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  axes.set_xlabel('KL(policy ‖ SFT), nats per response, log\N{SUBSCRIPT ONE}'
                  '\N{SUBSCRIPT ZERO} scale')  # fmt: skip
  axes.set_ylabel('Win rate against the golden policy')
  axes.set_ylim(bottom=0)
  axes.set_title(title, loc='left', fontsize=10.5, color=INK)
  axes.grid(True, color=FAINT, alpha=0.25, linewidth=0.6)
  axes.set_axisbelow(True)
  for side in ('top', 'right'):
    axes.spines[side].set_visible(False)
  for side in ('left', 'bottom'):
    axes.spines[side].set_color(INK)
  axes.tick_params(colors=INK, labelsize=9, which='both')
  axes.xaxis.label.set_color(INK)
  axes.yaxis.label.set_color(INK)


def _legends(
  figure: Any,
  points: Sequence[Point],
  bands: Mapping[str, Band],
  seeds: Sequence[int],
  shape: Shape,
) -> None:
  columns = [
    _arm_handles([point for point in points if point.arm == arm], arm in bands)
    for arm in ARMS
  ]
  columns.append(_other_handles(points, seeds))
  columns = [column for column in columns if column]
  if not shape.legend_beside:  # each column to one height
    longest = max(map(len, columns))
    for column in columns:
      column += [_dots('', '', INK, INK)] * (longest - len(column))
  legend = figure.legend(
    handles=sum(columns, []),
    loc='outside right center' if shape.legend_beside else 'outside lower left',
    ncols=1 if shape.legend_beside else len(columns),
    frameon=False,
    fontsize=8.5,
  )
  for text in legend.get_texts():
    text.set_color(INK)


def _arm_handles(points: Sequence[Point], has_band: bool) -> list[Any]:
  from matplotlib.lines import Line2D

  if not points:
    return []
  arm = points[0].arm
  colour, label = COLOURS[arm], f'{arm}, best' if has_band else arm
  shares = sorted(_shares(points).items(), key=lambda item: -item[1])
  return [
    Line2D([], [], color=colour, lw=2.2, label=label),
    *(
      _dots(f'β = {beta:g}', 'o', shade(colour, share), colour)
      for beta, share in shares
      if beta is not None
    ),
  ]


def _other_handles(points: Sequence[Point], seeds: Sequence[int]) -> list[Any]:
  handles = []
  if any(point.arm == 'golden' for point in points):
    handles.append(_dots('golden policy', 'o', 'none', INK))
  if len(seeds) > 1:
    handles += [
      _dots(f'seed {seed}', _MARKERS[i % len(_MARKERS)], 'none', FAINT)
      for i, seed in enumerate(seeds)
    ]
  return handles


def _dots(label: str, marker: str, face: str, edge: str) -> Any:
  from matplotlib.lines import Line2D

  return Line2D(
    [], [], ls='', marker=marker, markersize=5, markerfacecolor=face,
    markeredgecolor=edge, markeredgewidth=0.6, label=label,
  )  # fmt: skip
