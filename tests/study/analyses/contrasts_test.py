import pytest
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import CONTRADICTED, REPRODUCED

DRAWN = (('rso', 'RSO'), ('direct', 'direct'))
CLAIMS = (
  ('R1', 'RSO is better than direct.', 'Table 1', 'rso', 'direct'),
  ('R0', 'Direct is better than SFT.', 'ours', 'direct', 'sft'),
)
ANALYSIS = analyses.Contrasts('RSO and others', 'rso_grid', DRAWN, CLAIMS)


def study(folder):
  made = Synthetic(folder, seeds=(0, 1, 2, 3), noise=1.0).sft(0.4)
  return made.arm('rso', hill(0.5)).arm('direct', hill(0.3)).evidence


def test_each_claim_is_one_of_two_arms(tmp_path):
  found = by_name(ANALYSIS.predicates(study(tmp_path)))
  assert found['R1'].verdict == REPRODUCED
  assert found['R1'].estimate == pytest.approx(0.2, abs=0.02)
  assert found['R0'].verdict == CONTRADICTED
  assert found['R1'].place == 'Table 1'


def test_a_lead_may_be_asked_to_exceed_another(tmp_path):
  lead = ('M', 'More.', 'Table 2', 'rso', 'direct', 'direct', 'sft')
  asked = analyses.Contrasts('t', 'n', DRAWN, (*CLAIMS, lead))
  found = by_name(asked.predicates(study(tmp_path)))
  assert found['M'].verdict == REPRODUCED
  assert found['M'].estimate == pytest.approx(0.2 - (0.3 - 0.4), abs=0.03)
  assert found['M'].detail.count(' nats') == 4
  assert analyses.from_json(analyses.to_json(asked)) == asked
  with pytest.raises(InputError, match='about kto'):
    analyses.Contrasts('t', 'n', DRAWN, ((*lead[:5], 'kto', 'sft'),))


def test_all_arms_stand_in_one_figure_and_table(tmp_path):
  evidence = study(tmp_path)
  (figure,) = ANALYSIS.figures(evidence)
  assert figure.name == 'rso_grid' and figure.title == 'RSO and others'
  assert {'RSO', 'direct'} < {each.label for each in figure.series}
  best, _ = ANALYSIS.tables(evidence)
  assert best.title == 'RSO and others: all algorithms at their best'
  assert [row[0] for row in best.rows] == ['RSO', 'direct']


def test_what_is_kept_is_read_again():
  assert analyses.from_json(analyses.to_json(ANALYSIS)) == ANALYSIS


def test_a_claim_about_an_arm_that_is_not_drawn_is_refused():
  with pytest.raises(InputError, match='R1 is about dpo'):
    analyses.Contrasts('t', 'n', DRAWN, (('R1', 's', 'p', 'rso', 'dpo'),))
