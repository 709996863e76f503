import json
import shutil

import jax
import numpy as np
import pytest
import t5x_parity as parity
from etils import epath
from flax import serialization

from dap.checkpoints import convert, layouts, stored, t5x_native
from dap.errors import InputError


def read(folder):
  return layouts.read_params(folder)


def copy(tmp_path):
  return shutil.copytree(parity.NATIVE, tmp_path / 'checkpoint_3')


def rewrite(folder, change):
  path = folder / 'checkpoint'
  index = serialization.msgpack_restore(path.read_bytes())
  change(index)
  path.write_bytes(serialization.msgpack_serialize(index))


def contents_of(folder, keep=lambda name: True):
  files = (path for path in folder.rglob('*') if path.is_file())
  named = {path.relative_to(folder).as_posix(): path for path in files}
  return {n: path.read_bytes() for n, path in named.items() if keep(n)}


def test_paths_written_for_a_bucket_or_by_an_older_tensorstore_are_found(
  tmp_path,
):
  def change(index):
    encoder = index['optimizer']['target']['encoder']
    spec = encoder['encoder_norm']['scale']
    path = spec['kvstore']['path']
    spec['kvstore'] = {
      'driver': 'gcs',
      'bucket': 't5x-dummy-bucket',
      'path': path,
    }
    spec = encoder['layers_0']['attention']['key']['kernel']
    spec['path'] = spec['kvstore'].pop('path')

  folder = copy(tmp_path)
  rewrite(folder, change)
  jax.tree.map(np.testing.assert_array_equal, read(folder), read(parity.NATIVE))


def test_inline_arrays_are_read(tmp_path):
  table = read(parity.NATIVE)['encoder']['relpos_bias']['rel_embedding']

  def change(index):
    bias = index['optimizer']['target']['encoder']['relpos_bias']
    bias['rel_embedding'] = table

  folder = copy(tmp_path)
  rewrite(folder, change)
  found = read(folder)['encoder']['relpos_bias']['rel_embedding']
  np.testing.assert_array_equal(found, table)


def test_an_exported_checkpoint_is_t5x_s_file_for_file(tmp_path):
  convert.convert(str(parity.NATIVE), str(tmp_path / 'ours'), 't5x')
  ours = contents_of(tmp_path / 'ours')
  arrays = lambda name: name.startswith('target.')
  theirs = contents_of(parity.NATIVE, arrays)
  assert len(theirs) == 2 * 52  # .zarray and one chunk each
  assert {n: x for n, x in ours.items() if arrays(n)} == theirs
  assert ours.keys() - theirs.keys() == {'checkpoint', 'dap.json'}
  mine, real = (
    serialization.msgpack_restore((folder / 'checkpoint').read_bytes())
    for folder in (tmp_path / 'ours', parity.NATIVE)
  )
  assert mine['version'] == real['version'] == 3
  assert mine['optimizer']['target'] == real['optimizer']['target']
  assert mine['optimizer']['state'] == {'step': np.int32(3)}


def test_a_checkpoint_without_optimizer_state_is_t5x_s_byte_for_byte(tmp_path):
  scanned = parity.FOLDER / 'native_scanned' / 'checkpoint_3'
  arrays, step = t5x_native.open_native(epath.Path(scanned))
  parts = {name: stored.whole(array) for name, array in arrays.items()}
  t5x_native.write(epath.Path(tmp_path), parts, step)
  assert contents_of(tmp_path) == contents_of(scanned)


@pytest.mark.parametrize(
  ('shape', 'most', 'chunk'),
  [
    ((32128, 1024), 1 << 24, (16064, 1024)),  # half: 16.4 million numbers
    ((8, 6), 48, (8, 6)),
    ((8, 6), 24, (4, 6)),
    ((4, 6), 8, (2, 3)),
    ((7,), 3, (1,)),  # 7 is prime
    ((), 1, ()),
  ],
)
def test_chunks_divide_the_longest_axis(shape, most, chunk):
  assert t5x_native.chunk_shape(shape, most) == chunk


def test_a_copy_without_dot_files_is_refused(tmp_path):
  folder = copy(tmp_path)
  next(folder.glob('target.*/.zarray')).unlink()
  with pytest.raises(InputError, match='dot files'):
    read(folder)


