import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import t5x_parity as parity
import tiny
from etils import epath

from dap import main
from dap.checkpoints import convert, layouts, state, tensors
from dap.errors import InputError
from dap.models import heads

SOURCES = {
  'dap': None,
  't5x': parity.FOLDER / 'native',
  't5x (scanned layers)': parity.FOLDER / 'native_scanned',
  't5x_orbax': parity.FOLDER / 'orbax',
  'hf': None,
}


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
  """One and the same model in every layout."""
  folder = tmp_path_factory.mktemp('sources')
  native = str(SOURCES['t5x'])
  for to in ('dap', 'hf'):
    convert.convert(native, str(folder / to), to)
  return SOURCES | {'dap': folder / 'dap', 'hf': folder / 'hf'}


@pytest.mark.parametrize('to', convert.WRITERS)
@pytest.mark.parametrize('layout', SOURCES)
def test_every_layout_becomes_every_other_to_the_bit(
  sources, layout, to, tmp_path
):
  written = convert.convert(str(sources[layout]), str(tmp_path / 'out'), to)
  assert written.layout == layout
  found = layouts.open_checkpoint(tmp_path / 'out')
  assert found.layout == to
  assert found.step == (0 if 'hf' in (layout, to) else 3)
  jax.tree.map(
    np.testing.assert_array_equal,
    layouts.read_params(tmp_path / 'out'),
    parity.params(),
  )
  assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_a_preference_model_keeps_its_head_where_there_is_room(tmp_path):
  model = heads.PointwisePreferenceModel(tiny.T5)
  params = model.init(jax.random.key(0))
  state.save(tmp_path / 'run', 2, params, {}, 'digest')
  for to in ('t5x', 't5x_orbax', 'dap'):
    convert.convert(str(tmp_path / 'run'), str(tmp_path / to), to)
    jax.tree.map(
      np.testing.assert_array_equal,
      layouts.read_params(tmp_path / to),
      params,
    )
  with pytest.raises(InputError, match='beside a T5, such as head/kernel'):
    convert.convert(str(tmp_path / 'run'), str(tmp_path / 'hf'), 'hf')


def test_an_existing_destination_is_kept(tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'mine').write_text('kept')
  with pytest.raises(InputError, match='exists already'):
    convert.convert(str(SOURCES['t5x']), str(tmp_path / 'out'), 'hf')
  assert [p.name for p in (tmp_path / 'out').iterdir()] == ['mine']


@pytest.mark.parametrize('to', convert.WRITERS)
def test_a_destination_may_be_relative(tmp_path, monkeypatch, to):
  monkeypatch.chdir(tmp_path)
  convert.convert(str(SOURCES['t5x']), 'new/out', to)
  assert layouts.open_checkpoint('new/out').layout == to


def test_a_link_to_an_empty_folder_is_followed(tmp_path):
  (tmp_path / 'there').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'there')
  convert.convert(str(SOURCES['t5x']), str(tmp_path / 'link'), 'hf')
  assert layouts.open_checkpoint(tmp_path / 'there').layout == 'hf'


@pytest.mark.parametrize(
  ('destination', 'to', 'message'),
  [
    ('{source}/new', 't5x', 'lies in the checkpoint .* itself'),
    ('hf://me/mine', 'hf', 'written to the hub.*hf upload'),
    ('file:///x', 'hf', 'A place is a local folder'),
    ('gs://bucket/x', 'dap', 'written to local folders'),
  ],
)
@pytest.mark.parametrize('dry', [False, True])
def test_a_destination_that_cannot_be_is_refused_first(
  tmp_path, capsys, destination, to, message, dry
):
  convert.convert(str(SOURCES['t5x']), str(tmp_path / 'source'), 't5x')
  place = destination.format(source=tmp_path / 'source')
  words = ['convert', str(tmp_path / 'source'), place, f'--to={to}']
  with pytest.raises(SystemExit):
    main.main([*words, '--dry_run'] if dry else words)
  assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize('to', convert.WRITERS)
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, to):
  code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from dap import main
main.main(['convert', {str(SOURCES['t5x'])!r}, {str(tmp_path / 'out')!r},
  '--to={to}'])
