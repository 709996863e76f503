"""Layer 7. How marks look, on paper and on screen: colours, shapes, shades.

One look for both renderers: a role has one colour in all figures, a seed one
shape, and a greater beta a fuller colour. All colours but the greys are Okabe
and Ito's, which are told apart with any colour vision.
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


INK = Colour('#1a1a1a', '#e8e8e4')
FAINT = Colour('#6f6f6f', '#9d9d99')
_ROLES = {
  'online': Colour('#0072b2', '#56a9e0'),
  'offline': Colour('#d55e00', '#f28e43'),
  'shuffled': Colour('#009e73', '#3cc79c'),
  'proxy': Colour('#cc79a7', '#e29cc3'),
  'golden': INK,
  'sft': FAINT,
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
_PALEST = 0.30  # share of the colour in the shade of the smallest beta


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
      colours[role] = _OTHERS[others % len(_OTHERS)]
      others += 1
  seeds = {
    point.seed
    for figure in figures
    for each in figure.series
    for point in each.points
  }
  return Style(colours, tuple(sorted(seeds)))


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


def shares(figure: Figure) -> dict[float, float]:
  """How full the colour of each beta is, of series that have several."""
  betas = sorted({
    beta
    for each in figure.series
    if each.kind == 'points' and len(_betas(each)) > 1
    for beta in _betas(each)
  })  # fmt: skip
  full = np.linspace(_PALEST, 1.0, len(betas))
  return {beta: round(float(share), 3) for beta, share in zip(betas, full)}


def fullness(series: Series, of_beta: Mapping[float, float]) -> list[float]:
  """The share of each mark, from `shares`; full where there is one beta."""
  betas = [point.beta for point in series.points]
  if len(_betas(series)) < 2:
    return [1.0] * len(series.x)
  return [1.0 if beta is None else of_beta.get(beta, 1.0) for beta in betas]


def _betas(series: Series) -> set[float]:
  return {point.beta for point in series.points if point.beta is not None}


def mixed(colour: str, share: float, ground: str = '#ffffff') -> str:
  """A colour mixed with its ground, of which it is `share`."""
  parts = [
    round(share * over + (1 - share) * under)
    for over, under in zip(_parts(colour), _parts(ground))
  ]
  return '#' + ''.join(f'{part:02x}' for part in parts)


def _parts(colour: str) -> list[int]:
  return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
