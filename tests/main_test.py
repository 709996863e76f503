import dataclasses
import os
import pathlib
import pickle
import re
import subprocess
import sys
import textwrap
import time

import pytest

import dap
from dap import commands, main
from dap.algorithms import algorithm
from dap.commands import Command, bindings, places, resolve

PART = """\
# A loss.
from __gin__ import dynamic_registration
import main_example as example
LOSS = @example.double
BETA = 0.5
example.double.scale = 3.0
"""

EXPERIMENT = """\
from __gin__ import dynamic_registration
import main_example as example
include 'part.gin'
MODEL_DIR = %gin.REQUIRED
SOURCE = @example.Embedded()
SEED = 7
example.Embedded.seed = %SEED
example.train:
  algorithm = @example.Algorithm()
  model_dir = %MODEL_DIR
  source = %SOURCE
example.Algorithm:
  loss = %LOSS
  beta = %BETA
"""

STUDY = """\
from __gin__ import dynamic_registration
import main_example as example
include 'part.gin'
example.study.algorithms = {
  'offline': @offline/example.Algorithm(),
  'online': @online/example.Algorithm(),
}
example.Algorithm.loss = %LOSS
example.Algorithm.beta = %BETA
online/example.Algorithm.beta = 2.0
online/example.double.scale = 5.0
"""


@pytest.fixture
def example(monkeypatch, tmp_path):
  """The module of tests/main_example.py as two commands, in a clean folder."""
  monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))
  monkeypatch.chdir(tmp_path)
  import main_example

  main_example.CALLS.clear()
  words = dict(summary='summary', description='', example='dap train')
  monkeypatch.setattr(
    main,
    'COMMANDS',
    {
      'train': Command(module='main_example', function='train', **words),
      'study': Command(module='main_example', function='study', **words),
    },
  )
  (tmp_path / 'part.gin').write_text(PART)
  (tmp_path / 'experiment.gin').write_text(EXPERIMENT)
  (tmp_path / 'study.gin').write_text(STUDY)
  return main_example


TRAIN = ('train', '--gin_file=experiment.gin', '--gin.MODEL_DIR="out"')


def refusal(capsys, *argv, code=2):
  """What stderr says when the command exits with `code`."""
  with pytest.raises(SystemExit) as exit_info:
    main.main(argv)
  assert exit_info.value.code == code
  message = capsys.readouterr().err
  assert 'Traceback' not in message
  return message


def only_call(example, kind='train'):
  ((name, arguments),) = example.CALLS
  assert name == kind
  return arguments


# What a run function receives


def test_a_run_function_receives_undecorated_values(example):
  assert main.main(TRAIN) is None  # a console script exits with this
  arguments = only_call(example)
  assert arguments['algorithm'] == example.Algorithm(
    loss=resolve.Bound(example.double, (('scale', 3.0),)), beta=0.5
  )
  assert type(arguments['algorithm']) is example.Algorithm
  assert arguments['model_dir'] == 'out'
  assert arguments['source'] == example.Embedded(seed=7)
  assert arguments['steps'] == 3  # its own default


def test_a_function_without_bindings_is_itself(example):
  main.main([*TRAIN, '--gin.LOSS=@example.plain', '--gin.BETA=1'])
  assert only_call(example)['algorithm'].loss is example.plain


def test_a_bound_function_is_a_value(example):
  bound = resolve.Bound(example.double, (('scale', 3.0),))
  assert bound(2.0) == 12.0  # 2 * 2.0 * 3.0
  assert bound(2.0, scale=1.0) == 4.0
  again = pickle.loads(pickle.dumps(bound))
  assert again == bound and hash(again) == hash(bound)


def test_overrides_come_last_in_either_spelling(example):
  main.main([*TRAIN, '--gin.BETA=1', '--gin.BETA', '0.25'])
  assert only_call(example)['algorithm'].beta == 0.25


def test_an_integer_for_a_float_is_the_same_configuration(example):
  main.main([*TRAIN, '--gin.BETA=1'])
  assert type(only_call(example)['algorithm'].beta) is float


def test_an_override_binds_an_argument_by_its_selector(example):
  main.main([*TRAIN, '--gin.example.train.steps=9'])
  assert only_call(example)['steps'] == 9


def test_a_scope_reaches_through_macros_and_functions(example):
  main.main(['study', '--gin_file=study.gin'])
  algorithms = only_call(example, 'study')['algorithms']
  assert algorithms['offline'].beta == 0.5
  assert algorithms['online'].beta == 2.0
  assert algorithms['offline'].loss(1.0) == 6.0  # 2 * 1.0 * 3.0
  assert algorithms['online'].loss(1.0) == 10.0  # 2 * 1.0 * 5.0


