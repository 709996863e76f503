from dap.study.reading.evidence import Axis, Figure, Series
from dap.study.reading.runs import Point
from dap.study.report.drawing import looks

AXIS = Axis('a')


def figure(*series):
  return Figure('f', 't', 'c', AXIS, AXIS, series)


def series(role, kind='points', betas=(), seeds=(), **others):
  """Points with a number each, None for none; `others` are constant."""
  points = [
    Point('r', 'a', seed, 1, scalars=others | named(beta))
    for seed, beta in zip(seeds or [0] * len(betas), betas)
  ]
  return Series(role, role, [1.0] * len(points), [1.0] * len(points),
                kind=kind, points=points)  # fmt: skip


def named(beta):
  return {} if beta is None else {'beta': beta}


def test_a_role_has_its_colour_whatever_else_is_drawn():
  alone = looks.style([figure(series('online'))])
  among = looks.style([figure(series('new')), figure(series('online'))])
  assert alone.colours['online'] == among.colours['online']
  assert among.colours['new'] not in (
    looks.style([figure(series(role))]).colours[role]
    for role in ('online', 'offline', 'shuffled', 'sft', 'golden', 'proxy')
  )


def test_roles_of_one_report_have_colours_that_differ():
  roles = ['online', 'offline', 'shuffled', 'proxy', 'golden', 'sft', 'limit']
  roles += ['late', 'early', 'window', 'stale', 'size', 'loss']
  found = looks.style([figure(*map(series, roles))]).colours
  assert len({colour.light for colour in found.values()}) == len(roles)
  assert len({colour.dark for colour in found.values()}) == len(roles)


def test_many_roles_have_colours_that_differ():
  roles = [f'arm_{number}' for number in range(18)]
  found = looks.style([figure(*map(series, roles))]).colours
  assert len({each.light for each in found.values()}) == 18
  assert len({each.dark for each in found.values()}) == 18


def test_an_arm_of_a_side_has_its_colour_unless_the_side_is_drawn():
  alone = looks.style([figure(series('online_dpo'))]).colours
  both = looks.style([figure(series('online_dpo'), series('online'))]).colours
  assert alone['online_dpo'] == both['online'] != both['online_dpo']


def test_seeds_have_shapes_in_their_order():
  style = looks.style([figure(series('a', betas=(0.1, 0.1), seeds=(7, 2)))])
  assert style.seeds == (2, 7)
  assert looks.shape(style, 2).paper == 'o'
  assert looks.shape(style, 7).paper == 's'


def test_a_greater_number_is_fuller_and_a_single_one_is_full():
  found = looks.shares(figure(series('a', betas=(0.1, 0.03, None, 0.05))))
  shares = found['beta']
  assert list(shares) == [0.03, 0.05, 0.1]
  assert sorted(shares.values()) == list(shares.values())
  assert shares[0.1] == 1.0
  assert looks.shares(figure(series('a', betas=(0.1, 0.1)))) == {}


def test_a_series_of_one_number_is_full_beside_others_of_several():
  one, several = series('a', betas=(0.05, 0.05)), series('b', betas=(0.1, 0.05))
  shares = looks.shares(figure(one, several))
  assert looks.fullness(one, shares) == [1.0, 1.0]
  assert looks.fullness(several, shares) == [
    1.0,
    shares['beta'][0.05],
  ]
  assert shares['beta'][0.05] < 1
  assert looks.shares(figure(one, series('c', betas=(0.1,)))) == {}


def test_the_first_number_that_differs_shades_a_series():
  constant = series('a', betas=(0.1, 0.05), smoothing=0.2)
  assert looks.shading(constant) == 'beta'
  points = [
    Point('r', 'a', 0, step, scalars={'tau': 0.1, 'margin': step, 'z': step})
    for step in (1, 3)
  ]
  other = Series('b', 'b', [1.0, 1.0], [1.0, 1.0], points=points)
  shares = looks.shares(figure(constant, other))
  assert {name: list(each) for name, each in shares.items()} == {
    'beta': [0.05, 0.1],
    'margin': [1, 3],
  }
  assert looks.fullness(other, shares) == [shares['margin'][1], 1.0]


def test_series_of_one_role_and_kind_are_told_apart():
  drawn = [series('a'), series('a', 'line'), series('a'), series('b')]
  assert looks.variants(drawn) == [0, 0, 1, 0]


def test_a_mixture_runs_from_the_ground_to_the_colour():
  assert looks.mixed('#0072b2', 1.0) == '#0072b2'
  assert looks.mixed('#0072b2', 0.0) == '#ffffff'
  assert looks.mixed('#ff0000', 0.5, '#000000') == '#800000'
