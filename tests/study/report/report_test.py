import dataclasses
import json
import os

import numpy as np
import pytest
import report_parts
from report_parts import figure, points, results

from dap import files
from dap.errors import InputError
from dap.stages import modules
from dap.study import analyses
from dap.study.reading import runs as points_lib
from dap.study.reading.evidence import Evidence
from dap.study.reading.runs import Point
from dap.study.report import report
from dap.study.report.findings import Answer

RATE = {'value': 0.88, 'low': 0.86, 'high': 0.9, 'count': 1000}
GAP = analyses.Gap('online', 'offline', kl_range=(1.0, 6.0))
PAGES = ('report.html', 'report.md', 'verdicts.json')


@dataclasses.dataclass(frozen=True)
class DataOrder:
  """An analysis of one arm and one measure that says nothing."""

  replay: str = 'replay'
  arms = ('online',)

  def predicates(self, evidence):
    return []

  def figures(self, evidence):
    return []


def study(folder, rates, seeds=(0, 1), described=True):
  """A study whose arms win at `rates` at every KL from 0.5 to 8."""
  num_prompts, lines = 200, []
  for seed in seeds:
    lines.append(Point('sft', 'sft', seed, 0, win_rate=0.08))
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
            scalars={'beta': 0.1},
            kl_nats=float(kl),
            win_rate=float(np.mean(wins)),
            per_prompt=name,
          )
        )
  points_lib.write(folder / 'runs.jsonl', lines)
  if described:
    kept = {**report_parts.STUDY, 'analyses': [analyses.to_json(GAP)]}
    files.write_json(folder / 'study.json', kept)
    files.write_json(folder / 'samples.json', report_parts.samples(lines))
    files.append_json_lines(
      folder / 'costs.jsonl', [{'stage': 'sft', 'seconds': 61.0}] * 2
    )
  return str(folder)


def test_a_study_is_reported_from_its_folder_alone(tmp_path, capsys):
  report.report(study_dir=study(tmp_path, {'online': 0.6, 'offline': 0.4}))
  text = (tmp_path / 'report.md').read_text()
  assert text.startswith(
    '# Online against offline: EmbeddedCorpus, seeds 0, 1\n\nTwo seeds'
  )
  for expected in (
    '**P1d points the same way on both seeds:',
    '| P1d | ',
    '](figures/fig1.png)',
    '| golden model: accuracy | 0.880 [0.860, 0.900] |',
    'prompt 0-0',
    '2:02 of work in all',
    '- Tuned on seed 0.',
    '- 2 of the 4 seeds',
    'All 62 points',
  ):
    assert expected in text
  (verdict,) = [
    each
    for each in json.loads((tmp_path / 'verdicts.json').read_text())
    if each['primary']
  ]
  assert (verdict['name'], verdict['verdict']) == (
    'P1d',
    'points the same way',
  )
  assert 0.1 < verdict['low'] < verdict['estimate'] < verdict['high'] < 0.3
  assert 'data-figure="fig1"' in (tmp_path / 'report.html').read_text()
  main = (tmp_path / 'frontier.png').read_bytes()
  assert main == (tmp_path / 'figures' / 'fig1.png').read_bytes()
  assert 'report.html' in capsys.readouterr().out


def test_the_report_of_equal_results_is_equal(tmp_path):
  written = []
  for _ in range(2):
    report.write(tmp_path, results(tmp_path))
    paths = [*tmp_path.rglob('*.*')]
    written.append({path: path.read_bytes() for path in paths})
  assert written[0] == written[1]
  names = {path.name for path in written[0]}
  assert {*PAGES, 'frontier.svg', 'fig1.png', 'fig4.svg'} <= names


def test_figures_that_are_no_longer_drawn_go(tmp_path):
  report.write(tmp_path, results(tmp_path))
  (answer, *_) = results(tmp_path).answers
  report.write(tmp_path, results(tmp_path, answers=[answer]))
  names = {path.name for path in (tmp_path / 'figures').iterdir()}
  assert names == {'fig1.png', 'fig1.svg'}


def test_figures_of_one_name_are_kept_apart_and_empty_ones_left_out(tmp_path):
  drawn = figure(points())
  empty = drawn._replace(name='empty', series=drawn.series[:1])
  answers = [
    Answer('One', [], [], [], [drawn, empty]),
    Answer('Two', [], [], [], [drawn]),
  ]
  report.write(tmp_path, results(tmp_path, answers=answers))
  names = {path.stem for path in (tmp_path / 'figures').iterdir()}
  assert names == {'fig1', 'fig1_2'}
  assert 'id="figure-fig1_2"' in (tmp_path / 'report.html').read_text()


