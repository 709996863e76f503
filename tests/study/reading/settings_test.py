from pathlib import Path

import pytest

from dap.errors import InputError
from dap.study.reading import settings
from dap.study.reading.evidence import Evidence
from dap.study.reading.runs import Point


def frozen(value):
  return settings.frozen(value, 'The arm a')


@pytest.mark.parametrize(
  'value', [(1e-3, 0.1), (1e-3, None), (1e-3,), (1e-3, 0.1, None, 2)]
)
def test_numbers_in_their_order_stay_what_they_are(value):
  assert frozen(list(value)) == value


def test_numbers_by_name_become_pairs_and_stay_so():
  once = frozen((1e-3, {'tau': 0.1, 'margin': 2.0}))
  assert once == (1e-3, (('margin', 2.0), ('tau', 0.1)))
  assert frozen([1e-3, [['tau', 0.1], ['margin', 2.0]]]) == once  # of JSON
  assert hash(once) == hash(frozen(once))


@pytest.mark.parametrize(
  'value', [None, 1e-3, 'ab', (), ('a', 0.1), (None, 0.1), (1e-3, True),
            (1e-3, {'tau': 'x'}), (1e-3, 0.1, {'tau': 0.1}), {'lr': 1e-3}],
)  # fmt: skip
def test_what_is_no_setting_is_refused(value):
  with pytest.raises(InputError, match='The arm a needs .learning rate, '):
    frozen(value)


def test_more_numbers_than_names_are_refused():
  assert settings.numbers((1e-3, 0.1, None), ('beta',)) == {'beta': 0.1}
  with pytest.raises(InputError, match='2 numbers .* and names of 1: beta'):
    settings.numbers((1e-3, 0.1, 0.2), ('beta',))


@pytest.mark.parametrize(
  ('setting', 'name'),
  [
    ((5e-4, 0.03), 'ipo_lr0.0005_beta0.03'),
    ((5e-4, None), 'ipo_lr0.0005'),
    ((5e-4, None, 0.2), 'ipo_lr0.0005_label_smoothing0.2'),
    (
      (5e-4, (('label_smoothing', 0.2), ('beta', 1))),
      'ipo_lr0.0005_beta1_label_smoothing0.2',
    ),
  ],
)
def test_a_run_is_named_by_rate_and_numbers(setting, name):
  names = 'beta', 'label_smoothing'
  assert settings.run_name('ipo', setting, names) == name


def evidence(*runs):
  points = [
    Point(name, 'ipo', 0, 1, lr=1e-3, scalars=scalars) for name, scalars in runs
  ]
  return Evidence(points, Path(), {})


def found(evidence, *setting):
  return [point.run for point in evidence.of('ipo', frozen(setting))]


def test_a_setting_finds_its_run_by_place_and_by_name():
  both = evidence(
    ('a', {'beta': 0.1, 'label_smoothing': 0.2}),
    ('b', {'beta': 0.1, 'label_smoothing': 0.3}),
  )
  assert found(both, 1e-3, 0.1, 0.3) == ['b']
  assert found(both, 1e-3, {'label_smoothing': 0.2}) == ['a']
  assert found(both, 1e-3, 0.1) == found(both, 1e-3) == ['a', 'b']
  assert found(both, 2e-3, 0.1) == found(both, 1e-3, 0.1, 0.2, 0.3) == []
  assert found(both, 1e-3, {'tau': 0.1}) == []


def test_of_runs_that_none_fits_the_one_that_it_names_is_meant():
  runs = evidence(
    ('ipo_lr0.001', {'beta': 0.05}), ('ipo_lr0.001_beta0.1', {'beta': 0.1})
  )
  assert found(runs, 1e-3, None) == ['ipo_lr0.001']
  assert found(runs, 1e-3, 0.1) == ['ipo_lr0.001_beta0.1']
  assert found(evidence(('old_3', {})), 1e-3, None) == ['old_3']
