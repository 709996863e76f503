import pytest
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.study import analyses
from dap.study.reading.evidence import CONTRADICTED, NOT_REACHED, REPRODUCED

IPO = ('online_ipo', 'shuffled_ipo', 'offline_ipo')
BO2 = tuple(arm.replace('ipo', 'best_of_two') for arm in IPO)
BEST_OF_TWO = analyses.NonContrastive(*BO2, IPO)


def study(folder, best_of_two, ipo=(0.6, 0.42, 0.4)):
  """Tops of online, shuffled and offline with each loss."""
  made = Synthetic(folder, noise=1.0).sft()
  for arms, tops in ((BO2, best_of_two), (IPO, ipo)):
    for arm, top in zip(arms, tops):
      setting = (1e-3, 0.1) if arms is IPO else (5e-5, None)
      made.arm(arm, hill(top), setting=setting)
  return by_name(BEST_OF_TWO.predicates(made.evidence))


@pytest.mark.parametrize(
  ('online', 'verdict'), [(0.5, REPRODUCED), (0.3, CONTRADICTED)]
)
def test_the_gap_is_there_without_contrast(tmp_path, online, verdict):
  assert study(tmp_path, (online, 0.4, 0.4))['P5a'].verdict == verdict


def test_coverage_explains_best_of_two_better(tmp_path):
  found = study(tmp_path, (0.5, 0.5, 0.4))['P5b']
  assert found.verdict == REPRODUCED
  # All of the gap against a tenth of it.
  assert found.low < 0.9 < found.high


def test_coverage_that_explains_neither_contradicts(tmp_path):
  assert study(tmp_path, (0.5, 0.4, 0.4))['P5b'].verdict == CONTRADICTED


def test_without_a_gap_there_is_no_share_of_it(tmp_path):
  found = study(tmp_path, (0.4, 0.4, 0.4))
  assert found['P5b'].verdict == NOT_REACHED


def test_figure_9_has_ipo_behind(tmp_path):
  made = Synthetic(tmp_path).sft()
  for arm in (*BO2, *IPO):
    made.arm(arm, hill(0.5))
  (figure,) = BEST_OF_TWO.figures(made.evidence)
  dots = [e.label for e in figure.series if e.kind == 'points']
  assert all('Best-of-2' in label for label in dots) and len(dots) == 3
  bands = [e.label for e in figure.series if e.kind == 'band']
  losses = [label.split()[0] for label in bands]
  assert losses == 3 * ['Best-of-2'] + 3 * ['IPO']
