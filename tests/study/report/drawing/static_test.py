import re

import report_parts
from report_parts import figure, points

from dap.study.reading.evidence import Axis, Figure, Series
from dap.study.report.drawing import looks, static


def drawn(whole=None):
  whole = whole or figure(points())
  return static.draw(whole, looks.style([whole]))


def test_equal_figures_give_equal_bytes(tmp_path):
  for folder in 'ab':
    whole = figure(points())
    static.write(tmp_path / folder, 'fig1', whole, looks.style([whole]))
  for name in ('fig1.png', 'fig1.svg'):
    first, second = ((tmp_path / each / name).read_bytes() for each in 'ab')
    assert first == second
  assert first.rstrip().endswith(b'</svg>')
  assert not re.search(rb'20\d\d-\d\d-\d\d', first)


def test_all_that_tells_marks_apart_is_in_the_legend():
  (legend,) = drawn().legends
  assert [text.get_text() for text in legend.get_texts()] == [
    'SFT policy',
    'online',
    'offline',
    'online, best',
    'a fit',
    'beta = 0.1',
    'beta = 0.03',
    'seed 0',
    'seed 1',
  ]


def test_axes_are_labelled_and_marked_with_readable_numbers():
  (axes,) = drawn().axes
  assert axes.get_xscale() == 'log' and axes.get_yscale() == 'linear'
  assert 'nats' in axes.get_xlabel() and 'log' in axes.get_xlabel()
  assert axes.get_ylabel() == 'win rate'
  assert axes.get_title('left') == 'Online against offline'
  labels = [label.get_text() for label in axes.get_xticklabels()]
  assert {'1', '2', '5'} <= set(labels)


def test_nothing_is_cut_off():
  drawing = drawn()
  drawing.draw_without_rendering()
  page = drawing.bbox
  for box in (
    drawing.legends[0].get_window_extent(),
    drawing.axes[0].get_tightbbox(),
  ):
    assert page.x0 <= box.x0 and box.x1 <= page.x1
    assert page.y0 <= box.y0 and box.y1 <= page.y1


def test_a_checkpoint_has_the_shape_of_its_seed_and_the_shade_of_its_number():
  (axes,) = drawn().axes
  online = axes.collections[0:2]  # one for each seed
  colours = {tuple(face) for each in online for face in each.get_facecolors()}
  assert len(colours) == 2  # one for each number
  first, second = (each.get_paths()[0].vertices.shape for each in online)
  assert first != second


def test_every_kind_of_series_is_drawn_with_and_without_intervals():
  nan = float('nan')
  kinds = ('points', 'line', 'band', 'level')
  series = [
    Series(kind, kind, [1.0, 2.0, 3.0], [1.0, nan, 2.0], *ends, kind=kind)
    for kind in kinds
    for ends in ((), ([0.5, nan, 1.5], [1.5, nan, 2.5]))
  ]
  axis = Axis('x')
  whole = Figure('f', 't', 'c', axis, axis, series)
  text = static.svg_text(drawn(whole))
  assert '<svg' in text
  (axes,) = drawn(whole).axes
  low, high = axes.get_ylim()
  assert low <= 0.5 and high >= 2.5


def test_a_point_at_no_kl_is_no_reason_to_fail():
  own = points(seeds=(0,))[:1]
  whole = Figure(
    'f', 't', 'c', report_parts.KL, report_parts.WINS,
    [report_parts.dots(own, 'sft')],
  )  # fmt: skip
  assert '<svg' in static.svg_text(drawn(whole))
