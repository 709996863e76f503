import json
import math

import report_parts
from report_parts import figure, points, samples

from dap.study.reading.runs import Point
from dap.study.report.drawing import looks
from dap.study.report.pages import data


def made(**changes):
  own = points()
  whole = figure(own)
  given = {
    'points': own,
    'figures': [whole],
    'style': looks.style([whole]),
    'samples': samples(own),
    'study': report_parts.STUDY,
    'arms': ['online', 'offline'],
    **changes,
  }
  return data.of_report(**given)


def test_it_is_json_without_numbers_that_json_has_not():
  whole = json.loads(json.dumps(made(), allow_nan=False))
  band = whole['figures']['fig1']['series'][3]
  assert band['y'] == [0.1, None, 0.2, 0.3]
  assert band['low'] == [0.05, None, 0.15, 0.25]


def test_marks_name_the_rows_of_their_checkpoints():
  whole, own = made(), points()
  online = whole['figures']['fig1']['series'][1]
  for x, row in zip(online['x'], online['points']):
    assert own[row].algorithm == 'online'
    assert math.isclose(own[row].kl_nats, x, rel_tol=1e-4)
  for path in online['paths']:
    steps = [own[online['points'][place]].step for place in path]
    assert steps == [10, 20, 40]
  assert len(online['shares']) == len(online['x'])


def test_points_without_a_place_have_no_mark_and_keep_their_row():
  own = points()
  with_start = figure(own)
  sft = report_parts.dots(own, 'sft')  # at a KL of 0, on a logarithmic axis
  whole = with_start._replace(series=[sft, *with_start.series])
  found = made(figures=[whole], style=looks.style([whole]))
  assert found['figures']['fig1']['series'][0]['x'] == []
  assert len(found['points']['rows']) == len(own)


def test_ranges_of_a_logarithmic_axis_are_powers_of_ten():
  axis = made()['figures']['fig1']['x']
  low, high = axis['range']
  assert axis['log'] and 10**low < 1.0 < 4.0 < 10**high
  assert all(low <= math.log10(tick) <= high for tick, _ in axis['ticks'])


def test_samples_stand_at_the_rows_of_their_points():
  whole, own = made(), points()
  row = next(r for r, p in enumerate(own) if p.run == 'online_a')
  assert whole['samples']['points'][row] == {
    'texts': ['online_a 0 10 says 0', 'online_a 0 10 says 1'],
    'prefers': [0.25, 0.75],
  }
  assert made(samples={})['samples'] is None


def test_the_best_checkpoint_of_a_side_is_shown_up_to_the_largest_kl():
  own = points()
  free = data.shown(own, 0, [], math.inf)
  assert {name: own[row].step for name, row in free.items()} == {
    'sft': 0,
    'online': 40,
    'offline': 40,
  }
  near = data.shown(own, 0, [], 2.5)
  assert own[near['online']].kl_nats <= 2.5
  none_near = data.shown(own, 0, [], 0.01)
  kls = [p.kl_nats for p in own if p.algorithm == 'online' and p.seed == 0]
  assert own[none_near['online']].kl_nats == min(kls)


def test_arms_of_the_analyses_are_preferred_in_the_samples():
  own = points()
  other = [p._replace(run='x', algorithm='online_new') for p in own]
  chosen = data.shown([*own, *other], 0, ['online_new'], math.inf)
  assert chosen['online'] >= len(own)


def test_an_arm_on_data_of_the_sft_policy_is_not_the_sft_policy():
  own = [Point('sft_early_ipo_a', 'sft_early_ipo', 0, 1, win_rate=0.9)]
  assert 'sft' not in data.shown(own, 0, ['sft_early_ipo'], math.inf)
  whole = [*own, *points()]
  found = data.shown(whole, 0, ['sft_early_ipo'], math.inf)
  assert whole[found['sft']].run == 'sft'


def test_the_limit_of_kl_is_that_of_the_first_analysis_with_one():
  analyses = [{'kind': 'Other'}, {'kind': 'Gap', 'kl_range': [2.25, 6]}]
  assert data.kl_limit({'analyses': analyses}) == 6.0
  assert data.kl_limit({}) == math.inf


def test_numbers_of_losses_have_columns_and_shades_of_their_names():
  own = points()
  own = [
    point._replace(scalars={'tau': point.scalars['beta']})
    if point.algorithm == 'offline'
    else point
    for point in own
  ]
  whole = figure(own)
  found = made(points=own, figures=[whole], style=looks.style([whole]))
  assert found['points']['scalars'] == ['beta', 'tau']
  assert found['points']['columns'][-2:] == ['scalars.beta', 'scalars.tau']
  ends = {tuple(row[-2:]) for row in found['points']['rows']}
  numbers = 0.1, 0.03
  assert ends == {
    (None, None), *((x, None) for x in numbers), *((None, x) for x in numbers)
  }  # fmt: skip
  shades = [[0.03, 0.3], [0.1, 1.0]]
  assert found['figures']['fig1']['shades'] == [
    ['beta', shades],
    ['tau', shades],
  ]