def test_a_later_file_replaces_a_choice_and_leaves_the_old_one_idle(
  example, tmp_path
):
  (tmp_path / 'jsonl.gin').write_text(
    'from __gin__ import dynamic_registration\n'
    'import main_example as example\n'
    'SOURCE = @example.Jsonl()\n'
    'TRAIN_FILE = %gin.REQUIRED\n'
    'example.Jsonl.path = %TRAIN_FILE\n'
  )
  main.main([*TRAIN, '--gin_file=jsonl.gin', '--gin.TRAIN_FILE="a.jsonl"'])
  assert only_call(example)['source'] == example.Jsonl('a.jsonl')


def test_gin_itself_reads_these_files_and_gives_equal_values(example):
  import gin

  main.main(TRAIN)
  ours = only_call(example)
  try:
    gin.parse_config_file('experiment.gin')
    gin.parse_config("MODEL_DIR = 'out'")
    gin.finalize()
    theirs = gin.get_bindings(example.train)
    assert theirs['algorithm'].loss(1.0) == ours['algorithm'].loss(1.0)
  finally:
    gin.clear_config()
  theirs['algorithm'] = dataclasses.replace(  # its loss is gin's wrapper
    theirs['algorithm'], loss=ours['algorithm'].loss
  )
  assert theirs == {name: ours[name] for name in theirs}


# What is refused


def test_an_override_that_nobody_reads_is_refused_with_the_nearest(
  example, capsys
):
  message = refusal(capsys, *TRAIN, '--gin.BETTA=1')
  assert 'nobody reads BETTA. Nearest: BETA.' in message
  assert message.count('\n') == 1 and not example.CALLS


def test_an_override_of_an_idle_part_is_refused(example, capsys):
  message = refusal(
    capsys, *TRAIN, '--gin.LOSS=@example.plain', '--gin.example.double.scale=1'
  )
  assert 'nobody reads main_example.double.scale' in message


def test_an_override_that_only_another_command_reads_is_refused(
  example, capsys, tmp_path
):
  (tmp_path / 'both.gin').write_text(
    EXPERIMENT + 'GRID = {}\nexample.study.algorithms = %GRID\n'
  )
  both = ('train', '--gin_file=both.gin', '--gin.MODEL_DIR="out"')
  assert 'nobody reads GRID' in refusal(capsys, *both, '--gin.GRID={}')
  main.main(both)  # the file may bind it


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ('BETTA = 1', 'bad.gin:15: nobody reads BETTA. Nearest: BETA.'),
    ('offlien/example.Algorithm.beta = 1', 'nobody reads offlien/'),
    ('example.plain.x = 1.0', 'nobody reads main_example.plain.x'),
    ('example.Algorithm.betta = 1', 'no argument `betta`. Nearest: beta.'),
    ('example.Algoritm.beta = 1', 'no `Algoritm`. Nearest: Algorithm.'),
    ('exampel.Algorithm.beta = 1', 'no import statement provides `exampel`'),
    ('example.NOT_CALLABLE.x = 1', '`example.NOT_CALLABLE` is a int'),
    ('import dap.lossess', 'no module `dap.lossess`. Nearest: losses.'),
    ('import my_module', 'If it is a file of yours, put its folder on PYTHON'),
    ('import my_module', 'on PYTHONPATH: PYTHONPATH=. dap train ...'),
    ('from my_package import rules', 'no module `my_package`. If it is a file'),
    ('from __gin__ import magic', 'no feature `__gin__.magic`'),
    ("include 'prat.gin'", 'bad.gin:15: no such gin file'),
    ("include 'bad.gin'", 'includes itself'),
    ('BETA = 0.1 0.2', 'bad.gin:15: not gin syntax'),
    ('BETA = {1: 2', 'Close every bracket'),
    ('BETA = %BETA', 'refers to itself'),
    ('BETA = %GAMMA', 'reads %GAMMA, which nothing binds'),
    ("BETA = 'high'", "main_example.Algorithm.beta must be float, got 'high'"),
    ('BETA = -1', 'IPO needs beta > 0, got -1'),
    ('example.train.algorithm = @example.Jsonl()', 'Jsonl needs path'),
  ],
)
def test_a_mistake_in_a_file_is_refused(
  example, capsys, tmp_path, line, expected
):
  (tmp_path / 'bad.gin').write_text(EXPERIMENT + line + '\n')
  assert EXPERIMENT.count('\n') == 14
  message = refusal(
    capsys, 'train', '--gin_file=bad.gin', '--gin.MODEL_DIR="out"'
  )
  assert expected in message and not example.CALLS


