"""What README.md prints works as printed, in a fresh folder."""

import pathlib
import re
import shlex

import jax
import pytest
import tiny_commands

from dap import main
from dap.checkpoints import state
from dap.models import t5
from dap.models.policy import Policy

README = pathlib.Path(__file__).parents[1] / 'README.md'


def fenced(kind=''):
  """What stands in fences of a kind."""
  return re.findall(rf'```{kind}\n(.*?)```', README.read_text(), re.DOTALL)


def commands():
  """The words of each `dap` command, its comment and settings left out."""
  text = '\n'.join(fenced()).replace('\\\n', ' ')
  lines = (shlex.split(line, comments=True) for line in text.splitlines()
           if re.match(r'(\w+=\S+ )*dap [a-z]', line))  # fmt: skip
  return [line[line.index('dap') + 1 :] for line in lines]


COMMANDS = commands()
CONFIGURED = [words for words in COMMANDS if words[0] != 'convert']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Fresh, with a checkpoint where README has one from elsewhere."""
  folder = tmp_path_factory.mktemp('readme')
  policy = Policy(t5.T5(t5.T5Config(32128, 8, 2, 4, 16, 1, 1)))
  params = policy.init(jax.random.key(0))
  state.save(folder / 'ours' / 'checkpoints', 1, params, {}, '')
  there = folder / 't5_1_1_base' / 'checkpoint_1000000'
  main.main(['convert', str(folder / 'ours'), str(there), '--to=t5x'])
  return folder


def test_the_commands_of_the_page_are_found():
  kinds = [words[0] for words in COMMANDS]
  assert {'data', 'train', 'sample', 'study', 'convert'} <= set(kinds)
  assert len(COMMANDS) >= 11


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
  (to_t5x,) = (words for words in COMMANDS if '--to=t5x' in words)
  main.main([*to_t5x, '--dry_run'])
  assert 'would write t5x to out/ipo_t5x/' in capsys.readouterr().out


def test_what_is_in_a_checkpoint_from_elsewhere_is_told(
  folder, monkeypatch, capsys
):
  monkeypatch.chdir(folder)
  (words,) = (words for words in COMMANDS if '--to=dap' in words)
  main.main(words)
  assert 'would write dap to out/flax' in capsys.readouterr().out


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
