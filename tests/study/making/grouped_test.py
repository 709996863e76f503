"""Arms whose runs are one program: their stages, and a whole study of them."""

import os
import shutil

import pytest
import tiny_study

from dap import files, main
from dap.checkpoints import layouts, points
from dap.commands import COMMANDS, run
from dap.study.making import build, grouped, trainings
from dap.study.reading import runs
from dap.training import stream

GROUPED = '--gin_file=gin/study/grouped.gin'
ONE, OTHER = 'lr0.01_beta0.1', 'lr0.01_beta0.03'
ARMS = ('online_ipo', 'offline_ipo')


def study(*others, config='gap', **changes):
  """The study that `dap study` would run."""
  words = tiny_study.argv('unused', *others, config=config, **changes)
  given, overrides = main._take_overrides(words[1:])
  given = [word.removeprefix('--gin_file=') for word in given]
  return run.configure(COMMANDS['study'], given, overrides, COMMANDS)['study']


def test_the_runs_of_an_arm_are_taken_out_of_one_stage():
  default = {'DEFAULT_SETTING': (1e-2, 0.1)}
  tree = build.build(study(GROUPED, config='h1_coverage', **default), seed=3)
  for arm in (*ARMS, 'shuffled_ipo'):
    group = tree[f'group/{arm}']
    assert group.function is grouped.policy_runs
    names = [f'{arm}_{setting}' for setting in (ONE, OTHER)]
    assert [name for name, _ in group.config.runs] == names
    for name in names:
      member = tree[f'run/{name}']
      assert member.inputs == {'trained': group} and member.config == name
      assert tree[f'evaluate/{name}'].inputs['run'] is member
  shuffled = tree['group/shuffled_ipo']
  assert shuffled.inputs['stream'] is tree[f'run/online_ipo_{ONE}']
  assert 'annotator' in tree['group/online_ipo'].inputs
  alone = tree[f'run/unshuffled_ipo_{ONE}']  # one run shares with nobody
  assert alone.function is trainings.policy_run


def test_one_arm_can_be_left_as_it_is():
  single = '--gin.online_ipo/grid.Arm.grouped=False'
  tree = build.build(study(GROUPED, single), seed=3)
  assert {name for name in tree if name.startswith('group/')} == {
    'group/offline_ipo'
  }
  assert tree[f'run/online_ipo_{ONE}'].function is trainings.policy_run


def test_a_member_has_the_files_of_its_run(tmp_path):
  source, work = tmp_path / 'group' / 'ipo', tmp_path / 'work'
  files.write_json(source / 'checkpoints' / 'metadata.json', {'step': 3})
  files.write_json(tmp_path / 'group' / 'other' / 'metadata.json', {})
  torn = work / 'checkpoints' / 'metadata.json'  # of a copy that was killed
  files.write_atomically(torn, b'{"st')
  grouped.member('ipo', {'trained': tmp_path / 'group'}, work)
  assert files.read_json(torn) == {'step': 3}
  assert [path.name for path in work.iterdir()] == ['checkpoints']
  assert os.path.samefile(torn, source / 'checkpoints' / 'metadata.json')
  shutil.rmtree(tmp_path / 'group')
  assert files.read_json(torn) == {'step': 3}


def test_a_disk_without_links_has_copies(tmp_path, monkeypatch):
  def no_links(source, target):
    raise PermissionError

  monkeypatch.setattr(os, 'link', no_links)
  files.write_json(tmp_path / 'group' / 'ipo' / 'a.json', [1])
  grouped.member('ipo', {'trained': tmp_path / 'group'}, tmp_path / 'work')
  assert files.read_json(tmp_path / 'work' / 'a.json') == [1]


@pytest.fixture(scope='module')
def both(tmp_path_factory):
  """The folder of the study and its points, one by one and grouped."""
  folder, found = tmp_path_factory.mktemp('grouped'), []
  for others in ((), (GROUPED,)):
    main.main(tiny_study.argv(folder, *others))
    found.append(runs.read(folder / 'runs.jsonl'))
  return folder, *found


def test_a_grouped_study_has_the_points_of_all_runs(both):
  _, single, together = both
  names = [(point.run, point.seed, point.step) for point in single]
  assert [(p.run, p.seed, p.step) for p in together] == names
  for one, other in zip(single, together, strict=True):
    assert one.kl_nats == pytest.approx(other.kl_nats, rel=1e-2, abs=1e-4)
    assert one.train_flops == other.train_flops
    assert (one.sampled_tokens is None) == (other.sampled_tokens is None)


def test_only_what_is_grouped_and_its_readers_are_run_again(both):
  folder, *_ = both
  made = [
    line['stage'] for line in files.read_json_lines(folder / 'costs.jsonl')
  ]
  names = {f'{arm}_{setting}' for arm in ARMS for setting in (ONE, OTHER)}
  twice = {name for name in made if made.count(name) == 2}
  assert twice == names | {f'evaluate_{name}' for name in names}
  assert {n for n in made if n.endswith('_group')} == {
    f'{arm}_group' for arm in ARMS
  }


def test_whoever_reads_a_run_reads_a_member(both):
  folder, *_ = both
  places = list(folder.glob(f'stages/online_ipo_{ONE}-*'))
  assert len(places) == 2  # trained alone, and taken out of its group
  for place in places:
    assert points.steps(place / 'checkpoints') == [3, 6]
    assert layouts.find(place)[0].name == 'checkpoint_6'
    assert len(stream.read(place / 'stream')) == 6 * 8
    lines = files.read_json_lines(place / 'metrics.jsonl')
    assert lines[-1]['step'] == 6 and lines[-1]['beta'] == pytest.approx(0.1)
