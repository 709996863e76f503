import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

from dap.commands import COMMANDS, bindings, reads

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'dap'
FILES = sorted(PACKAGE.rglob('*.py'))
PARTS = sorted((ROOT / 'gin').rglob('*.gin'))
CONFIGS = sorted((ROOT / 'configs').rglob('*.gin'))
# T5X's programs read those of configs/t5x, see t5x_adapter_test.py: they bind
# its functions, and dap's reader would need T5X to be installed.
EXPERIMENTS = [path for path in CONFIGS if path.parent.name != 't5x']

# A file or folder of dap/ that is not here has no layer yet: choose the lowest
# whose imports suffice.
LAYERS = {
  'disks': 0,
  'errors': 0,
  'files': 0,
  'folders': 0,
  'progress': 0,
  'secrets': 0,
  'records': 0,
  'seals': 0,
  'stages': 0,
  'stopping': 0,
  'estimators': 1,
  'losses': 1,
  'sampling': 1,
  'models': 2,
  'optimizers': 2,
  'partitioning': 2,
  'annotators': 3,
  'checkpoints': 3,
  'data': 3,
  'algorithms': 4,
  'costs': 5,
  'kept': 5,
  'memory': 5,
  'stream': 5,
  't5x': 5,
  'train': 5,
  'training': 5,
  'evaluation': 6,
  'study': 7,
  'commands': 8,
  'main': 8,
  '__main__': 8,
}
# Within dap/study, floor by floor: each imports those before it.
STUDY_ROOMS = (
  'reading',
  'analyses',
  'report',
  'design',
  'making',
  'forecast',
  'verify',
  'run',
)
# Seconds to import, or absent without an extra: only inside functions.
HEAVY = {
  'datasets',
  'matplotlib',
  'orbax',
  'plotly',
  'rich',
  'seqio',
  't5x',
  'tensorboardX',
  'tensorflow',
  'tensorflow_datasets',
}
GIN_READERS = {'commands'}
# Derives classes from those of T5X and seqio; nothing else of dap imports it.
T5X_ADAPTER = 't5x'


def part_of(path):
  """The file or folder of dap/ that a path is in: what has a layer."""
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def tree(path):
  return ast.parse(path.read_text(encoding='utf-8'), str(path))


def imports(nodes):
  """The full names that import statements among the nodes ask for."""
  for node in nodes:
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'imports are absolute'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def outside_functions(node):
  """The nodes that run when a file is imported."""
  for child in ast.iter_child_nodes(node):
    if not isinstance(child, ast.FunctionDef | ast.Lambda):
      yield child
      yield from outside_functions(child)


def functions(path):
  nodes = ast.walk(tree(path))
  return [node for node in nodes if isinstance(node, ast.FunctionDef)]


def lines_without_docstring(function):
  lines = function.end_lineno - function.lineno + 1
  first = function.body[0]
  if ast.get_docstring(function) is not None:
    lines -= first.end_lineno - first.lineno + 1
  return lines


def percentile(percent, values):
  return sorted(values)[int(percent / 100 * (len(values) - 1))]


def named(path):
  return str(path.relative_to(ROOT))


def test_every_folder_is_a_package():
  folders = {path.parent for path in FILES}
  assert all((folder / '__init__.py').exists() for folder in folders)


@pytest.mark.parametrize('path', FILES, ids=named)
def test_imports_point_down_the_layers(path):
  if path == PACKAGE / '__init__.py':
    assert not list(imports(ast.walk(tree(path))))
    return
  for name in imports(ast.walk(tree(path))):
    package, *rest = name.split('.')
    if package == 'dap' and rest and rest[0] in LAYERS:
      assert LAYERS[rest[0]] <= LAYERS[part_of(path)], f'imports {name}'
    elif package == 'dap' and rest:
      assert (PACKAGE / rest[0]).exists() is False, f'{name} has no layer'


def test_stages_know_no_floor_above_the_first():
  for path in (PACKAGE / 'stages').glob('*.py'):
    for name in imports(ast.walk(tree(path))):
      package, *rest = name.split('.')
      if package == 'dap' and rest:
        assert LAYERS[rest[0]] == 0, name


