import numpy as np
import pytest
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import CONTRADICTED, NOT_REACHED, REPRODUCED

LOSSES = analyses.Losses((
  ('logistic (DPO)', 'online_dpo', 'offline_dpo'),
  ('hinge', 'online_hinge', 'offline_hinge'),
))  # fmt: skip


def study(folder):
  made = Synthetic(folder).sft()
  made.arm('online_dpo', hill(0.6)).arm('offline_dpo', hill(0.5))
  return made.arm('online_hinge', hill(0.4)).arm('offline_hinge', hill(0.5))


def test_each_loss_has_its_own_verdict(tmp_path):
  found = by_name(LOSSES.predicates(study(tmp_path).evidence))
  assert found['P1c-logistic'].verdict == REPRODUCED
  assert found['P1c-hinge'].verdict == CONTRADICTED


def test_the_figure_is_the_gap_at_equal_kl(tmp_path):
  (figure,) = LOSSES.figures(study(tmp_path).evidence)
  level, logistic, hinge = figure.series
  assert level.y == [0.0]
  np.testing.assert_allclose(np.array(logistic.y)[~np.isnan(logistic.y)], 0.1)
  np.testing.assert_allclose(np.array(hinge.y)[~np.isnan(hinge.y)], -0.1)


def test_a_loss_that_was_not_run_is_not_reached(tmp_path):
  made = Synthetic(tmp_path).arm('online_dpo', hill(0.5))
  found = LOSSES.predicates(made.evidence)
  assert {each.verdict for each in found} == {NOT_REACHED}
  assert not LOSSES.figures(made.evidence)


def test_no_loss_is_refused():
  with pytest.raises(InputError, match='at least one'):
    analyses.Losses(())
