"""Every worked number of the algorithm notes comes out of a call into dap."""

import pathlib

import jax
import numpy as np
import pytest
from worked import groups, measures, pairs, rewards

FILE = pathlib.Path(__file__).parent.parent / 'fixtures/worked_numbers.txt'
LINES = [line.split(' = ') for line in FILE.read_text().splitlines()]
NUMBERS = {
  name: float(value[0]) for name, *value in LINES if value and name[0] != '#'
}
MODULES = (pairs, groups, rewards, measures)
CALLS = {
  name: call for module in MODULES for name, call in module.CALLS.items()
}
JUDGE = 'A judge outside of the project is not asked yet.'
TESTS = 'Programs are not run against unit tests yet.'
# Names, or where they end in a point beginnings of names, that nobody gives.
WAITING = {
  'judge.': JUDGE,
  'oaif.': JUDGE,
  'drlaif.': JUDGE,
  'passk.': TESTS,
  'nk.': TESTS,
}
# What dap gives instead, and why.
DIFFERS = {
  'ipo.eq1_as_extracted': (16.81, 'A misprint: the target is 1 / (2 beta).'),
  'rrhf.ft_padded_code': (2.4, 'A sum: a mean would depend on the padding.'),
  'sched.warm': (501 / 2001, 'No update of the warm-up has a rate of 0.'),
  'ema.halflife_steps': (693, 'Updates are whole.'),
}


def waits(name):
  return any(
    name == each or (each.endswith('.') and name.startswith(each))
    for each in WAITING
  )


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize('name', CALLS)
def test_dap_gives_the_worked_number(name):
  expected = DIFFERS[name][0] if name in DIFFERS else NUMBERS[name]
  found = np.asarray(CALLS[name]()).item()
  assert found == pytest.approx(expected, rel=0, abs=2e-6)


def test_every_number_has_a_call_or_waits_for_one():
  waiting = {name for name in NUMBERS if waits(name)}
  assert {*CALLS} | waiting == {*NUMBERS}
  assert not {*CALLS} & waiting
  assert len(CALLS) == sum(len(module.CALLS) for module in MODULES)


def test_what_waits_is_listed():
  for each in WAITING:
    assert any(name.startswith(each) for name in NUMBERS)


def test_what_differs_is_listed_and_differs():
  for name, (value, _) in DIFFERS.items():
    assert abs(value - NUMBERS[name]) > 1e-4
