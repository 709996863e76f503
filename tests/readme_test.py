"""What README.md prints works as printed, in a fresh folder."""

import gzip
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny_commands

from dap import main
from dap.checkpoints import layouts, state
from dap.data.schema import PAIR_KEYS
from dap.data.vocabulary import TrainedSentencePiece
from dap.models import t5
from dap.models.policy import Policy

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = ROOT / 'README.md'
FIXTURES = ROOT / 'tests' / 'fixtures' / 'data'


def fenced(kind=''):
  """What stands in fences of a kind."""
  found = re.findall(r'^```(\w*)\n(.*?)^```$', README.read_text(), re.S | re.M)
  return [text for named, text in found if named == kind]


def commands():
  """The words of each `dap` command, its comment and settings left out."""
  text = '\n'.join(fenced()).replace('\\\n', ' ')
  lines = (shlex.split(line, comments=True) for line in text.splitlines()
           if re.match(r'(\w+=\S+ )*dap [a-z]', line))  # fmt: skip
  return [line[line.index('dap') + 1 :] for line in lines]


COMMANDS = commands()
CONFIGURED = [words for words in COMMANDS if words[0] != 'convert']


def with_words(*parts):
  """The commands that have all of these in their words."""
  return [
    words
    for words in COMMANDS
    if all(any(part in word for word in words) for part in parts)
  ]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Fresh, with the files that README takes from elsewhere."""
  folder = tmp_path_factory.mktemp('readme')
  rows = (FIXTURES / 'pairs.jsonl').read_bytes()
  for name in ('train', 'test', 'helpful-base/train', 'helpful-base/test'):
    path = folder / f'{name}.jsonl.gz'
    path.parent.mkdir(exist_ok=True)
    raw = FIXTURES / 'raw' / 'hh-rlhf' / f'{name}.jsonl'
    path.write_bytes(gzip.compress(raw.read_bytes() if '/' in name else rows))
  texts = [value for row in map(json.loads, rows.splitlines())
           for key, value in row.items() if key in PAIR_KEYS]  # fmt: skip
  model = folder / 'sentencepiece.model'
  pieces = TrainedSentencePiece(320).train(texts, str(model)).size
  policy = Policy(t5.T5(t5.T5Config(pieces, 8, 2, 4, 16, 1, 1)))
  params = policy.init(jax.random.key(0))
  state.save(folder / 'ours' / 'checkpoints', 1_000_000, params, {}, '')
  there = folder / 't5_1_1_base' / 'checkpoint_1000000'
  main.main(['convert', str(folder / 'ours'), str(there), '--to=t5x'])
  return folder


def test_the_commands_of_the_page_are_found():
  kinds = [words[0] for words in COMMANDS]
  assert {'data', 'train', 'sample', 'study', 'convert'} <= set(kinds)
  assert len(COMMANDS) == 12


@pytest.mark.parametrize('number', range(len(CONFIGURED)))
def test_a_command_can_be_configured_as_printed(
  folder, monkeypatch, capsys, number
):
  words = CONFIGURED[number]
  if any('seqio' in word for word in words):
    pytest.importorskip('seqio')
  monkeypatch.chdir(folder)
  main.main([*words, '--show_config'])
  assert len(capsys.readouterr().out.splitlines()) > 10


def test_the_single_trainings_run_one_after_another_as_printed(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  sizes = [f'--gin.{k}={v!r}' for k, v in tiny_commands.SIZES.items()]
  for words in COMMANDS:
    config = re.search(r'embedded/(\w+)\.gin', words[1])
    if len(words) > 5 or words[0] not in ('train', 'sample') or not config:
      continue
    steps = tiny_commands.OF_RUN[config[1]]
    given = steps if words[0] == 'train' else {}
    more = [f'--gin.{k}={v!r}' for k, v in given.items()]
    main.main([*words, *sizes, *more])
  assert 'response:' in capsys.readouterr().out
  done = sorted(path.name for path in (tmp_path / 'out').iterdir())
  assert done == ['ipo', 'preference_model', 'sft']


def test_a_study_of_own_pairs_is_counted_as_printed(
  folder, monkeypatch, capsys
):
  monkeypatch.chdir(folder)
  (words,) = with_words('study', '--dry_run')
  main.main(words)
  said = capsys.readouterr().out
  assert 'online_ipo' in said and '--dry_run --measure' in said
  assert not (folder / 'out' / 'mine').exists()


def test_a_checkpoint_from_elsewhere_is_trained_and_goes_back_as_printed(
  folder, monkeypatch, capsys
):
  monkeypatch.chdir(folder)
  (looked,) = with_words('convert', '--to=dap')
  (trained,) = with_words('train', 'from_checkpoint')
  main.main(looked)
  assert 'would write dap to out/flax' in capsys.readouterr().out
  small = {'SFT_STEPS': 600, 'BATCH_SIZE': 2, 'PROMPT_LENGTH': 8}
  small |= {'RESPONSE_LENGTH': 4}
  main.main([*trained, *(f'--gin.{k}={v}' for k, v in small.items())])
  for layout in ('t5x', 'hf'):
    (words,) = with_words('convert', f'--to={layout}')
    main.main(words)
    assert f'wrote {layout}' in capsys.readouterr().out
  back = layouts.read_params(folder / 'out' / 't5x' / 'checkpoint_600')
  ours = layouts.read_params(folder / 'out' / 'from_t5')
  jax.tree.map(np.testing.assert_array_equal, back, ours)
  assert (folder / 'out' / 'hf' / 'tokenizer.json').exists()


def test_data_are_prepared_as_printed(folder, monkeypatch, capsys):
  monkeypatch.chdir(folder)
  (words,) = with_words('data', 'gin/data/hh.gin')  # the hub needs a network
  main.main([*words, '--gin_file=gin/data/bytes.gin'])
  assert 'train: ' in capsys.readouterr().out


def test_a_task_is_prepared_as_printed(folder):
  pytest.importorskip('seqio', reason='the extra [seqio]')
  (words,) = with_words('data', 'readers/seqio.gin')
  given = {'DAP_RAW_DATA': str(FIXTURES / 'raw')}
  given['DAP_VOCABULARY'] = 'sentencepiece.model'
  done = subprocess.run(
    [sys.executable, '-m', 'dap', *words],
    env={**os.environ, 'PYTHONPATH': str(ROOT), **given},
    cwd=folder,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert 'train: ' in done.stdout


STARTED = """
prepare_environment() { export PATH="$SHIMS:$PATH"; }
"""
SHIM = """#!/bin/sh
exec {python} -m dap "$@" --dry_run
"""


def test_the_scripts_of_the_page_start_what_they_say(tmp_path):
  """In a copy of launch/ whose environment is this one, and dry."""
  (tmp_path / 'configs').symlink_to(ROOT / 'configs')
  launch = shutil.copytree(ROOT / 'launch', tmp_path / 'launch')
  with open(launch / 'environment.sh', 'a') as file:
    file.write(STARTED)
  shim = tmp_path / 'shims' / 'dap'
  shim.parent.mkdir()
  shim.write_text(SHIM.format(python=sys.executable))
  shim.chmod(0o755)
  lines = [
    line
    for line in ''.join(fenced()).splitlines()
    if line.startswith('bash launch/') and '/test.sh' not in line
  ]
  assert len(lines) == 3  # quickstart, all, h1
  for line in lines:
    done = subprocess.run(
      ['bash', '-c', line],
      env={**os.environ, 'PYTHONPATH': str(ROOT), 'SHIMS': str(shim.parent)},
      cwd=tmp_path,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'online_ipo' in done.stdout, line
  assert not (tmp_path / 'out').exists()


def test_the_notebook_lines_run_as_printed():
  names = {}
  (code,) = (code for code in fenced('python') if 'policy.sample' in code)
  exec(compile(code, 'README.md', 'exec'), names)
  assert names['log_probs'].shape == (4, 2, 8)


def test_the_way_to_add_a_loss_works_as_printed(tmp_path, capsys):
  section = (
    README.read_text().split('## How to add a loss')[1].split('\n## ')[0]
  )
  (python,) = re.findall(r'```python\n(.*?)```', section, re.S)
  (gin,) = re.findall(r'```\n(from __gin__.*?)```', section, re.S)
  (tmp_path / 'my_module.py').write_text(python)
  (tmp_path / 'my_loss.gin').write_text(gin)
  tiny_commands.dap(
    'train',
    'offline_ipo',
    tmp_path / 'run',
    f'--gin_file={tmp_path / "my_loss.gin"}',
    '--gin.INITIAL_CHECKPOINT_PATH="unread"',
    '--dry_run',
  )
  told = capsys.readouterr().out
  assert 'function: my_module.my_loss' in told
  assert "scalars: ('beta', 0.1)" in told
