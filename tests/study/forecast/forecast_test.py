import pathlib
import re

import pytest
import refusals
import tiny_study

from dap import costs, files, main, memory, seals
from dap.commands import COMMANDS, run
from dap.stages import artefacts
from dap.study.forecast import effort, forecast, timing
from dap.study.making import build, trainings

PLACES = ('TRAIN_FILE', 'TEST_FILE', 'STUDY_DIR')
WHERE = artefacts.runtime()


def configured(**changes):
  words = tiny_study.argv(
    'none', config='default', DEFAULT_SETTING=(1e-2, 0.1), **changes
  )
  given, overrides = main._take_overrides(words[1:])
  given = [word.removeprefix('--gin_file=') for word in given]
  return run.configure(COMMANDS['study'], given, overrides, COMMANDS)['study']


@pytest.fixture(scope='module')
def study():
  return configured()


def trees(study, *seeds):
  return {seed: build.build(study, seed) for seed in seeds}


def weight(stage):
  """Every stage takes the seconds of its weight."""
  return stage.weight


def stage(name, weight=1.0, **inputs):
  return artefacts.Stage(name, trainings.prepare, name, inputs, weight=weight)


def jobs(*targets):
  return artefacts.plan(targets, pathlib.Path('none'), WHERE)


def test_the_time_left_heeds_what_waits_for_what():
  first = stage('first', 3.0)
  rest = [stage(f'rest{i}', 2.0, first=first) for i in range(3)]
  planned = jobs(*rest)
  # 3 s, then three stages of 2 s: in turn, or two and one.
  assert forecast.makespan(planned, weight, 1) == 9.0
  assert forecast.makespan(planned, weight, 2) == 7.0
  assert forecast.makespan(planned, weight, 9) == 5.0
  assert forecast.makespan([], weight, 2) == 0.0


def test_stages_of_other_seeds_and_settings_are_of_one_kind(study):
  one, two = trees(study, 1, 2).values()
  names = [name for name in one if name.startswith('run/offline_ipo')]
  kinds = {effort.kind(tree[name]).alike for tree in (one, two)
           for name in names}  # fmt: skip
  assert len(kinds) == 1
  assert effort.kind(one[names[0]]).units == tiny_study.SIZES['OFFLINE_STEPS']
  online = next(name for name in one if name.startswith('run/online_ipo'))
  assert effort.kind(one[online]).alike not in kinds
  evaluation = one[names[0].replace('run', 'evaluate')]
  assert effort.kind(evaluation).units == 3  # checkpoints: steps 2, 4 and 6


def test_finished_stages_tell_the_time_of_their_kind(study, tmp_path):
  planned = artefacts.plan(
    [s for tree in trees(study, 1, 2).values() for s in tree.values()],
    tmp_path, WHERE,
  )  # fmt: skip
  offline = [j for j in planned if j.stage.name.startswith('offline_ipo')]
  for job, seconds, resumed in zip(
    offline, (12.0, 18.0, 99.0), (False, False, True)
  ):
    job.folder.mkdir(parents=True)
    record = {'files': {}, 'checkpoints': {}}
    seals.write_json(job.folder / 'stage.json', record)
    line = {'key': job.key, 'seconds': seconds, 'resumed': resumed}
    files.append_json_lines(tmp_path / 'costs.jsonl', [line])
  plan = forecast._plan(trees(study, 1, 2), tmp_path, WHERE)
  assert len(plan.done) == 3
  found = forecast._measured(plan, tmp_path)
  steps = tiny_study.SIZES['OFFLINE_STEPS']
  (value,) = found.values()  # a resumed stage tells nothing
  assert value == pytest.approx((12 + 18) / 2 / steps)
  clock = forecast.Clock(study, found, {}, DEVICE)
  assert clock.seconds(offline[-1].stage) == pytest.approx(15.0)


DEVICE = costs.Device('made up', peak=1e12, bandwidth=1e12, memory=1e9)


def test_a_device_tells_the_time_where_nothing_was_measured(study):
  tree = build.build(study, 1)
  golden = tree['golden']
  clock = forecast.Clock(study, {}, {}, DEVICE)
  lengths = study.data.prompt_length, study.data.response_length
  step = DEVICE.step_seconds(study.golden, (1, 1), *lengths)
  assert clock.seconds(golden) == pytest.approx(
    forecast._STAGE + study.golden.num_steps * step
  )
  slow = costs.Device('slow', peak=1e6, bandwidth=1e12, memory=1e9)
  later = forecast.Clock(study, {}, {}, slow)
  measures = 'measure/own_pairs', 'measure/limit'
  for name in ('opponent', 'relabel', 'evaluate/sft', *measures):
    assert later.seconds(tree[name]) > clock.seconds(tree[name]) + 1, name


def dry_run(capsys, *others, **changes):
  words = tiny_study.argv('none', '--dry_run', *others, **changes)
  main.main(words)
  return capsys.readouterr().out


