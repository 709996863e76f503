"""A part that is given and that nobody reads is refused; nothing else is."""

import pathlib
import re
import shlex
from typing import Any

import pytest
import tiny_commands as tiny
import tiny_study
from refusals import refused

from dap.commands import COMMANDS, places, run
from dap.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
OWN_SLOT = """\
from __gin__ import dynamic_registration
from dap.algorithms import algorithm
from dap.annotators import models
include 'configs/embedded/online_ipo.gin'
online/algorithm.Algorithm.annotator = @models.PreferenceAnnotator()
online/algorithm.Algorithm.host_annotator = None
"""
RULE = '--gin_file=gin/annotators/rule.gin'


def configured(command, files, *overrides) -> dict[str, Any]:
  """What the command is given by files and overrides."""
  given = [word.removeprefix('--gin.').split('=', 1) for word in overrides]
  words = [(name, value) for name, value in given]
  return run.configure(COMMANDS[command], files, words, COMMANDS, list)


def given(part, experiment='online_ipo', *overrides):
  experiment = f'configs/embedded/{experiment}.gin'
  return configured('train', [experiment, f'gin/{part}.gin'], *overrides)


@pytest.fixture
def own_slot(tmp_path):
  """An experiment that binds the annotator itself."""
  path = tmp_path / 'own_slot.gin'
  path.write_text(OWN_SLOT)
  return str(path)


# What is refused


def test_a_part_whose_slot_the_experiment_binds_names_both(own_slot):
  with pytest.raises(InputError) as refusal:
    configured('train', [own_slot, 'gin/annotators/rule.gin'])
  said = str(refusal.value)
  assert said.startswith('--gin_file=gin/annotators/rule.gin: nobody reads')
  assert 'ANNOTATOR' in said
  slot = 'online/algorithms.algorithm.Algorithm.annotator'
  assert f'{own_slot}:5 binds {slot}.' in said
  assert f'--gin.{slot}=%ANNOTATOR' in said
  assert said.endswith('Or take the part away.')


def test_what_the_refusal_says_to_add_makes_the_part_read(own_slot):
  files = [own_slot, 'gin/annotators/rule.gin']
  with pytest.raises(InputError) as refusal:
    configured('train', files)
  words = re.findall(r'--gin\.\S+=%[A-Z_]+', str(refusal.value))
  algorithm = configured('train', files, *words)['run'].algorithm
  assert algorithm.annotator is None
  assert type(algorithm.host_annotator).__name__ == 'Rule'


def test_a_slot_that_nobody_binds_is_told():
  with pytest.raises(InputError) as refusal:
    given('reference/every_k', 'best_of_four')
  slot = 'best_of_n/algorithms.algorithm.Algorithm.reference'
  assert f'Nothing binds {slot}.' in str(refusal.value)
  run = given('reference/every_k', 'best_of_four', f'--gin.{slot}=%REFERENCE')
  assert run['run'].algorithm.reference.steps == 50


def test_a_part_that_a_later_file_replaces_is_refused():
  files = ['gin/losses/dpo.gin', 'configs/embedded/online_ipo.gin']
  with pytest.raises(InputError, match='binds LOSS after it. Give gin/losses/'):
    configured('train', files)
  assert configured('train', files[::-1])


def test_a_whole_algorithm_is_not_added_to_another_one():
  with pytest.raises(InputError, match='has it: configs/embedded/rloo.gin'):
    given('algorithms/rloo')


def test_a_scope_that_nobody_reads_is_told_with_one_that_is(
  tmp_path, monkeypatch
):
  path = tmp_path / 'mine.gin'
  path.write_text(
    'from __gin__ import dynamic_registration\n'
    'from dap.algorithms import algorithm\n'
    'host/algorithm.Algorithm.annotator = None\n'
  )
  is_part = places.is_part
  monkeypatch.setattr(places, 'is_part', lambda p: p == path or is_part(p))
  with pytest.raises(InputError) as refusal:
    configured('train', ['configs/embedded/online_ipo.gin', str(path)])
  wanted = 'bind online/algorithms.algorithm.Algorithm.annotator.'
  assert wanted in str(refusal.value)


def test_the_command_exits_with_2(capfd, tmp_path):
  said = refused(capfd, tiny.argv('train', 'offline_ipo', tmp_path, RULE))
  assert 'nobody reads what this part binds' in said


def test_a_study_asks_no_annotator_on_the_host(capfd, tmp_path):
  said = refused(capfd, tiny_study.argv(tmp_path / 'out', RULE))
  assert 'in a study the proxy labels samples' in said
  assert not (tmp_path / 'out').exists()


# What is accepted


def test_a_part_fills_the_slot_that_the_experiment_leaves_to_it():
  algorithm = given('reference/every_k')['run'].algorithm
  assert algorithm.reference.steps == 50
  algorithm = given('reference/ema', 'offline_ipo')['run'].algorithm
  assert algorithm.reference.rate == 0.001
  algorithm = given('annotators/reward_model')['run'].algorithm
  assert type(algorithm.annotator).__name__ == 'RewardAnnotator'


def test_an_override_and_a_later_part_may_replace_a_part():
  assert given('partitioning/data_4', 'sft', '--gin.MESH=(1, 1)')
  files = ['configs/embedded/online_ipo.gin']
  files += ['gin/losses/ipo.gin', 'gin/losses/dpo.gin']
  assert configured('train', files)


def test_a_part_that_is_included_may_stay_idle(tmp_path):
  path = tmp_path / 'experiment.gin'
  path.write_text(
    "include 'configs/embedded/sft.gin'\ninclude 'gin/annotators/rule.gin'\n"
    "include 'gin/reference/ema.gin'\ninclude 'gin/commands/train.gin'\n"
  )
  # ANNOTATOR and its like stand in the part, so that nobody misspelt them.
  assert configured('train', [str(path)])


def printed():
  """Every `dap COMMAND --gin_file=...` of documents and gin files."""
  paths = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]
  paths += [*(ROOT / 'gin').rglob('*.gin'), *(ROOT / 'configs').rglob('*.gin')]
  for path in sorted(paths):
    text = re.sub(r'^# ?', '', path.read_text(), flags=re.MULTILINE)
    for words in re.findall(r'^dap ((?:\\\n|[^\n])*)', text, re.MULTILINE):
      if '--gin_file=' in words and not words.startswith('train ...'):
        yield path.relative_to(ROOT).as_posix(), words.replace('\\\n', ' ')
  for command in COMMANDS.values():
    if '--gin_file=' in command.example:
      words = command.example.removeprefix('dap ').replace('\\\n', ' ')
      yield command.module, words


def test_every_command_that_is_printed_is_read(monkeypatch):
  # As far as its bindings: its files and checkpoints are not there.
  monkeypatch.setattr('dap.commands.run.reads.required', lambda *_: [])
  monkeypatch.setattr('dap.commands.run.reads.refuse_missing', lambda *_: None)
  monkeypatch.setattr('dap.commands.run.resolve.resolve', lambda *_: {})
  found = 0
  for where, line in printed():
    command, *words = shlex.split(line, comments=True)
    files = [word for word in words if word.startswith('--gin_file=')]
    overrides = [word for word in words if word.startswith('--gin.')]
    files = [word.removeprefix('--gin_file=') for word in files]
    try:
      configured(command, files, *overrides)
    except InputError as error:
      pytest.fail(f'{where}: dap {line}\n{error}')
    found += 1
  assert found > 40
