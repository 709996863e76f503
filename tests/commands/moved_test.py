import importlib.util
import sys
import types

import pytest

from dap.commands import bindings, moved, syntax
from dap.errors import InputError

HEAD = """\
from __gin__ import dynamic_registration
import newer
"""


@pytest.fixture
def newer(monkeypatch, tmp_path):
  """A module from which things have gone, and a table that knows them."""
  module = types.ModuleType('newer')
  exec(
    'class Algorithm:\n'
    '  def __init__(self, loss=None, behaviour=None): pass\n'
    'def ipo(beta=0.1): return beta\n',
    vars(module),
  )
  monkeypatch.setitem(sys.modules, 'newer', module)
  monkeypatch.setattr(
    moved,
    'OBJECTS',
    {
      'newer.cdpo': 'Write @newer.smoothed().',
      'newer.Algorithm.refresh': 'Write newer.Algorithm.behaviour.',
      'newer.refresh': 'Its schedules are in newer.schedules.',
      'newer.ipo': 'Is never asked: ipo is there.',
    },
  )
  monkeypatch.chdir(tmp_path)
  return tmp_path / 'old.gin'


def refusal(file, text='', *overrides):
  file.write_text(HEAD + text)
  with pytest.raises(InputError) as refused:
    bindings.read([file.name], overrides)
  return str(refused.value)


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ('newer.cdpo.beta = 0.1', 'no `cdpo`. Write @newer.smoothed().'),
    ('a/newer.cdpo.beta = 0.1', 'no `cdpo`. Write @newer.smoothed().'),
    ('newer.cdpo:\n  beta = 0.1', 'no `cdpo`. Write @newer.smoothed().'),
    ('LOSS = @newer.cdpo()', 'no `cdpo`. Write @newer.smoothed().'),
    ('LOSS = [{1: @a/newer.cdpo}]', 'no `cdpo`. Write @newer.smoothed().'),
    (
      'newer.Algorithm.refresh = 1',
      'no argument `refresh`. Write newer.Algorithm.behaviour.',
    ),
    (
      'newer.Algorithm:\n  refresh = 1',
      'no argument `refresh`. Write newer.Algorithm.behaviour.',
    ),
    (
      'R = @newer.refresh.Every()',
      'no `refresh.Every`. Its schedules are in newer.schedules.',
    ),
    (
      'import newer.refresh',
      'no module `newer.refresh`. Its schedules are in newer.schedules.',
    ),
  ],
)
def test_what_is_gone_is_refused_with_what_to_write(newer, line, expected):
  message = refusal(newer, line + '\n')
  assert message.startswith('old.gin:') and message.endswith(expected)


@pytest.mark.parametrize(
  ('name', 'value', 'expected'),
  [
    ('newer.cdpo.beta', '0.1', 'no `cdpo`. Write @newer.smoothed().'),
    ('LOSS', '@newer.cdpo()', 'no `cdpo`. Write @newer.smoothed().'),
    (
      'mine/newer.Algorithm.refresh',
      '1',
      'no argument `refresh`. Write newer.Algorithm.behaviour.',
    ),
  ],
)
def test_so_is_an_override(newer, name, value, expected):
  message = refusal(newer, '', (name, value))
  assert message.startswith(f'--gin.{name}={value}: ')
  assert message.endswith(expected)


def test_what_is_there_is_not_looked_for_in_the_table(newer):
  newer.write_text(HEAD + 'newer.ipo.beta = 0.5\n')
  (binding,) = bindings.read([newer.name])
  assert binding.value == 0.5


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    (
      'from dap.study import grid',
      'dap.study.grid moved to dap.study.design.grid. Write `from'
      ' dap.study.design import grid`.',
    ),
    (
      'from dap.study import points',
      'dap.study.points moved to dap.study.reading.runs. Write `from'
      ' dap.study.reading import runs as points`.',
    ),
    (
      'import dap.study.grid as g',
      'Write `import dap.study.design.grid as g`.',
    ),
    ('import dap.groups', 'Write `import dap.training.stacks`.'),
    (
      'from dap.study import report',
      'Write `from dap.study.report import report`.',
    ),
  ],
)
def test_an_import_of_a_module_that_moved_is_refused_with_the_new_one(
  tmp_path, line, expected
):
  path = tmp_path / 'old.gin'
  path.write_text(f'from __gin__ import dynamic_registration\n{line}\n')
  with pytest.raises(InputError) as refused:
    syntax.parse([str(path)])
  message = str(refused.value)
  assert 'old.gin:2: dap.' in message and message.endswith(expected)


def test_an_override_of_a_module_that_moved_is_refused():
  import dap.study.run  # noqa: F401 (so that dap.study is there)

  with pytest.raises(InputError, match='moved to dap.study.design.grid'):
    bindings.read([], [('dap.study.grid.Arm.name', "'a'")])


# Packages now, of the modules that their entries name.
PACKAGES = {'dap.study.forecast', 'dap.study.report'}


@pytest.mark.parametrize('old', moved.MODULES)
def test_a_module_that_moved_is_there_and_no_longer_here(old):
  new = moved.MODULES[old]
  assert importlib.util.find_spec(new) is not None
  if old in PACKAGES:
    assert new.startswith(f'{old}.')
  else:
    with pytest.raises(ModuleNotFoundError):
      importlib.import_module(old)