GRID = {'SETTINGS': ((1e-2, 0.1), (1e-2, 0.3)), 'SEEDS': (3, 4)}


def test_a_dry_run_counts_and_neither_traces_gradients_nor_makes_steps(
  capsys, monkeypatch
):
  monkeypatch.setattr(timing, 'measure', None)
  monkeypatch.setattr(memory, 'saved', None)
  monkeypatch.setattr(costs, 'lowered_update', None)
  out = dry_run(capsys, **GRID)
  line = next(each for each in out.splitlines() if 'online_ipo (' in each)
  assert '6 steps of 8;' in line and '576 tokens sampled at most' in line
  assert re.search(
    r'about [\d.]+ [KM]iB a device \(state .*; about 0:\d\d each', line
  )
  assert 'Times by matmul operations.\nCounted, not measured: ' in out
  assert 'half or twice of what they will be' in out
  assert out.endswith('takes minutes: --dry_run --measure.\n')


def test_times_count_what_a_core_of_this_machine_reaches(study, monkeypatch):
  monkeypatch.setattr(costs, 'matmul_rate', lambda: 8e9)
  step = costs.step_operations(study.golden, 24, 6)
  # A process of one core in four: half of its rate, and 2 ms beside.
  clock = forecast.Clock(study, {}, {}, None, share=1 / 4)
  assert clock.step(study.golden) == pytest.approx(step / 1e9 + 0.002)
  monkeypatch.setenv('NPROC', '4')
  one = artefacts.runtime(threads=1)
  assert forecast._share(one) == 1 / 4
  assert forecast._share(one._replace(backend='gpu')) == 1


def test_to_measure_another_device_is_refused(capsys):
  words = tiny_study.argv('none', '--dry_run', '--measure', GPU)
  assert 'the times of NVIDIA H100' in refusals.refused(capsys, words)
  words = tiny_study.argv('none', '--measure')
  assert 'Give both' in refusals.refused(capsys, words)


def test_a_dry_run_measures_real_steps_when_asked(capsys):
  out = dry_run(capsys, '--measure', **GRID)
  assert 'real steps of 5 programs' in out
  assert 'Measured: ' in out and out.endswith('--dry_run alone.\n')
  line = next(each for each in out.splitlines() if 'online_ipo (' in each)
  # Two settings and two seeds; 6 steps of 8 prompts, two responses of 6 tokens.
  assert line.startswith('online_ipo (4 runs): ')
  assert '6 steps of 8;' in line and '576 tokens sampled at most' in line
  assert re.search(
    r'update [\d.]+ [KM]iB; .* matmul operations; .*about \d+:', line
  )
  assert re.search(r'evaluate_offline_ipo +0 of 4 done', out)
  assert re.search(r'\d+ of \d+ stages to run on 1 processes, about \d', out)
  assert not pathlib.Path('none').exists()


GPU = '--gin_file=gin/devices/h100.gin'


def test_a_dry_run_for_a_device_measures_nothing_here(capsys, monkeypatch):
  monkeypatch.setattr(costs, 'matmul_rate', None)
  monkeypatch.setattr(timing, 'measure', None)
  out = dry_run(capsys, GPU, '--gin_file=gin/study/grouped.gin')
  assert 'Times are computed, not measured: 1 x 1 of NVIDIA H100' in out
  assert 'a device (state ' in out and 'MORE THAN IT HAS' not in out
  assert '6 steps of 8, 2 runs at once;' in out
  small = dry_run(capsys, GPU, **{'costs.Device.memory': 1e5})
  assert 'MORE THAN IT HAS' in small


def test_a_dry_run_without_the_data_prints_costs_and_says_what_is_missing(
  capsys,
):
  words = tiny_study.argv('none', '--dry_run', GPU)
  words[2:2] = ['--gin_file=gin/data/jsonl.gin']
  kept = [
    word for word in words
    if not any(name in word for name in (*PLACES, 'EmbeddedCorpus'))
  ]  # fmt: skip
  main.main(kept)
  out = capsys.readouterr().out
  first = out.splitlines()[0]
  assert first.startswith('Needed to run it, and not given: ')
  assert all(place in first for place in PLACES)
  assert 'Which stages are done cannot be told: <TRAIN_FILE>' in out
  assert 'golden: ' in out and 'stages to run' in out


def test_what_is_done_is_counted(study, tmp_path, capsys):
  clock = forecast.Clock(study, {}, {}, DEVICE)
  plan = forecast._plan(trees(study, 1), tmp_path, WHERE)
  data = next(job for job in plan.jobs if job.stage.name == 'data')
  done = plan._replace(done=frozenset({data.key}))
  lines = list(forecast._stage_lines(done, clock))
  assert re.fullmatch(r'data +1 of 1 done; done', lines[0])
  assert all(' 0 of ' in line for line in lines[1:])
