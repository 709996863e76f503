"""What gin files may import and name: dap, what lies beside them, --import."""

import sys

import pytest
import tiny_commands
from refusals import refused

from dap import main

HEAD = 'from __gin__ import dynamic_registration\n'
SCHEDULE = (
  'import dataclasses\n'
  'import pathlib\n'
  'pathlib.Path({there!r}).write_text("ran")\n'
  '@dataclasses.dataclass(frozen=True)\n'
  'class Half:\n'
  '  def __call__(self, step): return 0.5\n'
)
BOUND = 'from dap import train\nsft/train.Run.schedule = @{module}.Half()\n'


@pytest.fixture
def words(tmp_path, monkeypatch):
  """The words of a training with a gin file of the caller's, at a place."""
  monkeypatch.setattr(sys, 'path', list(sys.path))
  monkeypatch.chdir(tmp_path)

  def made(text, *others, place='mine/own.gin'):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + text)
    return tiny_commands.argv(
      'train', 'sft', tmp_path / 'run', f'--gin_file={path}', '--show_config',
      *others,
    )  # fmt: skip

  return made


def module(folder, name):
  """A module of the caller that leaves a trace when it is imported."""
  folder.mkdir(parents=True, exist_ok=True)
  trace = folder / 'trace'
  (folder / f'{name}.py').write_text(SCHEDULE.format(there=str(trace)))
  return trace


def test_a_module_beside_a_gin_file_is_imported(words, tmp_path, capsys):
  module(tmp_path / 'mine', 'beside_it')
  text = 'import beside_it\n' + BOUND.format(module='beside_it')
  main.main(words(text))
  assert 'schedule: beside_it.Half' in capsys.readouterr().out


def test_two_commands_in_one_process_have_each_their_own_module(
  words, tmp_path, capsys
):
  text = 'import same_name\n' + BOUND.format(module='same_name')
  for folder in ('one', 'other'):
    trace = module(tmp_path / folder, 'same_name')
    given = words(text, place=f'{folder}/own.gin')
    sys.path[:] = [each for each in sys.path if not each.endswith('/one')]
    main.main(given)
    assert trace.exists()


def test_a_package_beside_an_included_file_is_imported(words, tmp_path, capsys):
  module(tmp_path / 'theirs' / 'package_of_it', 'rates')
  text = 'from package_of_it import rates\n' + BOUND.format(module='rates')
  words(text, place='theirs/part.gin')
  main.main(words("include 'theirs/part.gin'\n"))
  assert 'schedule: package_of_it.rates.Half' in capsys.readouterr().out


def test_a_module_elsewhere_needs_to_be_named(
  words, tmp_path, capfd, monkeypatch
):
  trace = module(tmp_path / 'elsewhere', 'far_away')
  monkeypatch.syspath_prepend(tmp_path / 'elsewhere')
  text = 'import far_away\n' + BOUND.format(module='far_away')
  said = refused(capfd, words(text))
  assert 'own.gin:2: `import far_away`: a gin file can run what it' in said
  assert 'add --import=far_away' in said and not trace.exists()
  main.main(words(text, '--import=far_away'))
  assert trace.exists()


@pytest.mark.parametrize(
  'line',
  [
    'import os',
    'import os.path',
    'from subprocess import run as go',
    'import numpy as np',
    'import __main__',
    'import builtins',
  ],
)
def test_other_modules_are_refused_before_anything_is_imported(
  words, capfd, line, tmp_path
):
  trace = module(tmp_path / 'mine', 'first_one')
  said = refused(capfd, words(f'import first_one\n{line}\n'))
  assert 'own.gin:3: `' in said and not trace.exists()


@pytest.mark.parametrize('name', ['os', 'json', 'numpy'])
def test_a_file_beside_it_does_not_stand_for_another_module(
  words, capfd, tmp_path, name
):
  trace = module(tmp_path / 'mine', name)
  said = refused(capfd, words(f'import {name}\n'))
  assert f'add --import={name}' in said and not trace.exists()


REACHED = {
  'train.jaxtyping.Float': 'jaxtyping',
  'files.os.system': 'os',
  'files.shutil.rmtree': 'shutil',
  'files.epath.Path': 'etils',
  'partitioning.Mesh': 'jax',
}


@pytest.mark.parametrize('how', ['file', 'override'])
@pytest.mark.parametrize('selector', REACHED)
def test_foreign_things_are_not_reached_through_ours(
  words, capfd, selector, how
):
  given = f'sft/train.Run.seed = @{selector}()'
  imports = ''.join(
    f'from dap import {name}\n' for name in ('files', 'partitioning', 'train')
  )
  name, _, value = given.partition(' = ')
  if how == 'file':
    said = refused(capfd, words(f'{imports}{given}\n'))
  else:
    said = refused(capfd, words(imports, f'--gin.{name}={value}'))
  assert f'`{selector}` reaches {REACHED[selector]}' in said


@pytest.mark.parametrize(
  ('selector', 'said_of_it'),
  [
    ('files.remove_folder', 'files.remove_folder, which is no choice'),
    ('train.fit.__globals__.get', 'has no `fit.__globals__.get`'),
    ('train.Run.__subclasses__', 'has no `Run.__subclasses__`'),
  ],
)
def test_what_writes_and_what_is_hidden_is_not_named(
  words, capfd, selector, said_of_it
):
  imports = 'from dap import files\nfrom dap import train\n'
  text = f'{imports}sft/train.Run.seed = @{selector}()\n'
  assert said_of_it in refused(capfd, words(text))


def test_a_module_that_is_nowhere_is_told_as_that(words, capfd):
  said = refused(capfd, words('import nowhere_at_all\n'))
  assert 'there is no module `nowhere_at_all`' in said
  assert 'put it beside the gin file' in said


def test_modules_of_tasks_are_imports_too(words, tmp_path, capfd):
  pytest.importorskip('seqio')
  trace = module(tmp_path / 'elsewhere', 'tasks_of_it')
  text = (
    "include 'gin/data/hh.gin'\ninclude 'gin/data/readers/seqio.gin'\n"
    "TASK = 'a'\nTASK_MODULES = ('tasks_of_it',)\n"
  )
  given = [w for w in words(text) if 'Corpus' not in w]
  said = refused(capfd, given)
  assert 'tasks_of_it is neither of dap nor beside the gin files' in said
  assert '--import=tasks_of_it' in said and not trace.exists()
  main.main([*given, "--gin.TASK_MODULES=('tasks_of_it',)"])
  assert "modules: 'tasks_of_it'" in capfd.readouterr().out


def test_files_of_the_project_need_no_leave(capfd):
  words = ['train', '--gin_file=configs/t5x/new_optimizer.gin']
  said = refused(capfd, words)
  assert 'launch/install_t5x.sh' in said or 'nobody reads' in said