def test_points_without_a_description_are_drawn(tmp_path):
  folder = study(tmp_path, {'online': 0.5}, seeds=(0,), described=False)
  report.report(study_dir=folder)
  text = (tmp_path / 'report.md').read_text()
  assert '16 points, no analysis.' in text
  assert '](figures/frontier.png)' in text
  assert 'Samples' not in text and 'Costs' not in text
  assert json.loads((tmp_path / 'verdicts.json').read_text()) == []


def test_points_at_no_kl_alone_make_a_report_without_figures(tmp_path):
  points_lib.write(tmp_path / 'runs.jsonl', [Point('sft', 'sft', 0, 1)])
  report.report(study_dir=str(tmp_path))
  assert not (tmp_path / 'frontier.png').exists()
  assert '1 points' in (tmp_path / 'report.md').read_text()


def test_measures_are_read_by_name_and_seed(tmp_path):
  study(tmp_path, {'online': 0.5}, seeds=(0,))
  files.write_arrays(
    tmp_path / 'measures' / 'replay' / '3.npz', {'step': np.arange(4)}
  )
  found = report.load_evidence(tmp_path).measures
  assert list(found) == ['replay'] and list(found['replay']) == [3]
  np.testing.assert_array_equal(found['replay'][3]['step'], np.arange(4))


@pytest.mark.parametrize('name', ['first.npz', '0.npz'])
def test_measures_of_no_seed_or_no_arrays_are_refused(tmp_path, name):
  study(tmp_path, {'online': 0.5}, seeds=(0,))
  (tmp_path / 'measures' / 'replay').mkdir(parents=True)
  (tmp_path / 'measures' / 'replay' / name).write_text('no arrays')
  with pytest.raises(InputError, match=f'{name} needs .* again'):
    report.load_evidence(tmp_path)


def test_an_answer_knows_its_name_its_arms_and_its_measures():
  evidence = Evidence(points(), report_parts.Path(), {'replay': {}, 'own': {}})
  found = report.answer(DataOrder(), evidence, {'DataOrder': ['source']})
  assert found.name == 'Data order' and found.measures == ['replay']
  assert found.arms == ['online', 'source']
  titled = report.answer(analyses.Gap(title='The gap'), evidence)
  assert titled.name == 'The gap'


def test_a_dry_run_writes_nothing(tmp_path, capsys):
  folder = study(tmp_path, {'online': 0.5, 'offline': 0.5})
  before = sorted(os.listdir(folder))
  report.dry_run(study_dir=folder)
  assert sorted(os.listdir(folder)) == before
  assert '62 points (30 offline, 30 online, 2 sft)' in capsys.readouterr().out


def test_a_folder_without_points_is_refused(tmp_path):
  with pytest.raises(InputError, match='runs.jsonl is not there.*dap study'):
    report.report(study_dir=str(tmp_path))


@pytest.mark.parametrize('name', ['study.json', 'samples.json'])
def test_a_description_that_is_not_an_object_is_refused(tmp_path, name):
  folder = study(tmp_path, {'online': 0.5}, seeds=(0,))
  (tmp_path / name).write_text(json.dumps([1]))
  with pytest.raises(InputError, match=f'{name} needs to be an object'):
    report.report(study_dir=folder)


def test_a_report_is_drawn_anew_when_its_results_files_or_code_changed(
  tmp_path, capsys, monkeypatch
):
  study(tmp_path, {'online': 0.6, 'offline': 0.5}, seeds=(0,))

  def drawn():
    report.refresh(str(tmp_path))
    return 'wrote report.html' in capsys.readouterr().out

  assert drawn() and not drawn()
  (tmp_path / 'report.md').unlink()
  assert drawn() and not drawn()
  costs = {'stage': 'sft', 'seconds': 1.0}
  files.append_json_lines(tmp_path / 'costs.jsonl', [costs])
  assert drawn() and not drawn()
  reached = modules.reached([report.__name__])
  assert {'dap.estimators.effects', 'dap.study.analyses.gap'} <= set(reached)
  other = {**reached, 'dap.study.analyses.gap': 'another'}
  monkeypatch.setattr(modules, 'reached', lambda names: other)
  assert drawn() and not drawn()
