"""Results are named by the code that made them, not by its words."""

import sys

import pytest

from dap.stages import modules


@pytest.fixture
def package(tmp_path, monkeypatch):
  """Modules of the caller's own: `own.a` imports `own.b`, inside a function."""
  folder = tmp_path / 'own'
  folder.mkdir()
  (folder / '__init__.py').write_text('')
  (folder / 'a.py').write_text(
    '"""Words."""\nimport json\n\ndef f(x: int) -> int:\n  """More."""\n'
    '  from own import b\n  return b.g(x)\n'
  )
  (folder / 'b.py').write_text('def g(x):\n  return x + 1\n')
  monkeypatch.syspath_prepend(tmp_path)
  yield folder
  for name in [name for name in sys.modules if name.split('.')[0] == 'own']:
    del sys.modules[name]
  modules._file_of.cache_clear()


def reached():
  import own.a  # noqa: F401

  return modules.reached(['own.a'])


def test_imports_are_followed_and_libraries_are_not(package):
  assert list(reached()) == ['own', 'own.a', 'own.b']


@pytest.mark.parametrize(
  'text',
  [
    'import json\ndef f(x):\n  from own import b\n  return b.g(x)\n',
    '# why\nimport json\n\n\ndef f(x: float):\n  "other"\n\n'
    '  from own import b\n  return b.g(\n    x  # all\n  )\n',
  ],
)
def test_words_layout_and_annotations_change_nothing(package, text):
  before = reached()
  (package / 'a.py').write_text(text)
  assert reached() == before


@pytest.mark.parametrize(
  ('file', 'text'),
  [
    ('b.py', 'def g(x):\n  return x + 2\n'),
    ('b.py', 'def g(x):\n  return 1 + x\n'),
    ('b.py', 'def g(x):\n  return x + 1\nY = 1.0\n'),
    ('__init__.py', 'import json\n'),
  ],
)
def test_a_change_of_what_is_reached_is_told(package, file, text):
  before = reached()
  (package / file).write_text(text)
  after = reached()
  changed = [name for name in after if after[name] != before[name]]
  assert len(changed) == 1


def test_a_version_by_itself_changes_nothing(package):
  (package / '__init__.py').write_text("__version__ = '1'\n")
  before = reached()
  (package / '__init__.py').write_text("__version__ = '2'\n")
  assert reached() == before


def test_a_training_reaches_its_loop_and_an_evaluation_its_estimators():
  found = modules.reached(['dap.study.making.trainings'])
  assert {'dap.training.loop', 'dap.losses', 'dap.records'} <= found.keys()
  assert not any(name.startswith('dap.study.report') for name in found)
  assert not any(name.startswith('dap.commands') for name in found)


def test_modules_of_a_configuration_are_found_in_its_description():
  described = {
    'loss': {'$function': 'dap.losses.pairwise.ipo_loss', 'source': 'x'},
    'many': [{'$type': 'dap.records.Batch', 'a': {'$enum': 'nowhere.X.Y'}}],
  }
  import dap.losses.pairwise  # noqa: F401
  import dap.records  # noqa: F401

  found = [name for name in modules.named_in(described) if name]
  assert found == ['dap.losses.pairwise', 'dap.records']
  assert 'source' not in modules.without_code(described)['loss']
