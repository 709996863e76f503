import numpy as np
import pytest
from study.analyses.synthetic import KLS, Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
)

GAP = analyses.Gap()


def study(folder, online, offline, **more):
  made = Synthetic(folder, **more).sft()
  return made.arm('online_ipo', online).arm('offline_ipo', offline).evidence


def predicates(evidence, analysis=GAP):
  return by_name(analysis.predicates(evidence))


def test_a_planted_gap_is_found_at_its_size(tmp_path):
  found = predicates(study(tmp_path, hill(0.6), hill(0.5)))
  for name in ('P1c', 'P1c-n', 'P1d', 'P1d-b'):
    assert found[name].verdict == REPRODUCED, name
    assert found[name].low < 0.1 < found[name].high, name
    assert found[name].by_seed.keys() == {0, 1}
    assert found[name].conditional
  primary = [name for name, each in found.items() if each.primary]
  assert primary == ['P1d']


@pytest.mark.parametrize(
  ('offline', 'verdict'), [(0.6, UNDECIDED), (0.7, CONTRADICTED)]
)
def test_no_gap_is_undecided_and_a_reversed_one_contradicts(
  tmp_path, offline, verdict
):
  found = predicates(study(tmp_path, hill(0.6), hill(offline)))
  for name in ('P1c', 'P1c-n', 'P1d', 'P1d-b'):
    assert found[name].verdict == verdict, name


def test_four_seeds_speak_of_the_algorithm(tmp_path):
  evidence = study(tmp_path, hill(0.6), hill(0.5), seeds=(0, 1, 2, 3))
  assert not predicates(evidence)['P1d'].conditional


def test_over_optimisation_is_the_fall_past_the_peak(tmp_path):
  found = predicates(
    study(tmp_path, hill(0.6, fall=0.2), lambda kl: 0.1 + 0.1 * np.log(kl + 1))
  )
  # The peak near 4 nats, the end at 16: 0.2 ln 4 = 0.28.
  assert found['P1a'].verdict == REPRODUCED
  assert found['P1a'].low < 0.28 < found['P1a'].high
  # Offline rises to its end, which is its peak.
  assert found['P1b'].verdict == NOT_REACHED
  assert 'did not go past a peak' in found['P1b'].detail


def test_hidden_utility_may_fall_while_the_win_rate_does_not(tmp_path):
  made = Synthetic(tmp_path, noise=1.0).sft()
  made.arm('online_ipo', lambda kl: 0.5, utility=lambda kl: 3 - 0.1 * kl)
  made.arm('offline_ipo', lambda kl: 0.5, utility=lambda kl: 0.1 * kl)
  found = predicates(made.evidence)
  # Best at KL 0.5 and worst at 16: 0.1 (16 - 0.5) = 1.55.
  assert found['P1a-u'].verdict == REPRODUCED
  np.testing.assert_allclose(found['P1a-u'].estimate, 1.55, atol=0.02)
  assert found['P1a-u'].place == 'ours'
  assert found['P1b-u'].verdict == NOT_REACHED


def test_without_hidden_utility_its_claims_are_not_reached(tmp_path):
  found = predicates(study(tmp_path, hill(0.6), hill(0.5)))
  assert found['P1a-u'].verdict == NOT_REACHED
  assert 'no hidden utility' in found['P1a-u'].detail


def test_many_checkpoints_owe_part_of_their_peak_to_their_number(tmp_path):
  made = Synthetic(tmp_path).sft().arm('online_ipo', lambda kl: 0.5, (4.0,))
  # One of twelve offline checkpoints is as good, the others are far worse.
  made.arm('offline_ipo', lambda kl: 0.5 if kl == KLS[3] else 0.1)
  found = predicates(made.evidence)
  assert found['P1c'].verdict == UNDECIDED
  assert found['P1c-n'].verdict == REPRODUCED
  # One of twelve draws finds it: 0.5 - (0.5 + 11 * 0.1) / 12.
  assert found['P1c-n'].low < 0.3667 < found['P1c-n'].high


def test_within_a_budget_arms_meet_that_share_no_window(tmp_path):
  made = Synthetic(tmp_path).sft()
  made.arm('online_ipo', hill(0.6), (2.1, 7.0))
  made.arm('offline_ipo', hill(0.5), (1.2, 14.0))
  found = predicates(made.evidence)
  assert found['P1d'].verdict == NOT_REACHED
  # Of budgets up to 5 nats those from 2.1 hold both: the same two checkpoints.
  online, offline = hill(0.6)(2.1), hill(0.5)(1.2)
  assert found['P1d-b'].estimate == pytest.approx(online - offline, abs=0.01)
  assert (
    'Budgets with checkpoints of both, of 10: 6, 6' in found['P1d-b'].detail
  )


