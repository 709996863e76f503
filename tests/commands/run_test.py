import re
import shlex

import pytest

from dap import main
from dap.commands import COMMANDS, places, run

EXPERIMENTS = sorted(
  path
  for path in (places.root() / 'configs').rglob('*.gin')
  if path.parent.name != 't5x'  # T5X's own programs read those
)


def configured(words):
  """The arguments that a command line gives to its run function."""
  words, overrides = main._take_overrides(words)
  files = [w.removeprefix('--gin_file=') for w in words[1:]]
  return run.configure(COMMANDS[words[0]], files, overrides, COMMANDS)


@pytest.mark.parametrize('name', COMMANDS)
def test_the_example_of_a_command_is_complete(name):
  words = shlex.split(COMMANDS[name].example.replace('\\\n', ' '))
  assert words[:2] == ['dap', name]
  if COMMANDS[name].words:
    commands = COMMANDS[name].example.splitlines()
    for command in map(shlex.split, commands):
      parsed, overrides = main._take_overrides(command[1:])
      main._parser().parse_args(parsed)
      assert not overrides
    return
  arguments = configured(words[1:])
  assert arguments or name == 'env'


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_the_command_in_an_experiments_head_is_complete(path):
  head = [
    line.removeprefix('#').strip().removesuffix('\\')
    for line in path.read_text().splitlines()
    if line.startswith('#')
  ]
  command = re.search(r'dap (train|study) .*', ' '.join(head))
  assert command, f'{path} shows no command'
  words = shlex.split(command.group())
  arguments = configured(words[1:])
  assert {'run', 'study'} & arguments.keys()
