"""Layer 7. How marks look, on paper and on screen: colours, shapes, shades.

One look for both renderers: a role has one colour in all figures, a seed one
shape, and a greater number of the loss a fuller colour. All colours but the
greys are Okabe and Ito's, which are told apart with any colour vision.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dap.study.reading.evidence import Figure, Series


class Colour(NamedTuple):
  """Hexadecimal; on a light ground, and lighter on a dark one."""

  light: str
  dark: str


class Shape(NamedTuple):
  """A marker's name in plotly and in matplotlib."""

  screen: str
  paper: str


class Style(NamedTuple):
  """What all figures of a report share.

  Attributes:
    colours: by role.
    seeds: ascending; their places name shapes.
  """

  colours: Mapping[str, Colour]
  seeds: tuple[int, ...]


# By name of a number of the loss, by value, least first.
Shares = Mapping[str, Mapping[float, float]]

INK = Colour('#1a1a1a', '#e8e8e4')
FAINT = Colour('#6f6f6f', '#9d9d99')
_ROLES = {
  'online': Colour('#0072b2', '#56a9e0'),
  'offline': Colour('#d55e00', '#f28e43'),
  'shuffled': Colour('#009e73', '#3cc79c'),
  'proxy': Colour('#cc79a7', '#e29cc3'),
  'golden': INK,
  'sft': FAINT,
  'limit': Colour('#8c8c8c', '#7f7f7b'),  # lies behind what is compared
}
_OTHERS = (
  Colour('#e69f00', '#ffc14d'),
  Colour('#56b4e9', '#a5dcff'),
  Colour('#a89a00', '#f0e442'),  # their yellow, darker: it is lost on white
  Colour('#882255', '#d77fa8'),
  Colour('#117733', '#7cc98f'),
  Colour('#6f5a9e', '#b3a1de'),
)
SHAPES = (
  Shape('circle', 'o'),
  Shape('square', 's'),
  Shape('triangle-up', '^'),
  Shape('diamond', 'D'),
  Shape('triangle-down', 'v'),
  Shape('cross', 'P'),
  Shape('x', 'X'),
  Shape('star', '*'),
)
# Of a round through the palette: share of its colours, and what it mixes with.
_ROUNDS = ((1.0, '#ffffff'), (0.5, '#000000'), (0.45, '#ffffff'))
_PALEST = 0.30  # share of the colour in the shade of the smallest number


def style(figures: Iterable[Figure]) -> Style:
  """The style of a report: other roles take colours in order of appearance.

  An arm of a known side, such as `online_dpo`, has the colour of its side
  where the side itself is not a role of these figures.
  """
  figures = list(figures)
  roles = [each.role for figure in figures for each in figure.series]
  colours: dict[str, Colour] = {}
  others = 0
  for role in dict.fromkeys(roles):
    side = role.split('_')[0]
    if role in _ROLES:
      colours[role] = _ROLES[role]
    elif side in _ROLES and side not in roles:
      colours[role] = _ROLES[side]
    else:
      colours[role] = _other(others)
      others += 1
  seeds = {
    point.seed
    for figure in figures
    for each in figure.series
    for point in each.points
  }
  return Style(colours, tuple(sorted(seeds)))


def _other(place: int) -> Colour:
  """Beyond the palette its colours again, darker, then paler."""
  round_, index = divmod(place, len(_OTHERS))
  light, dark = _OTHERS[index]
  share, ground = _ROUNDS[min(round_, len(_ROUNDS) - 1)]
  return Colour(mixed(light, share, ground), mixed(dark, share, ground))


def shape(style: Style, seed: int) -> Shape:
  """The marker of a seed."""
  return SHAPES[style.seeds.index(seed) % len(SHAPES)]


def variants(series: Sequence[Series]) -> list[int]:
  """How many earlier series have the role and the kind of each.

  They have its colour too, so a line takes another dash and points are open.
  """
  seen: dict[tuple[str, str], int] = {}
  found = []
  for each in series:
    key = each.role, each.kind
    found.append(seen.get(key, 0))
    seen[key] = found[-1] + 1
  return found


def shares(figure: Figure) -> Shares:
  """How full the colour of each number is, of series that differ in it.

  Numbers of one name are in order over all series of the figure.
  """
  found: dict[str, set[float]] = {}
  for series in figure.series:
    name = shading(series) if series.kind == 'points' else None
    if name is not None:
      found.setdefault(name, set()).update(_numbers(series)[name])
  return {
    name: dict(zip(ordered, _evenly(len(ordered))))
    for name, ordered in ((name, sorted(each)) for name, each in found.items())
  }


def shading(series: Series) -> str | None:
  """The number of the loss that shades a series: the first that differs."""
  differ = (name for name, each in _numbers(series).items() if len(each) > 1)
  return next(differ, None)


def fullness(series: Series, of_number: Shares) -> list[float]:
  """The share of each mark, from `shares`; full where no number differs."""
  name = shading(series)
  if name is None:
    return [1.0] * len(series.x)
  of_value = of_number.get(name, {})
  values = [point.scalars.get(name) for point in series.points]
  return [1.0 if x is None else of_value.get(x, 1.0) for x in values]


def _numbers(series: Series) -> dict[str, set[float]]:
  """The numbers of the losses of a series, by name."""
  found: dict[str, set[float]] = {}
  for point in series.points:
    for name, value in point.scalars.items():
      found.setdefault(name, set()).add(value)
  return found


def _evenly(count: int) -> list[float]:
  return [round(float(x), 3) for x in np.linspace(_PALEST, 1.0, count)]


def mixed(colour: str, share: float, ground: str = '#ffffff') -> str:
  """A colour mixed with its ground, of which it is `share`."""
  parts = [
    round(share * over + (1 - share) * under)
    for over, under in zip(_parts(colour), _parts(ground))
  ]
  return '#' + ''.join(f'{part:02x}' for part in parts)


def _parts(colour: str) -> list[int]:
  return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