def test_an_absent_chunk_is_no_array_of_zeros(tmp_path):
  folder = copy(tmp_path)
  (folder / 'target.token_embedder.embedding' / '0.0').unlink()
  with pytest.raises(InputError, match="embedding.*1 are absent, first '0.0'"):
    read(folder)


def test_a_truncated_chunk_is_named(tmp_path):
  folder = copy(tmp_path)
  chunk = folder / 'target.token_embedder.embedding' / '0.0'
  chunk.write_bytes(chunk.read_bytes()[:500])
  with pytest.raises(InputError, match='embedding.*truncated.*copy the check'):
    read(folder)


def declare(folder, shape, chunks):
  path = folder / 'target.token_embedder.embedding' / '.zarray'
  header = json.loads(path.read_text())
  path.write_text(json.dumps(header | {'shape': shape, 'chunks': chunks}))


@pytest.mark.parametrize(
  ('shape', 'chunks', 'message'),
  [
    ((50_000, 50_000), (50_000, 50_000), '10,000,000,000 bytes, but'),
    ((50_000, 50_000), (1, 50_000), '50000 chunks'),
    ((2**40, 2**20), (1, 1), '1152921504606846976 chunks'),
    # Little in vast chunks, which tensorstore would take memory for.
    ((128, 32), (2**20, 2**20), 'declares 16,384 bytes in chunks of 4,398'),
  ],
)
def test_ten_gigabytes_in_a_header_take_no_memory(
  tmp_path, shape, chunks, message
):
  folder = copy(tmp_path)
  declare(folder, shape, chunks)
  with pytest.raises(InputError, match=message):
    read(folder)


@pytest.mark.parametrize(
  'content',
  [b'', b'\xc1', b'\xdf\xff\xff\xff\xff', b'\xc6\xff\xff\xff\xff', b'pickle'],
  ids=['empty', 'no msgpack', '4 G entries', '4 GB', 'a number'],
)
def test_an_index_that_no_t5x_wrote_is_refused(tmp_path, content):
  (tmp_path / 'checkpoint').write_bytes(content)
  with pytest.raises(InputError, match='index checkpoint|of version >= 2'):
    read(tmp_path)


def test_a_version_before_2_is_refused(tmp_path):
  folder = copy(tmp_path)
  rewrite(folder, lambda index: index.update(version=1))
  with pytest.raises(InputError, match='got 1'):
    read(folder)


def test_an_index_without_parameters_is_refused(tmp_path):
  folder = copy(tmp_path)
  rewrite(folder, lambda index: index['optimizer'].pop('target'))
  with pytest.raises(InputError, match='parameters under `target`'):
    read(folder)


@pytest.mark.parametrize(
  'change',
  [
    lambda index: index.update(optimizer=[1]),
    lambda index: index.update(version='3'),
    lambda index: index['optimizer'].update(state=None),
    lambda index: index['optimizer']['state'].update(step=np.arange(2)),
    lambda index: index['optimizer']['state'].update(step='x'),
    lambda index: index['optimizer']['target']['encoder']['encoder_norm'][
      'scale'
    ].update(kvstore='file'),
  ],
)
def test_an_index_of_other_kinds_is_refused(tmp_path, change):
  folder = copy(tmp_path)
  rewrite(folder, change)
  with pytest.raises(InputError, match='checkpoint'):
    read(folder)


def test_layers_are_numbered_without_gaps(tmp_path):
  def change(index):
    encoder = index['optimizer']['target']['encoder']
    encoder['layers_999999999'] = encoder.pop('layers_1')

  folder = copy(tmp_path)
  rewrite(folder, change)
  contents = layouts.open_checkpoint(folder)
  with pytest.raises(InputError, match='has 2, up to 999999999'):
    contents.t5_config()


def test_an_index_cannot_lead_out_of_its_folder(tmp_path):
  def change(index):
    norm = index['optimizer']['target']['encoder']['encoder_norm']
    norm['scale']['kvstore']['path'] = '../../elsewhere/'

  folder = copy(tmp_path)
  rewrite(folder, change)
  with pytest.raises(InputError, match='checkpoint_3/elsewhere/.zarray'):
    read(folder)