def test_missing_arms_and_ranges_are_not_reached_and_named(tmp_path):
  made = Synthetic(tmp_path).sft().arm('online_ipo', hill(0.6))
  found = predicates(made.evidence)
  assert found['P1d'].verdict == NOT_REACHED and found['P1d'].primary
  assert 'offline_ipo' in found['P1d'].detail
  far = analyses.Gap(kl_range=(100.0, 200.0))
  made.arm('offline_ipo', hill(0.5))
  assert predicates(made.evidence, far)['P1d'].verdict == NOT_REACHED


def test_seeds_that_lack_an_arm_are_named(tmp_path):
  made = Synthetic(tmp_path, seeds=(0, 1)).arm('online_ipo', hill(0.6))
  made.seeds = (1,)
  made.arm('offline_ipo', hill(0.5))
  found = predicates(made.evidence)['P1c']
  assert found.by_seed.keys() == {1}
  assert 'Without seed 0' in found.detail


def test_claims_about_several_data_sets_are_not_reached(tmp_path):
  found = predicates(study(tmp_path, hill(0.6), hill(0.5)))['P1e']
  assert found.verdict == NOT_REACHED and 'data sets' in found.detail


def test_equal_studies_have_equal_predicates(tmp_path):
  evidence = study(tmp_path, hill(0.6), hill(0.5))
  assert GAP.predicates(evidence) == GAP.predicates(evidence)


def test_figures_show_what_points_have(tmp_path):
  made = Synthetic(tmp_path).sft()
  made.arm('golden_policy', lambda kl: 0.5, (4.0,))
  for arm, top, tokens in (('online_ipo', 0.6, 100), ('offline_ipo', 0.5, 0)):
    made.arm(
      arm,
      hill(top),
      proxy_win_rate=lambda kl: 0.9,
      response_length=lambda kl: 14.0,
      sampled_tokens=lambda kl, tokens=tokens: int(tokens * kl),
      train_flops=lambda kl: 1e9 * kl,
    )
  figures = {each.name: each for each in GAP.figures(made.evidence)}
  assert list(figures) == [
    'fig1', 'fig1_proxy_win_rate', 'fig1_response_length', 'fig1_tokens',
    'fig1_flops', 'fig1_fits',
  ]  # fmt: skip
  kinds = [(each.role, each.kind) for each in figures['fig1'].series]
  assert kinds == [
    ('sft', 'level'), ('online', 'points'), ('offline', 'points'),
    ('golden', 'points'), ('online', 'band'), ('offline', 'band'),
  ]  # fmt: skip
  dots = figures['fig1'].series[1]
  assert len(dots.points) == len(dots.x) == 2 * len(KLS)
  # Offline samples nothing: a level, not marks at 0 of a logarithmic axis.
  tokens = [(e.role, e.kind) for e in figures['fig1_tokens'].series]
  assert ('offline', 'level') in tokens and ('offline', 'points') not in tokens


def test_fits_find_the_coefficients_of_a_curve(tmp_path):
  made = Synthetic(tmp_path, num_prompts=4000, noise=1.0).sft(0.1)
  for rate in (1e-3, 2e-3, 3e-3):  # d (0.2 - 0.03 d)
    curve = lambda kl: 0.1 + np.sqrt(kl) * (0.2 - 0.03 * np.sqrt(kl))
    made.arm('online_ipo', curve, setting=(rate, 0.1))
  caption = GAP.figures(made.evidence)[-1].caption
  assert 'online, d (α − β d): α 0.20' in caption
  assert ', β 0.030 [0.030, 0.030]. online, d (α − β ln d)' in caption


def test_a_study_without_checkpoints_has_no_figures(tmp_path):
  assert not GAP.figures(Synthetic(tmp_path).sft().evidence)


@pytest.mark.parametrize(
  'changed',
  [{'kl_range': (3.0, 2.0)}, {'num_windows': 0}, {'online': 'offline_ipo'},
   {'offline': 'No such'}],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(changed):
  with pytest.raises(InputError, match='Gap|gap'):
    analyses.Gap(**changed)


def test_arms_asked_other_prompts_are_refused(tmp_path):
  made = Synthetic(tmp_path, num_prompts=400).arm('online_ipo', hill(0.6))
  made.num_prompts = 300
  made.arm('offline_ipo', hill(0.5))
  with pytest.raises(InputError, match='offline_ipo was asked other prompts'):
    GAP.predicates(made.evidence)