@pytest.mark.parametrize(
  'path', sorted((PACKAGE / 'study').rglob('*.py')), ids=named
)
def test_rooms_of_the_study_import_down_their_floors(path):
  room = path.relative_to(PACKAGE / 'study').parts[0].removesuffix('.py')
  if room == '__init__':
    return
  for name in imports(ast.walk(tree(path))):
    if name.startswith('dap.study.'):
      other = name.split('.')[2]
      below = STUDY_ROOMS[: STUDY_ROOMS.index(room) + 1]
      assert other in below, f'imports {name}'


def test_no_module_imports_itself_through_others():
  arrows = {}
  for path in FILES:
    module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    module = module.removesuffix('.__init__')
    arrows[module] = set(imports(ast.walk(tree(path))))
  modules = set(arrows)

  def reached(name):
    while name not in modules:
      name = name.rpartition('.')[0]
      if not name:
        return None
    return name

  graph = {
    module: {reached(name) for name in names} - {None, 'dap', module}
    for module, names in arrows.items()
  }
  tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize('path', FILES, ids=named)
def test_a_docstring_opens_with_the_layer(path):
  docstring = ast.get_docstring(tree(path)) or ''
  if path == PACKAGE / '__init__.py' or not path.read_text().strip():
    return
  assert docstring.startswith(f'Layer {LAYERS[part_of(path)]}. ')


def test_only_the_command_line_imports_gin():
  readers = {
    part_of(path)
    for path in FILES
    for name in imports(ast.walk(tree(path)))
    if name.split('.')[0] == 'gin'
  }
  assert readers <= GIN_READERS


@pytest.mark.parametrize('path', FILES, ids=named)
def test_heavy_libraries_are_imported_where_they_are_used(path):
  if part_of(path) == T5X_ADAPTER:
    return
  at_import = imports(outside_functions(tree(path)))
  assert not {name.split('.')[0] for name in at_import} & HEAVY


def test_one_part_alone_imports_t5x_and_no_other_imports_that_part():
  for path in FILES:
    if part_of(path) != T5X_ADAPTER:
      names = imports(ast.walk(tree(path)))
      assert not [n for n in names if n.startswith(('t5x', 'dap.t5x'))], path


def test_losses_and_sampling_load_neither_tensorflow_nor_orbax():
  program = (
    'import dap.losses, dap.sampling, sys;'
    f'print(sorted({HEAVY | {"gin", "optax"}} & set(sys.modules)))'
  )
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert done.stdout == '[]\n'


def test_files_fit_a_sitting_and_functions_a_screen():
  files = [len(path.read_text().splitlines()) for path in FILES]
  assert percentile(90, files) <= 350
  lengths = [
    lines_without_docstring(function)
    for path in FILES
    for function in functions(path)
  ]
  assert percentile(95, lengths) <= 40


@pytest.mark.parametrize('path', FILES, ids=named)
def test_what_is_public_has_a_docstring(path):
  kinds = (ast.FunctionDef, ast.ClassDef)
  bare = [
    node.name
    for node in tree(path).body
    if isinstance(node, kinds)
    and not node.name.startswith('_')
    and not ast.get_docstring(node)
  ]
  assert not bare


def test_nothing_is_left_to_do():
  marks = ('TO' + 'DO', 'FIX' + 'ME', 'X' * 3)
  sources = [*FILES, *PARTS, *CONFIGS]
  sources += [*(ROOT / 'tests').rglob('*.py'), *(ROOT / 'launch').iterdir()]
  assert not [
    named(path)
    for path in sources
    if path.is_file() and any(mark in path.read_text() for mark in marks)
  ]


def test_no_folder_hides_the_gin_library():
  assert not (ROOT / 'gin' / '__init__.py').exists()


@pytest.mark.parametrize('path', [*PARTS, *EXPERIMENTS], ids=named)
def test_a_gin_file_reads_and_opens_with_what_it_is(path):
  assert path.read_text().startswith('# ')
  assert bindings.read([str(path)])


@pytest.mark.parametrize('path', EXPERIMENTS, ids=named)
def test_an_experiment_shows_its_command_and_binds_nothing_in_vain(path):
  assert f'--gin_file={named(path)}' in path.read_text()
  read = bindings.read([str(path)])
  runs = {
    f'{command.module}.{command.function}' for command in COMMANDS.values()
  }
  bound = {
    binding.target
    for binding in read
    if not binding.is_macro
    and f'{binding.target.__module__}.{binding.target.__qualname__}' in runs
  }
  assert bound, 'binds no run function'
  reads.refuse_unread(read, next(iter(bound)), bound)
