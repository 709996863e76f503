import json
import os

import numpy as np
import pytest

from dap import files
from dap.errors import InputError
from dap.study import findings, points, report
from dap.study.points import Point

RATE = {'value': 0.88, 'low': 0.86, 'high': 0.9, 'count': 1000}
STUDY = {
  'title': 'Online against offline',
  'data_set': 'EmbeddedCorpus',
  'kl_range': [1.0, 6.0],
  'golden': {**RATE, 'against_truth': {**RATE, 'value': 0.89}},
  'proxy': RATE,
  'sft': {'loss': 1.25, 'unigram_loss': 3.5},
  'baselines': {'choose_longer': {**RATE, 'value': 0.55}},
  'samples': [{'prompt': 'p & q', 'sft': 'a', 'online': 'b', 'golden': 'c'}],
  'config': {'beta': 0.1},
  'caveats': ['Tuned on seed 0.'],
}


def study(folder, rates, seeds=(0, 1), described=True):
  """A study whose arms win at `rates` at every KL from 0.5 to 8."""
  num_prompts, lines = 200, []
  for seed in seeds:
    lines.append(Point('sft', 'sft', seed, 600, win_rate=0.08))
    for arm, rate in rates.items():
      for step, kl in enumerate(np.geomspace(0.5, 8.0, 15)):
        rng = np.random.default_rng([seed, step, len(arm)])
        wins = rng.random(num_prompts) < rate
        name = f'{arm}-{seed}-{step}.npz'
        np.savez(
          folder / name,
          prompt_ids=np.arange(num_prompts),
          golden_p_ab=wins * 1.0,
          golden_p_ba=1.0 - wins,
        )
        lines.append(
          Point(
            arm,
            arm,
            seed,
            step,
            lr=1e-3,
            beta=0.1,
            kl_nats=float(kl),
            win_rate=float(np.mean(wins)),
            truncated_fraction=0.1,
            per_prompt=name,
          )
        )
  points.write(folder / 'runs.jsonl', lines)
  if described:
    files.write_json(folder / 'study.json', STUDY)
    files.append_json_lines(
      folder / 'costs.jsonl', [{'stage': 'sft', 'seconds': 61.0}] * 2
    )
  return str(folder)


def test_the_report_says_who_is_ahead_and_what_was_run(tmp_path, capsys):
  report.report(study_dir=study(tmp_path, {'online': 0.6, 'offline': 0.4}))
  text = (tmp_path / 'report.md').read_text()
  assert text.startswith(
    '# Online against offline: EmbeddedCorpus, seeds 0, 1\n\n**At equal KL,'
    ' between 1 and 6 nats of KL, online is ahead by 0.'
  )
  for expected in (
    '![Each dot',
    '| 1.5 to 2.25 |',
    '| golden model: against truth | 0.890 [0.860, 0.900] |',
    '| SFT policy: unigram loss | 3.500 |',
    '| baseline: choose longer | 0.550',
    '    online   b\n',
    '"beta": 0.1',
    '2:02 in all',
    '- Tuned on seed 0.',
    '- 2 of the 4 seeds',
    '- Up to 10% of the responses',
    'All 62 points',
  ):
    assert expected in text
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<svg') == 2 and 'p &amp; q' in page
  assert 'report.html' in capsys.readouterr().out


def test_the_report_of_equal_results_is_equal(tmp_path):
  folder = study(tmp_path, {'online': 0.5, 'offline': 0.5}, seeds=(0,))
  written = []
  for _ in range(2):
    report.report(study_dir=folder)
    names = ('report.md', 'report.html', 'frontier.png', 'frontier.svg')
    written.append([(tmp_path / name).read_bytes() for name in names])
  assert written[0] == written[1]


@pytest.mark.parametrize(
  ('rates', 'begins'),
  [
    ({'online': 0.2, 'offline': 0.8}, 'offline is ahead by 0.'),
    ({'online': 0.5, 'offline': 0.5}, 'no difference is shown'),
  ],
)
def test_the_headline_goes_with_the_interval(tmp_path, rates, begins):
  results = report.load(tmp_path / study(tmp_path, rates))
  gap = findings.main_gap(results)
  assert f'nats of KL, {begins}' in findings.headline(results, gap)


def test_one_arm_and_no_description_are_enough(tmp_path):
  folder = study(tmp_path, {'online': 0.5}, seeds=(0,), described=False)
  report.report(study_dir=folder)
  text = (tmp_path / 'report.md').read_text()
  assert 'Only one arm has points' in text
  assert 'Samples' not in text and 'Costs' not in text


def test_points_without_arrays_still_make_a_report(tmp_path):
  lines = [
    Point('a', 'online', 0, 1, kl_nats=1.0, win_rate=0.5),
    Point('b', 'offline', 0, 1, kl_nats=1.0, win_rate=0.4),
  ]
  points.write(tmp_path / 'runs.jsonl', lines)
  report.report(study_dir=str(tmp_path))
  text = (tmp_path / 'report.md').read_text()
  assert 'no arrays by prompt' in text


def test_a_dry_run_writes_nothing(tmp_path, capsys):
  folder = study(tmp_path, {'online': 0.5, 'offline': 0.5})
  before = sorted(os.listdir(folder))
  report.dry_run(study_dir=folder)
  assert sorted(os.listdir(folder)) == before
  assert '62 points (30 online, 30 offline, 2 sft)' in capsys.readouterr().out


def test_a_folder_without_points_is_refused(tmp_path):
  with pytest.raises(InputError, match='runs.jsonl is not there.*dap study'):
    report.report(study_dir=str(tmp_path))


def test_a_description_that_is_not_an_object_is_refused(tmp_path):
  folder = study(tmp_path, {'online': 0.5}, seeds=(0,))
  (tmp_path / 'study.json').write_text(json.dumps([1]))
  with pytest.raises(InputError, match='study.json needs to be an object'):
    report.report(study_dir=folder)
