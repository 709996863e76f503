import re

import numpy as np
import pytest

from dap.study import plots
from dap.study.frontiers import Band
from dap.study.points import Point


def points(seeds=(0, 1), betas=(0.1, 0.03)):
  found = [Point('sft', 'sft', seed, 600, win_rate=0.08) for seed in seeds]
  found += [
    Point('golden', 'golden_policy', seed, 200, kl_nats=3.0, win_rate=0.5)
    for seed in seeds
  ]
  for arm in ('online', 'offline'):
    for index, beta in enumerate(betas):
      found += [
        Point(
          f'{arm}_{index}',
          arm,
          seed,
          step,
          lr=1e-3,
          beta=beta,
          kl_nats=0.1 * step,
          win_rate=0.01 * step,
        )
        for seed in seeds
        for step in (10, 20, 40)
      ]
  return found


BANDS = {'online': Band(*(np.array([[1, 2, 4]] + 3 * [[0.1, np.nan, 0.4]])))}


def test_equal_points_give_equal_bytes(tmp_path):
  for name in ('a', 'b'):
    png, svg = plots.write_frontier(tmp_path / name, points(), BANDS, title='T')
    assert png.read_bytes().startswith(b'\x89PNG')
    assert svg.read_text().rstrip().endswith('</svg>')
  for name in ('frontier.png', 'frontier.svg'):
    first, second = (tmp_path / each / name for each in 'ab')
    assert first.read_bytes() == second.read_bytes()
  assert not re.search(r'20\d\d-\d\d-\d\d', second.read_text())


def test_all_that_tells_points_apart_is_in_the_legend():
  figure = plots.frontier(points(), BANDS, title='Corpus, seeds 0, 1')
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == [
    'online, best',
    'β = 0.1',
    'β = 0.03',
    'offline',
    'β = 0.1',
    'β = 0.03',
    'golden policy',
    'seed 0',
    'seed 1',
  ]
  (axes,) = figure.axes
  assert axes.get_xscale() == 'log'
  assert 'nats' in axes.get_xlabel() and 'log' in axes.get_xlabel()
  assert axes.get_title('left') == 'Corpus, seeds 0, 1'


@pytest.mark.parametrize('shape', [plots.WIDE, plots.NARROW])
def test_nothing_of_the_legend_is_cut_off(shape):
  figure = plots.frontier(
    points(), BANDS, title='Corpus, seeds 0, 1', shape=shape
  )
  figure.draw_without_rendering()
  page = figure.bbox
  for box in (
    figure.legends[0].get_window_extent(),
    figure.axes[0].get_tightbbox(),
  ):
    assert page.x0 <= box.x0 and box.x1 <= page.x1
    assert page.y0 <= box.y0 and box.y1 <= page.y1


def test_one_arm_of_one_run_without_beta_can_be_drawn():
  alone = [Point('sft_0', 'online', 0, 1, kl_nats=1.0, win_rate=0.5)]
  assert '<svg' in plots.svg_text(plots.frontier(alone, {}, title=''))
  start = [Point('sft', 'sft', 0, 1)]
  assert '<svg' in plots.svg_text(plots.frontier(start, {}, title=''))


def test_a_page_gives_its_own_colours():
  figure = plots.frontier(points(), BANDS, title='')
  changed = plots.svg_text(
    figure,
    {plots.COLOURS['online']: 'var(--online)', plots.INK: 'currentColor'},
  )
  assert 'var(--online)' in changed and 'currentColor' in changed
  assert plots.COLOURS['online'] not in changed and plots.INK not in changed


def test_shades_run_from_white_to_the_colour():
  assert plots.shade('#0072b2', 1.0) == '#0072b2'
  assert plots.shade('#0072b2', 0.0) == '#ffffff'
