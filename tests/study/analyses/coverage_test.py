import numpy as np
import pytest
from study.analyses.synthetic import SETTING, Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
)

ORDERS = (
  ('none', 'unshuffled_ipo'),
  ('every 4', 'window_4_ipo'),
  ('every 64', 'window_64_ipo'),
  ('uniform', 'shuffled_ipo'),
)
TOPS = [arm.removesuffix('_ipo') for _, arm in ORDERS]
COVERAGE = analyses.Coverage(
  'online_ipo', 'offline_ipo', 'shuffled_ipo', ORDERS, SETTING
)


def study(folder, noise=0.0, **tops):
  made = Synthetic(folder, noise=noise).sft()
  for arm, top in tops.items():
    made.arm(f'{arm}_ipo', hill(top))
  return made


def replay(losses=(0.0, 0.0), equal=True):
  """A measure whose repetition is off by a share of each loss."""
  run = np.array([0.25, 0.2])
  return lambda seed: {
    'step': np.array([10, 20]),
    'loss_run': run,
    'loss_replay': run * (1 + np.array(losses)),
    'checkpoint': np.array([10, 20]),
    'equal_params': np.array([True, equal]),
  }


def one(evidence, name):
  return by_name(COVERAGE.predicates(evidence))[name]


@pytest.mark.parametrize(
  ('shuffled', 'verdict'),
  [(0.42, REPRODUCED), (0.5, UNDECIDED), (0.58, CONTRADICTED)],
)
def test_coverage_explains_less_than_half_of_the_gap(
  tmp_path, shuffled, verdict
):
  made = study(tmp_path, online=0.6, offline=0.4, shuffled=shuffled)
  found = one(made.evidence, 'P2a')
  assert found.verdict == verdict
  share = (shuffled - 0.4) / 0.2
  assert f'recovered: {share:.2f}'[:-1] in found.detail  # to the noise


def test_without_a_gap_no_share_of_it_can_be_recovered(tmp_path):
  made = study(tmp_path, online=0.5, offline=0.5, shuffled=0.45)
  found = one(made.evidence, 'P2a')
  assert found.verdict == NOT_REACHED and 'undefined' in found.detail


def test_equal_bits_are_a_repetition(tmp_path):
  made = study(tmp_path, online=0.6).measure('replay', replay())
  found = one(made.evidence, 'P2c')
  assert (found.verdict, found.estimate) == (REPRODUCED, 0.0)
  assert '4 of 4 checkpoints' in found.detail


@pytest.mark.parametrize(
  ('losses', 'unshuffled', 'verdict'),
  [
    ((0, 5e-4), 0.6, REPRODUCED),
    ((0, 5e-3), 0.6, CONTRADICTED),
    ((0, 5e-4), 0.5, CONTRADICTED),
  ],
)
def test_without_equal_bits_losses_and_win_rates_are_near(
  tmp_path, losses, unshuffled, verdict
):
  made = study(tmp_path, 1.0, online=0.6, unshuffled=unshuffled)
  made.measure('replay', replay(losses, equal=False))
  found = one(made.evidence, 'P2c')
  assert found.verdict == verdict
  np.testing.assert_allclose(found.estimate, losses[1])


def test_without_its_measure_a_repetition_is_not_reached(tmp_path):
  found = one(study(tmp_path, online=0.6).evidence, 'P2c')
  assert found.verdict == NOT_REACHED and 'replay' in found.detail


@pytest.mark.parametrize(
  ('rates', 'verdict'),
  [
    ((0.6, 0.6, 0.58, 0.5), REPRODUCED),
    ((0.6, 0.5, 0.55, 0.5), CONTRADICTED),  # the smallest shuffle hurts
    ((0.6, 0.6, 0.7, 0.5), CONTRADICTED),  # a shuffle helps
    ((0.6, 0.6, 0.6, 0.6), UNDECIDED),  # the uniform one does not hurt
  ],
)
def test_small_shuffles_are_harmless_and_a_uniform_one_is_not(
  tmp_path, rates, verdict
):
  made = study(tmp_path, 1.0, **dict(zip(TOPS, rates)))
  assert one(made.evidence, 'P2d').verdict == verdict


def test_claims_of_chat_arena_are_not_reached(tmp_path):
  assert one(study(tmp_path).evidence, 'P2b').verdict == NOT_REACHED


def test_figures_show_three_arms_and_four_orders(tmp_path):
  arms = [
    'online',
    'offline',
    'shuffled',
    'unshuffled',
    'window_4',
    'window_64',
  ]
  made = study(tmp_path, **dict.fromkeys(arms, 0.5))
  coverage, orders = COVERAGE.figures(made.evidence)
  roles = {e.role for e in coverage.series if e.kind == 'points'}
  assert roles == {'online', 'offline', 'shuffled'}
  labels = [e.label for e in orders.series if e.kind == 'points']
  assert labels == [label for label, _ in ORDERS]


def test_orders_that_are_too_few_are_refused():
  with pytest.raises(InputError, match='at least three orders'):
    analyses.Coverage('a', 'b', 'c', ORDERS[:2], SETTING)
