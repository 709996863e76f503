import numpy as np
import pytest
from study.analyses.synthetic import Synthetic, by_name

from dap import errors
from dap.study import analyses
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
)

KL = np.array([0.5, 3.0, 6.0, 20.0])
PAIRS = 1500
SEEDS = (0, 1, 2, 3)


def asked(right, bias=lambda kl: 0.0):
  """Arrays of a measure: agreement and bias are functions of the KL."""

  def of_seed(seed):
    rng = np.random.default_rng(seed)
    shape = len(KL), PAIRS
    wins = 0.5 + np.array([bias(kl) for kl in KL])[:, None]
    found = {}
    for arm in ('online_ipo', 'offline_ipo'):
      ease = rng.random(shape)
      moved = np.where(rng.random(shape) < 0.1, rng.random(shape), ease)
      chance = np.array([right(kl) for kl in KL])[:, None]
      found |= {
        f'kl/{arm}': KL,
        f'right/{arm}': (rng.random(shape) < chance) * 1.0,
        f'counted/{arm}': rng.random(shape) < 0.9,
        f'golden_wins/{arm}': (moved < wins) * 1.0,
        f'true_wins/{arm}': (ease < 0.5) * 1.0,
      }
    return found

  return of_seed


def study(folder, right=lambda kl: 0.92, bias=lambda kl: 0.0, utility=None):
  made = Synthetic(folder, seeds=SEEDS, noise=1.0).sft()
  more = {'utility': utility} if utility else {}
  for arm in ('online_ipo', 'offline_ipo'):
    made.arm(arm, lambda kl: 0.1 + 0.05 * np.log1p(kl), **more)
  return made.measure('agreement', asked(right, bias)).evidence


def predicates(evidence):
  return by_name(analyses.Judge().predicates(evidence))


def test_a_good_judge_agrees_at_every_kl_and_has_no_bias(tmp_path):
  evidence = study(tmp_path, utility=lambda kl: kl)
  found = predicates(evidence)
  assert found['J1-k'].verdict == REPRODUCED
  assert 0.86 < found['J1-k'].estimate < 0.94
  assert found['J2-k'].verdict == REPRODUCED
  assert found['J3-k'].verdict == REPRODUCED
  assert analyses.Judge().cautions(evidence) == []


def test_a_judge_that_is_fooled_far_away_is_told_where(tmp_path):
  evidence = study(
    tmp_path,
    right=lambda kl: 0.92 if kl < 4 else 0.75,
    bias=lambda kl: 0.0 if kl < 4 else 0.2,
    utility=lambda kl: -kl,
  )
  found = predicates(evidence)
  for name in ('J1-k', 'J2-k', 'J3-k'):
    assert found[name].verdict == CONTRADICTED, name
  (said,) = analyses.Judge().cautions(evidence)
  assert 'from 4 to 8 nats' in said and 'from 2 to 4' not in said


def test_what_lies_beyond_the_last_edge_is_not_counted(tmp_path):
  evidence = study(tmp_path, right=lambda kl: 0.92 if kl < 16 else 0.1)
  assert predicates(evidence)['J1-k'].verdict == REPRODUCED


def test_the_figure_has_a_mark_for_each_bin_with_pairs(tmp_path):
  agreement, bias = analyses.Judge().figures(study(tmp_path))
  assert agreement.name == 'judge_agreement' and bias.name == 'judge_bias'
  online = agreement.series[0]
  np.testing.assert_allclose(online.x, [0.5, np.sqrt(8), np.sqrt(32)])
  assert np.all(np.array(online.low) < online.y)


def test_data_without_a_truth_reach_nothing(tmp_path):
  made = Synthetic(tmp_path, seeds=SEEDS).sft().arm('online_ipo', np.tanh)
  evidence = made.arm('offline_ipo', np.tanh).measure(
    'agreement', lambda seed: {}
  )
  judge = analyses.Judge()
  for predicate in judge.predicates(evidence.evidence):
    assert predicate.verdict == NOT_REACHED
  assert judge.figures(evidence.evidence) == []
  assert judge.cautions(evidence.evidence) == []


def test_edges_ascend():
  with pytest.raises(errors.InputError, match='edges ascend'):
    analyses.Judge(edges=(1.0, 0.5))
