import math

import pytest
from report_parts import figure, points

from dap.study.reading.evidence import Axis, Figure, Series
from dap.study.report.drawing import marks

LOG, LINEAR = Axis('x', log=True), Axis('y')


def of(*series, x=LOG, y=LINEAR):
  return Figure('f', 't', 'c', x, y, series)


def test_marks_without_a_place_are_left_out():
  series = Series(
    'a', 'a', [0.0, 1.0, 2.0, math.inf], [1.0, 1.0, math.nan, 1.0]
  )
  assert marks.drawn(of(series), series) == [1]
  assert marks.drawn(of(series, x=LINEAR), series) == [0, 1]


def test_a_figure_of_levels_alone_is_empty():
  level = Series('a', 'a', [], [0.5], kind='level')
  assert marks.is_empty(of(level))
  assert marks.is_empty(of(level, Series('b', 'b', [], [])))
  assert not marks.is_empty(of(level, Series('b', 'b', [1.0], [1.0])))


def test_the_axes_hold_all_marks_with_their_intervals():
  series = Series('a', 'a', [1.0, 10.0], [0.4, 0.5], [0.35, 0.4], [0.45, 0.9])
  x, y = marks.spans(of(series))
  assert x.low < 1.0 and x.high > 10.0
  assert y.low < 0.35 and y.high > 0.9


def test_an_axis_of_rates_starts_at_zero_and_one_of_accuracies_does_not():
  near = Series('a', 'a', [1.0, 2.0], [0.1, 0.5])
  far = Series('a', 'a', [1.0, 2.0], [0.8, 0.9])
  assert marks.spans(of(near))[1].low == 0.0
  assert 0.7 < marks.spans(of(far))[1].low < 0.8


def test_one_mark_alone_has_room_about_it():
  series = Series('a', 'a', [3.0], [0.0])
  x, y = marks.spans(of(series))
  assert x.low < 3.0 < x.high and x.ticks
  assert y.low < 0.0 < y.high


@pytest.mark.parametrize(
  ('low', 'high', 'ticks'),
  [
    (0.4, 14.0, (0.5, 1.0, 2.0, 5.0, 10.0)),
    (2.0, 6.5, (2.0, 3.0, 4.0, 5.0, 6.0)),
    (0.02, 5e3, (0.1, 1.0, 10.0, 100.0, 1000.0)),
  ],
)
def test_ticks_of_a_logarithmic_axis_are_round_and_few(low, high, ticks):
  assert marks.log_ticks(low, high) == ticks


@pytest.mark.parametrize(
  ('tick', 'text'),
  [
    (0.5, '0.5'),
    (5000.0, '5000'),
    (5e4, '5×10⁴'),
    (2e11, '2×10¹¹'),
    (1e12, '10¹²'),
    (5e-5, '5×10⁻⁵'),
  ],
)
def test_ticks_read_as_numbers(tick, text):
  assert marks.tick_text(tick) == text


def test_a_logarithmic_axis_says_so():
  assert marks.label(LOG) == 'x, log₁₀ scale'
  assert marks.label(LINEAR) == 'y'


def test_a_hole_parts_a_band():
  assert marks.stretches([0, 1, 3, 4, 6]) == [[0, 1], [3, 4], [6]]
  assert marks.stretches([]) == []


def test_runs_are_joined_by_step_whatever_the_order_of_points():
  whole = figure(list(reversed(points(seeds=(0,), numbers=(0.1,)))))
  online = whole.series[1]
  (path,) = marks.paths(whole, online)
  assert [online.points[index].step for index in path] == [10, 20, 40]


def test_curves_have_no_dots_and_measured_lines_have():
  assert not marks.has_dots(Series('a', 'a', [1], [1], kind='line'))
  assert marks.has_dots(Series('a', 'a', [1], [1], [0], [2], kind='line'))
  assert not marks.has_dots(Series('a', 'a', [1], [1], [0], [2], kind='band'))