@pytest.mark.parametrize(
  ('words', 'expected'),
  [
    (['--gin.MODEL_DIR=out/ipo'], """--gin.MODEL_DIR='"out/ipo"'"""),
    (['--gin.BETA=1)'], '--gin.BETA=1): a value is'),
    (['--gin.BETA=1\nSEED = 2'], 'a value is'),
    (['--gin.BETA'], '--gin.NAME=VALUE'),
    (['--gin.=3'], '--gin.NAME=VALUE'),
    (['--gin.example.Algorithm.betta=1'], 'Nearest: beta.'),
    (['--gin.LOSS=@exampel.plain'], 'Nearest: example.'),
    (['--gin_fiel=a.gin'], 'unrecognized arguments: --gin_fiel=a.gin'),
    (['--gin_file=experimant.gin'], 'no such gin file'),
  ],
)
def test_a_malformed_argument_is_refused(example, capsys, words, expected):
  assert expected in refusal(capsys, *TRAIN, *words)
  assert not example.CALLS


def test_all_missing_values_are_named_at_once(example, capsys, tmp_path):
  (tmp_path / 'more.gin').write_text('BETA = %gin.REQUIRED\n')
  message = refusal(
    capsys, 'train', '--gin_file=experiment.gin', '--gin_file=more.gin'
  )
  assert 'MODEL_DIR must be given: --gin.MODEL_DIR=VALUE' in message
  assert 'BETA must be given: --gin.BETA=VALUE' in message


def test_a_command_that_no_file_binds_says_what_it_needs(example, capsys):
  assert 'train needs algorithm, model_dir' in refusal(capsys, 'train')


def test_a_file_that_is_not_text_is_refused(example, capsys, tmp_path):
  (tmp_path / 'latin.gin').write_bytes(b'# caf\xe9\n')
  message = refusal(capsys, 'train', '--gin_file=latin.gin')
  assert 'UTF-8' in message


def test_an_unknown_command_is_refused_with_the_nearest(example, capsys):
  assert 'no command `trian`. Nearest: train.' in refusal(capsys, 'trian')
  assert 'name a command: train, study' in refusal(capsys)


@pytest.mark.parametrize(
  ('inside', 'expected'),
  [
    ('import no_such_package', 'mine imports it: install the package'),
    ('import dap.lossess', 'no module `dap.lossess`. Nearest: losses.'),
    ('raise ModuleNotFoundError(name="seqio")', "pip install -e '.[seqio]'"),
    ('raise ModuleNotFoundError(name="t5x")', 'bash launch/install_t5x.sh'),
  ],
)
def test_what_a_module_lacks_is_told_apart_from_the_module(
  example, capsys, tmp_path, monkeypatch, inside, expected
):
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, 'mine', raising=False)
  (tmp_path / 'mine.py').write_text(inside + '\n')
  (tmp_path / 'mine.gin').write_text(EXPERIMENT + 'import mine\n')
  message = refusal(
    capsys, 'train', '--gin_file=mine.gin', '--gin.MODEL_DIR="out"'
  )
  assert expected in message
  assert 'a file of yours' not in message


# How it ends


def test_an_interrupt_exits_with_130_and_says_how_to_resume(example, capsys):
  message = refusal(
    capsys, *TRAIN, '--gin.example.train.fail=@example.interrupt', code=130
  )
  assert 'The same command goes on' in message


def test_a_full_disk_exits_with_2_and_names_the_file(example, capsys):
  message = refusal(
    capsys, *TRAIN, '--gin.example.train.fail=@example.fill_disk'
  )
  assert 'out/ipo/metrics.jsonl' in message and 'Free some space' in message


def test_a_reader_that_has_enough_ends_the_command_quietly():
  command = [sys.executable, '-m', 'dap.main', 'env']
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
  os.close(writer)
  assert (done.returncode, done.stderr) == (141, b'')


def test_our_own_mistakes_keep_their_traceback(example):
  with pytest.raises(RuntimeError, match='our own mistake'):
    main.main([*TRAIN, '--gin.example.train.fail=@example.blunder'])


def test_a_dry_run_prints_the_configuration_and_runs_nothing(example, capsys):
  main.main([*TRAIN, '--dry_run'])
  assert only_call(example, 'dry_run')['model_dir'] == 'out'
  assert capsys.readouterr().out == textwrap.dedent("""\
    algorithm: main_example.Algorithm
      loss: main_example.double
        scale: 3.0
      beta: 0.5
      name: None
    model_dir: 'out'
    source: main_example.Embedded
      seed: 7
    """)


# Where gin files are, and the program as a whole


def test_a_file_is_found_from_any_directory(monkeypatch, tmp_path):
  (tmp_path / 'root' / 'gin' / 'losses').mkdir(parents=True)
  part = tmp_path / 'root' / 'gin' / 'losses' / 'ipo.gin'
  part.write_text('BETA = 1\n')
  monkeypatch.setattr(places, 'root', lambda: tmp_path / 'root')
  monkeypatch.chdir(tmp_path)
  assert places.find('gin/losses/ipo.gin') == part
  (binding,) = bindings.read(['gin/losses/ipo.gin'])
  assert binding.origin == 'gin/losses/ipo.gin:1'
  with pytest.raises(ValueError, match='Nearest: gin/losses/ipo.gin'):
    places.find('gin/loss/ipo.gin')


