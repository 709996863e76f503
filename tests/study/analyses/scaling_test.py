import pytest
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
)

METHODS = ('online', 'shuffled', 'offline')
SIZES = tuple(
  (label, count, *(f'{method}_ipo_{label}' for method in METHODS))
  for label, count in (('large', 400e3), ('small', 100e3))
)
SCALING = analyses.Scaling(SIZES)


def study(folder, small, large, at=4.0):
  """Tops of the three methods at each size; `at`, of large, is their KL."""
  made = Synthetic(folder, (0, 1, 2, 3), noise=1.0).sft()
  for label, tops, kl in (('small', small, 4.0), ('large', large, at)):
    for method, top in zip(METHODS, tops):
      made.arm(f'{method}_ipo_{label}', hill(top, kl))
  return made


def found(made):
  return by_name(SCALING.predicates(made.evidence))


def test_sizes_are_kept_smallest_first():
  assert [label for label, *_ in SCALING.sizes] == ['small', 'large']


@pytest.mark.parametrize(
  ('large', 'at', 'verdict'),
  [
    (0.6, 4.0, REPRODUCED),
    (0.4, 4.0, CONTRADICTED),
    (0.5, 4.0, UNDECIDED),
    (0.6, 14.0, CONTRADICTED),  # higher, but at another KL
  ],
)
def test_a_larger_policy_peaks_higher_at_similar_kl(
  tmp_path, large, at, verdict
):
  made = study(tmp_path, (0.5, 0.4, 0.3), (large, 0.4, 0.3), at)
  assert found(made)['P6a'].verdict == verdict


@pytest.mark.parametrize(
  ('large', 'verdict'),
  [
    ((0.6, 0.58, 0.44), REPRODUCED),
    ((0.6, 0.44, 0.58), CONTRADICTED),  # offline closes up faster
    ((0.6, 0.58, 0.34), CONTRADICTED),  # offline falls back
    ((0.6, 0.4, 0.4), UNDECIDED),
  ],
)
def test_the_shuffled_stream_closes_up_faster(tmp_path, large, verdict):
  each = found(study(tmp_path, (0.6, 0.4, 0.4), large))['P6b']
  assert each.verdict == verdict


def test_figures_of_best_win_rates_are_over_doublings(tmp_path):
  made = study(tmp_path, (0.6, 0.4, 0.4), (0.6, 0.58, 0.44))
  figures = {e.name: e for e in SCALING.figures(made.evidence)}
  assert list(figures) == [
    'fig10_online', 'fig10_shuffled', 'fig10_offline', 'fig11', 'fig14',
  ]  # fmt: skip
  online, shuffled, _ = figures['fig11'].series
  assert list(online.x) == [0, 2]  # 400e3 is 100e3 doubled twice
  assert list(online.y) == [1, 1]
  assert shuffled.y[1] > shuffled.y[0]


def test_a_missing_size_is_not_reached(tmp_path):
  made = Synthetic(tmp_path).sft().arm('online_ipo_small', hill(0.5))
  assert {e.verdict for e in found(made).values()} == {NOT_REACHED}


def test_one_size_alone_is_refused():
  with pytest.raises(InputError, match='at least two sizes'):
    analyses.Scaling(SIZES[:1])
