import pytest
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
)

SHOWN = (
  ('online_ipo', 'online IPO', 'Pairs'),
  ('dpo', 'DPO', 'Pairs'),
  ('ppo', 'PPO', 'Policy gradient'),
)
ANALYSIS = analyses.Algorithms(
  SHOWN, 'online_ipo', controls=('nothing', 'random_label'), rewarded=('ppo',)
)


def study(folder):
  made = Synthetic(folder, seeds=(0, 1, 2, 3), noise=1.0)
  made.arm('sft', lambda kl: 0.3, (0.0,), (3e-3, None), utility=lambda kl: 0.0)
  made.arm('online_ipo', hill(0.6, fall=0.05))
  made.arm('dpo', hill(0.2))
  cost = {
    'train_flops': lambda kl: 1e9 * kl,
    'sampled_tokens': lambda kl: int(1e3 * kl),
    'proxy_win_rate': lambda kl: 0.9,
  }
  made.arm('ppo', hill(0.5), utility=lambda kl: -kl / 10, **cost)
  made.arm('nothing', lambda kl: 0.3, (0.0,))
  return made.arm('random_label', lambda kl: 0.3 - kl / 10, (1.0, 3.0))


def test_each_is_held_against_the_sft_policy(tmp_path):
  found = by_name(ANALYSIS.predicates(study(tmp_path).evidence))
  assert found['A-online_ipo'].verdict == REPRODUCED
  assert found['A-online_ipo'].estimate == pytest.approx(0.3, abs=0.02)
  assert found['A-dpo'].verdict == CONTRADICTED
  assert found['A-ppo'].verdict == REPRODUCED


def test_what_wins_may_have_less_hidden_utility(tmp_path):
  found = by_name(ANALYSIS.predicates(study(tmp_path).evidence))
  assert found['U-ppo'].verdict == CONTRADICTED
  assert found['U-ppo'].estimate == pytest.approx(-0.4, abs=0.05)  # 4 nats


def test_controls_must_be_the_sft_policy(tmp_path):
  found = by_name(ANALYSIS.predicates(study(tmp_path).evidence))
  assert found['C-nothing'].verdict == REPRODUCED
  assert found['C-random_label'].verdict == CONTRADICTED


def test_tables_have_the_best_first_and_the_best_by_kl(tmp_path):
  best, by_kl = ANALYSIS.tables(study(tmp_path).evidence)
  order = [row[0] for row in best.rows]
  assert order[:3] == ['online IPO', 'PPO', 'nothing (control)']
  assert order == [row[0] for row in by_kl.rows]
  ppo = dict(zip(best.header, best.rows[1]))
  assert float(ppo['KL, nats']) == pytest.approx(4.36, abs=0.05)
  assert float(ppo['hidden utility']) == pytest.approx(-0.436, abs=0.01)
  assert ppo['by the proxy'] == '0.900'
  assert ppo['sampled tokens'] == '4,362'
  assert dict(zip(best.header, best.rows[2]))['sampled tokens'] == '–'
  ppo = dict(zip(by_kl.header, by_kl.rows[1]))
  highest = {n: float(x.split()[0]) for n, x in ppo.items() if x != 'PPO'}
  assert max(highest, key=lambda n: highest[n]) == '4 to 8 nats'
  of_label = by_kl.rows[order.index('random_label (control)')]
  assert of_label[-1] == '–'  # it goes to 3 nats


def test_a_family_is_a_figure_beside_one_that_all_stand_by(tmp_path):
  figures = {f.name: f for f in ANALYSIS.figures(study(tmp_path).evidence)}
  assert list(figures) == [
    'algorithms',
    'algorithms_pairs',
    'algorithms_policy_gradient',
    'algorithms_policy_gradient_flops',
    'algorithms_policy_gradient_tokens',
  ]
  labels = [each.label for each in figures['algorithms_policy_gradient'].series]
  assert 'online IPO, best' in labels and 'PPO' in labels
  top = {each.label: each.y[0] for each in figures['algorithms'].series}
  assert top['online IPO'] > top['PPO'] > top['DPO']


def test_a_study_without_an_arm_does_not_reach_it(tmp_path):
  evidence = Synthetic(tmp_path).sft().evidence
  found = ANALYSIS.predicates(evidence)
  assert {each.verdict for each in found} == {NOT_REACHED}
  assert not ANALYSIS.tables(evidence)


def test_what_is_kept_is_read_again():
  kept = analyses.to_json(ANALYSIS)
  assert analyses.from_json(kept) == ANALYSIS


def test_arms_that_are_not_shown_are_refused():
  with pytest.raises(InputError, match='reads ipo of them'):
    analyses.Algorithms(SHOWN, 'ipo')