"""
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.returncode == 2, done.stderr
  assert 'could not be written' in done.stderr
  assert not list(tmp_path.iterdir())


def test_what_a_kill_left_is_removed_by_the_next(tmp_path):
  ended = subprocess.Popen([sys.executable, '-c', ''])
  ended.wait()
  abandoned = tmp_path / f'.out.{ended.pid}.aside'
  other = tmp_path / f'.out.{os.getppid()}.aside'  # of a process that runs
  for folder in (abandoned, other):
    folder.mkdir()
    (folder / 'half').write_text('half')
  convert.convert(str(SOURCES['t5x']), str(tmp_path / 'out'), 't5x')
  assert {path.name for path in tmp_path.iterdir()} == {'out', other.name}


def test_what_fails_on_its_way_leaves_nothing(tmp_path, monkeypatch):
  def fail(folder, contents, target):
    (pathlib.Path(folder) / 'half').write_text('half')
    raise InputError('the disk is gone')

  monkeypatch.setitem(convert.WRITERS, 't5x', fail)
  with pytest.raises(InputError, match='the disk is gone'):
    convert.convert(str(SOURCES['t5x']), str(tmp_path / 'out'), 't5x')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('to', 'target', 'message'),
  [
    ('onnx', convert.DEFAULT, 'Layouts are dap, t5x'),
    ('t5x', convert.Target(dtype='int8'), 'float32 or bfloat16, got .int8'),
    ('dap', convert.Target(dtype='bfloat16'), 'dap hold float32'),
    ('t5x', convert.Target(vocabulary='x'), 'belongs to hf alone'),
  ],
)
def test_what_cannot_be_written_is_refused_first(tmp_path, to, target, message):
  with pytest.raises(InputError, match=message):
    convert.convert(str(SOURCES['t5x']), str(tmp_path / 'out'), to, target)
  assert not list(tmp_path.iterdir())


def test_the_command_names_what_it_found_and_wrote(tmp_path, capsys):
  out = str(tmp_path / 'out')
  main.main(['convert', str(SOURCES['t5x_orbax']), out, '--to=t5x'])
  printed = capsys.readouterr().out
  assert 'checkpoint_3: t5x_orbax, step 3, 52 arrays, 57,984 param' in printed
  assert f'wrote t5x, float32: {out}' in printed
  assert layouts.open_checkpoint(out).layout == 't5x'


@pytest.mark.parametrize('to', convert.WRITERS)
def test_a_dry_run_prints_the_trees_and_writes_nothing(tmp_path, capsys, to):
  out = tmp_path / 'out'
  source = str(SOURCES['t5x (scanned layers)'])
  main.main(['convert', source, str(out), f'--to={to}', '--dry_run'])
  printed = capsys.readouterr().out
  assert 't5x (scanned layers), step 3' in printed
  assert re.search(
    r'encoder/layers_1/mlp/wo/kernel +float32 +\(64, 32\)', printed
  )
  assert f'would write {to} to {out}' in printed
  assert not out.exists()
  # What it promised is what is written.
  promised = printed.partition('would write')[2].splitlines()[1:]
  convert.convert(source, str(out), to)
  names = {name.strip() for name in promised}
  if to == 't5x_orbax':  # whose arrays lie in a database
    state_folder = epath.Path(out / 'state')
    keys = tensors.listing(tensors.ocdbt(state_folder), state_folder)
    arrays = {f'state/{x}' for x in tensors.array_folders(keys)}
    assert arrays | {layouts.FACTS} == names
    assert (out / layouts.FACTS).exists()
  else:
    assert all((out / name).exists() for name in names)


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ([], 'the following arguments are required'),
    (['a', 'b'], 'required: --to'),
    (['a', 'b', '--to=onnx'], "invalid choice: 'onnx'"),
    (['absent', 'b', '--to=hf'], 'it does not exist'),
    (['a', 'b', '--to=hf', '--gin.BETA=1'], 'not configured by gin'),
  ],
)
def test_mistakes_of_the_caller_exit_with_2(words, message, capsys):
  with pytest.raises(SystemExit) as raised:
    main.main(['convert', *words])
  assert raised.value.code == 2
  assert message in capsys.readouterr().err


def test_a_folder_named_for_another_step_is_refused(tmp_path):
  place = tmp_path / 'checkpoint_1800'
  with pytest.raises(InputError, match='Name the folder checkpoint_'):
    convert.convert(str(SOURCES['t5x']), str(place), 't5x')
  assert not place.exists()
