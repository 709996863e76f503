import numpy as np
import pytest

from dap.estimators import Estimate, Interval, combine
from dap.study.analyses import claims
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
)

CLAIM = Claim('P0', 'One is more than none.', 'Fig. 0', 'apples')


def effect(*values):
  estimates = [Estimate(value, np.full(10, value)) for value in values]
  return combine(estimates, np.random.default_rng(0))


def test_a_predicate_has_what_was_found():
  finding = Finding(REPRODUCED, effect(1.0, 3.0), [4, 7], 'Two trees.')
  found = claims.judge(CLAIM, lambda: finding, primary=True)
  assert found[:4] == ('P0', 'One is more than none.', 'Fig. 0', REPRODUCED)
  assert (found.estimate, found.unit) == (2.0, 'apples')
  assert found.by_seed == {4: 1.0, 7: 3.0}
  assert found.conditional and found.primary


def test_a_seed_where_it_is_undefined_is_named_and_has_no_number():
  finding = Finding(UNDECIDED, effect(1.0, np.nan), [4, 7])
  found = claims.judge(CLAIM, lambda: finding)
  assert found.by_seed == {4: 1.0}
  assert 'Undefined for seed 7.' in found.detail


def test_a_number_without_an_interval_says_why_it_decides_nothing():
  finding = Finding(UNDECIDED, effect(1.0), [4])
  found = claims.judge(CLAIM, lambda: finding)
  assert (found.estimate, found.low, found.high) == (1.0, None, None)
  assert found.detail == (
    'No interval: fewer than 20 prompts to a seed, or all alike.'
  )


def test_what_has_no_number_has_none_in_json():
  finding = Finding(NOT_REACHED, effect(np.nan), [4])
  found = claims.judge(CLAIM, lambda: finding)
  assert (found.estimate, found.low, found.high) == (None, None, None)


def test_a_test_without_data_is_a_verdict_with_its_reason():
  def test():
    raise Unreached('No apples.')

  found = claims.judge(CLAIM, test, primary=True)
  assert (found.verdict, found.detail) == (NOT_REACHED, 'No apples.')
  assert found.primary


@pytest.mark.parametrize(
  ('parts', 'whole'),
  [
    ((REPRODUCED, REPRODUCED), REPRODUCED),
    ((REPRODUCED, UNDECIDED), UNDECIDED),
    ((UNDECIDED, NOT_REACHED), NOT_REACHED),
    ((NOT_REACHED, CONTRADICTED), CONTRADICTED),
  ],
)
def test_a_claim_is_as_good_as_its_weakest_part(parts, whole):
  assert claims.all_of(*parts) == claims.all_of(*parts[::-1]) == whole


def test_numbers_have_true_minus_signs():
  some = effect(-0.5)._replace(interval=Interval(-0.6, -0.4))
  assert claims.shown(some) == '−0.500 [−0.600, −0.400]'
  assert claims.level(some, 1) == '−0.5 [−0.6, −0.4]'
  assert claims.shown(effect(-0.5)) == '−0.500'  # no interval, being alike
  assert claims.shown(effect(np.nan)) == 'undefined'
