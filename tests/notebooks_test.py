import ast
import pathlib

import pytest
import tiny_study

nbclient = pytest.importorskip('nbclient', reason='comes with the extra [test]')
nbformat = pytest.importorskip('nbformat', reason='comes with the extra [test]')
kernelspec = pytest.importorskip('ipykernel.kernelspec')

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))
SMALL = {
  'jitted_functions': {
    'NUM_PAIRS': 256,
    'SFT_STEPS': 20,
    'IPO_STEPS': 10,
    'NUM_SAMPLES': 4,
  },
  'new_loss': {
    'OVERRIDES': {**tiny_study.GAP_SIZES, 'SETTINGS': ((1e-2, 0.1),)},
  },
  'reading_runs': {},  # reads tests/fixtures/study, which is small
}
NUM_FIGURES = {'jitted_functions': 2, 'new_loss': 2, 'reading_runs': 3}


def read(path):
  return nbformat.read(path, as_version=4)


def parameters_at(notebook):
  """Where the cell is that a caller's own parameters follow."""
  (index,) = [
    index
    for index, cell in enumerate(notebook.cells)
    if 'parameters' in cell.metadata.get('tags', [])
  ]
  return index


@pytest.fixture
def kernel(tmp_path, monkeypatch):
  """The name of a kernel that is this python; nothing is kept in the home."""
  kernelspec.write_kernel_spec(tmp_path / 'kernels' / 'this_python')
  for name in ('JUPYTER_PATH', 'JUPYTER_CONFIG_DIR', 'IPYTHONDIR'):
    monkeypatch.setenv(name, str(tmp_path))
  monkeypatch.setenv('JUPYTER_RUNTIME_DIR', str(tmp_path / 'runtime'))
  # The models are tiny: most of the time is compilation.
  monkeypatch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
  return 'this_python'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_at_a_small_size_and_draws_its_figures(
  path, kernel, tmp_path
):
  notebook = read(path)
  own = dict(SMALL[path.stem])
  if path.stem == 'new_loss':
    own['STUDY_DIR'] = str(tmp_path / 'study')
  text = '\n'.join(f'{name} = {value!r}' for name, value in own.items())
  cell = nbformat.v4.new_code_cell(text)
  notebook.cells.insert(parameters_at(notebook) + 1, cell)
  nbclient.NotebookClient(
    notebook,
    timeout=300,
    kernel_name=kernel,
    resources={'metadata': {'path': str(path.parent)}},
  ).execute()
  outputs = [o for cell in notebook.cells for o in cell.get('outputs', [])]
  figures = [o for o in outputs if 'image/png' in o.get('data', {})]
  assert len(figures) == NUM_FIGURES[path.stem]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_small_size_names_parameters_of_the_notebook(path):
  notebook = read(path)
  source = notebook.cells[parameters_at(notebook)].source
  names = {node.targets[0].id for node in ast.parse(source).body}
  assert SMALL[path.stem].keys() <= names


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_what_it_shows_its_time_and_how_to_run_it(path):
  opening = read(path).cells[0]
  assert opening.cell_type == 'markdown' and opening.source.startswith('# ')
  assert '**Time**' in opening.source
  assert f'jupyter execute --inplace notebooks/{path.name}' in opening.source


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
  cells = [cell for cell in read(path).cells if cell.cell_type == 'code']
  assert not [cell for cell in cells if cell.outputs or cell.execution_count]
