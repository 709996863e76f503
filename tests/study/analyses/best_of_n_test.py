"""The best of n, where the proxy and who wins are known."""

import numpy as np
import pytest
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
)

BEST = analyses.BestOfN()
PROMPTS, SAMPLES = 40, 256


def samples(seed, agree=1.0):
  """A quality that is even on (-3, 1), so that a quarter of all win.

  The proxy sees `agree` parts of it, and noise for the rest.
  """
  rng = np.random.default_rng(seed)
  quality = rng.uniform(-3, 1, size=(PROMPTS, SAMPLES))
  noise = rng.uniform(-3, 1, size=(PROMPTS, SAMPLES))
  return {
    'prompt_ids': np.arange(0, 400, 400 // PROMPTS),
    'golden': quality.astype(np.float32),
    'proxy': (agree * quality + (1 - agree) * noise).astype(np.float32),
  }


def study(folder, of_seed=samples, top=0.3):
  made = Synthetic(folder, seeds=(0, 1, 2, 3)).sft(0.25)
  return made.arm('online_ipo', hill(top)).measure('limit', of_seed).evidence


def test_a_proxy_that_sees_all_gains_what_n_samples_can(tmp_path):
  evidence = study(tmp_path)
  found = by_name(BEST.predicates(evidence))
  assert found['B1'].verdict == REPRODUCED
  # The best of 16 loses only where all of them do.
  assert found['B1'].estimate == pytest.approx(0.75 - 0.75**16, abs=0.01)
  assert found['B2'].estimate == 0  # it wins where the golden model says so
  assert found['B4'].verdict == REPRODUCED
  (table,) = BEST.tables(evidence)
  assert [row[0] for row in table.rows] == [
    '1',
    '2',
    '4',
    '8',
    '16',
    '32',
    '64',
  ]
  one, two = table.rows[:2]
  assert one[1] == one[2] == '0.000' and one[3] == one[4]
  assert two[1] == two[2] == '0.193'
  # Of two even numbers on (-3, 1) the larger is -1/3, their mean and median -1.
  assert [float(cell) for cell in two[3:6]] == pytest.approx(
    [-1 / 3, -1, -1], abs=0.05
  )


def test_a_proxy_of_noise_gains_nothing_and_is_fooled(tmp_path):
  evidence = study(tmp_path, lambda seed: samples(seed, agree=0.0), 0.5)
  found = by_name(BEST.predicates(evidence))
  assert found['B1'].verdict != REPRODUCED
  assert found['B2'].verdict == REPRODUCED
  assert found['B2'].estimate == pytest.approx(0.75, abs=0.04)
  assert found['B4'].verdict == CONTRADICTED


def test_the_best_of_n_is_near_the_optimum_for_its_proxy(tmp_path):
  evidence = study(tmp_path, lambda seed: samples(seed, agree=0.6))
  found = by_name(BEST.predicates(evidence))
  assert found['B3'].verdict == REPRODUCED
  assert abs(found['B3'].estimate) < 0.02


def test_both_figures_have_a_line_for_each_of_their_quantities(tmp_path):
  rewards, rates = BEST.figures(study(tmp_path))
  assert [each.label for each in rewards.series] == ['max', 'mean', 'median']
  labels = {each.label for each in rates.series}
  assert {f'best of n, the {who} model' for who in ('proxy', 'golden')} < labels


def test_a_study_without_samples_has_no_verdict(tmp_path):
  made = Synthetic(tmp_path).sft(0.25).arm('online_ipo', hill(0.3))
  found = BEST.predicates(made.evidence)
  assert {each.verdict for each in found} == {NOT_REACHED}
  assert not BEST.figures(made.evidence) and not BEST.tables(made.evidence)


@pytest.mark.parametrize(
  'wrong',
  [{'counts': (2, 4)}, {'counts': (1, 4, 2)}, {'budget': 9.0}, {'budget': 0.0}],
)
def test_what_it_cannot_do_is_refused(wrong):
  with pytest.raises(InputError, match='BestOfN needs'):
    analyses.BestOfN(**wrong)


def test_what_is_kept_is_read_again():
  assert analyses.from_json(analyses.to_json(BEST)) == BEST