def test_every_command_teaches_with_an_example(capsys):
  for name, command in commands.COMMANDS.items():
    with pytest.raises(SystemExit) as exit_info:
      main.main([name, '--help'])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    assert command.example in text and '--dry_run' in text


def test_help_is_quick_and_imports_no_jax():
  program = (
    'import sys\n'
    'from dap import main\n'
    'try: main.main(["--help"])\n'
    'finally: print(sorted({"jax", "gin", "numpy"} & set(sys.modules)))\n'
  )
  start = time.perf_counter()
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert done.stdout.endswith('[]\n')
  assert all(name in done.stdout for name in commands.COMMANDS)
  assert time.perf_counter() - start < 5  # 0.1 s on an idle machine


def test_python_m_dap_is_dap_and_its_help_imports_no_jax():
  program = (
    'import runpy, sys\n'
    'sys.argv = ["dap", "--help"]\n'
    'try: runpy.run_module("dap", run_name="__main__")\n'
    f'finally: print(sorted({set(SLOW) | {"gin"}!r} & set(sys.modules)))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert done.stdout.startswith('usage: dap ')
  assert done.stdout.endswith('[]\n')
  command = [sys.executable, '-m', 'dap', '--version']
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stdout == f'dap {dap.__version__}\n'


SLOW = ('jax', 'flax', 'optax', 'orbax', 'tensorflow', 'matplotlib', 'numpy')
MISTAKES = {
  'version': ['--version'],
  'command': ['trian'],
  'nothing': [],
  'option': ['train', '--gin_fiel=a.gin'],
  'file': ['train', '--gin_file=missing.gin'],
  'second file': ['study', '--gin_file=good.gin', '--gin_file=missing.gin'],
  'include': ['train', '--gin_file=includes.gin'],
  'syntax': ['train', '--gin_file=syntax.gin'],
  'syntax below': ['train', '--gin_file=includes_syntax.gin'],
  'override': ['train', '--gin_file=good.gin', '--gin.BETA=1)'],
  'moved': ['study', '--gin_file=moved.gin'],
  'measure': ['study', '--gin_file=good.gin', '--measure'],
  'words': ['convert', 'a', 'b', '--to=c'],
  **{name: [name, '--help'] for name in commands.COMMANDS},
}
GOOD = 'from __gin__ import dynamic_registration\nfrom dap import train\n'


@pytest.mark.parametrize('name', MISTAKES)
def test_help_and_what_needs_no_look_inside_import_no_jax(name, tmp_path):
  for file, text in {
    'good': GOOD,
    'includes': GOOD + "include 'nowhere.gin'\n",
    'syntax': GOOD + 'BETA = 0.1 0.2\n',
    'includes_syntax': GOOD + "include 'syntax.gin'\n",
    'moved': GOOD + 'from dap.study import grid\n',
  }.items():
    (tmp_path / f'{file}.gin').write_text(text)
  program = (
    'import sys\n'
    'from dap import main\n'
    f'try: main.main({MISTAKES[name]!r})\n'
    f'finally: print(sorted({set(SLOW)!r} & set(sys.modules)))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    capture_output=True, text=True, cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(places.PACKAGE.parent)},
  )  # fmt: skip
  told = name == 'version' or '--help' in MISTAKES[name]
  assert done.returncode == (0 if told else 2), done.stderr
  assert done.stdout.endswith('[]\n') and 'Traceback' not in done.stderr


def test_the_version_is_told(capsys):
  with pytest.raises(SystemExit, match='0'):
    main.main(['--version'])
  assert capsys.readouterr().out == f'dap {dap.__version__}\n'


def test_the_slots_that_the_help_names_are_an_algorithms():
  text = commands.COMMANDS['train'].description
  found = re.search(r'slots of an Algorithm: (.*?)\. ', text, re.DOTALL)
  assert found
  words = set(re.findall(r'\w+', found[1]))
  named = words - {'or', 'and', 'the', 'schedules'}
  fields = {field.name for field in dataclasses.fields(algorithm.Algorithm)}
  assert len(named) > 8 and named <= fields, named - fields


def test_env_prints_versions_and_devices(capsys):
  main.main(['env'])
  lines = capsys.readouterr().out.splitlines()
  facts = dict(line.split(maxsplit=1) for line in lines)
  assert facts['devices'].startswith('4 cpu')
  assert {'dap', 'python', 'jax', 'memory', 'disk'} <= facts.keys()
