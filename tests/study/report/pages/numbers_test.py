import pytest
from report_parts import predicates

from dap.study.report.pages import numbers


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.0849, '0.085'),
    (-0.012, '−0.012'),
    (0.0, '0.000'),
    (-0.0, '0.000'),
    (3.1e-7, '3.1e−07'),
    (None, '–'),
    (float('nan'), '–'),
    (float('inf'), '–'),
  ],
)
def test_numbers_read_alike_everywhere(value, text):
  assert numbers.number(value) == text


def test_an_estimate_has_its_interval_and_unit():
  first, *_, last = predicates()
  assert numbers.estimate(first) == '0.085 [0.050, 0.112] win rate'
  assert numbers.estimate(last) == '–'
  assert numbers.by_seed(first) == 'seed 0: 0.070, seed 1: 0.100'


def test_a_proportion_is_a_number_or_an_interval_about_it():
  whole = {'value': 0.88, 'low': 0.86, 'high': 0.9, 'count': 100}
  assert numbers.proportion(whole) == '0.880 [0.860, 0.900]'
  assert numbers.proportion({'accuracy': 0.5}) == '0.500'
  assert numbers.proportion(1.25) == '1.250'
