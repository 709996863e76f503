import pytest
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.study import analyses
from dap.study.reading.evidence import CONTRADICTED, REPRODUCED, UNDECIDED

ARMS = ('sft_early_ipo', 'early_late_ipo', 'late_late_ipo', 'offline_ipo')
DATA = analyses.OnPolicyData(*ARMS)


def found(folder, *tops, num_prompts=1200):
  made = Synthetic(folder, num_prompts=num_prompts, noise=1.0).sft()
  for arm, top in zip(ARMS, tops):
    made.arm(arm, hill(top))
  return by_name(DATA.predicates(made.evidence))


@pytest.mark.parametrize(
  ('sft_early', 'verdict'),
  [(0.5, REPRODUCED), (0.4, UNDECIDED), (0.3, CONTRADICTED)],
)
def test_the_sft_policy_on_one_side_helps(tmp_path, sft_early, verdict):
  each = found(tmp_path, sft_early, 0.4, 0.4, 0.4)['P7a']
  assert each.verdict == verdict


@pytest.mark.parametrize(
  ('early_late', 'verdict'),
  [(0.35, REPRODUCED), (0.43, UNDECIDED), (0.5, CONTRADICTED)],
)
def test_contrast_alone_does_not_help(tmp_path, early_late, verdict):
  each = found(tmp_path, 0.5, early_late, 0.4, 0.4)['P7b']
  assert each.verdict == verdict


@pytest.mark.parametrize(
  ('golden', 'verdict'), [(0.5, REPRODUCED), (0.4, CONTRADICTED)]
)
def test_one_side_against_d_golden_is_unsettled(tmp_path, golden, verdict):
  assert found(tmp_path, 0.5, 0.4, 0.4, golden)['P7c'].verdict == verdict


def test_figure_12_has_online_behind(tmp_path):
  made = Synthetic(tmp_path).sft().arm('online_ipo', hill(0.6))
  for arm in ARMS:
    made.arm(arm, hill(0.5))
  (figure,) = DATA.figures(made.evidence)
  bands = [e.role for e in figure.series if e.kind == 'band']
  assert bands == ['offline', 'sft_early', 'early_late', 'late', 'online']
