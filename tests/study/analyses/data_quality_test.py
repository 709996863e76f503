import pytest
from study.analyses.synthetic import SETTING, Synthetic, by_name, hill

from dap.study import analyses
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
)

QUALITY = analyses.DataQuality(
  offline='offline_ipo', late='late_late_ipo', setting=SETTING
)


def study(folder, late, offline=0.4, writer=0.6, sft=0.1):
  made = Synthetic(folder).sft(sft)
  made.arm('online_ipo', lambda kl: writer)
  made.arm('offline_ipo', hill(offline))
  return made.arm('late_late_ipo', hill(late))


@pytest.mark.parametrize(
  ('late', 'sft', 'verdict'),
  [
    (0.35, 0.1, REPRODUCED),
    (0.5, 0.1, CONTRADICTED),  # better data do help
    (0.35, 0.5, CONTRADICTED),  # not above the SFT policy
    (0.42, 0.1, UNDECIDED),  # at the margin
  ],
)
def test_better_responses_do_not_help(tmp_path, late, sft, verdict):
  found = by_name(QUALITY.predicates(study(tmp_path, late, sft=sft).evidence))
  assert found['P3a'].verdict == verdict


def test_the_writer_of_the_pairs_must_be_known(tmp_path):
  made = study(tmp_path, 0.35)
  made.arm('online_ipo', hill(0.6), setting=(2e-3, 0.1))
  unnamed = analyses.DataQuality('offline_ipo', 'late_late_ipo')
  (found,) = unnamed.predicates(made.evidence)
  assert found.verdict == NOT_REACHED and '2 runs' in found.detail
  assert QUALITY.predicates(made.evidence)[0].verdict == REPRODUCED


def test_figure_5_has_the_writer_as_a_level(tmp_path):
  (figure,) = QUALITY.figures(study(tmp_path, 0.35).evidence)
  levels = {e.role: e.y[0] for e in figure.series if e.kind == 'level'}
  assert levels == pytest.approx({'sft': 0.1, 'online': 0.6}, abs=0.01)
