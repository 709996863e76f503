import pytest
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import CONTRADICTED, REPRODUCED, UNDECIDED

STALENESS = analyses.Staleness(
  'online_ipo', 'offline_ipo', ((16, 'stale_16_ipo'), (4, 'stale_4_ipo'))
)


def study(folder, *tops):
  made = Synthetic(folder).sft()
  for arm, top in zip(STALENESS.arms, tops):
    made.arm(arm, hill(top))
  return made.evidence


@pytest.mark.parametrize(
  ('tops', 'verdict'),
  [
    ((0.6, 0.5, 0.4), REPRODUCED),
    ((0.5, 0.5, 0.5), UNDECIDED),
    ((0.4, 0.5, 0.6), CONTRADICTED),
  ],
)
def test_older_samples_lower_the_peak(tmp_path, tops, verdict):
  found = by_name(STALENESS.predicates(study(tmp_path, *tops, 0.3)))['S1-k']
  assert found.verdict == verdict
  # From 1 to 16 are four doublings.
  assert found.estimate == pytest.approx((tops[0] - tops[2]) / 4, abs=0.01)


@pytest.mark.parametrize(
  ('offline', 'verdict'), [(0.3, REPRODUCED), (0.5, CONTRADICTED)]
)
def test_the_stalest_is_compared_with_offline(tmp_path, offline, verdict):
  found = by_name(STALENESS.predicates(study(tmp_path, 0.6, 0.5, 0.4, offline)))
  assert found['S2-k'].verdict == verdict


def test_the_figure_is_over_the_steps_between_refreshes(tmp_path):
  (figure,) = STALENESS.figures(study(tmp_path, 0.6, 0.5, 0.4, 0.3))
  online, offline = figure.series
  assert list(online.x) == [1, 4, 16]
  assert online.y[0] > online.y[1] > online.y[2] > offline.y[0]


def test_a_refresh_at_every_step_is_refused():
  with pytest.raises(InputError, match='at every step already'):
    analyses.Staleness('online_ipo', 'offline_ipo', ((1, 'stale_1_ipo'),))
