import hashlib
import shutil

import jax
import numpy as np
import pytest
import t5x_parity as parity
from flax import serialization, traverse_util

from dap.checkpoints import t5x
from dap.errors import InputError
from dap.models import t5

SHAPES = jax.eval_shape(
  lambda key: t5.init_params(parity.CONFIG, key), jax.random.key(0)
)


def test_every_array_is_read_to_the_bit():
  params = t5x.read_native(parity.NATIVE)
  flat = traverse_util.flatten_dict(params, sep='/')
  assert flat.keys() == parity.TREE['params'].keys()
  for name, known in parity.TREE['params'].items():
    digest = hashlib.sha256(flat[name].tobytes()).hexdigest()
    assert digest[:16] == known['sha256_step3'], name
    assert flat[name].dtype == np.float32


def test_the_step_is_read():
  assert t5x.read_native_step(str(parity.NATIVE)) == 3


def test_parameters_that_fit_the_model_pass():
  t5x.check_params(t5x.read_native(parity.NATIVE), SHAPES)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda flat: flat.pop('encoder/encoder_norm/scale'), 'scale is missing'),
    (lambda flat: flat.update({'other': np.zeros(2)}), 'other is unknown'),
    (
      lambda flat: flat.update({'encoder/encoder_norm/scale': np.zeros(2)}),
      r'has shape \(2,\), not \(32,\)',
    ),
  ],
)
def test_parameters_of_another_model_are_refused(change, message):
  flat = traverse_util.flatten_dict(t5x.read_native(parity.NATIVE), sep='/')
  change(flat)
  with pytest.raises(InputError, match=message):
    t5x.check_params(traverse_util.unflatten_dict(flat, sep='/'), SHAPES)


def copy(tmp_path):
  return shutil.copytree(parity.NATIVE, tmp_path / 'checkpoint_3')


def rewrite(folder, change):
  path = folder / 'checkpoint'
  index = serialization.msgpack_restore(path.read_bytes())
  change(index)
  path.write_bytes(serialization.msgpack_serialize(index))


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
  jax.tree.map(
    np.testing.assert_array_equal,
    t5x.read_native(folder),
    t5x.read_native(parity.NATIVE),
  )


def test_a_copy_without_dot_files_is_refused(tmp_path):
  folder = copy(tmp_path)
  next(folder.glob('target.*/.zarray')).unlink()
  with pytest.raises(InputError, match='dot files'):
    t5x.read_native(folder)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
  with pytest.raises(InputError, match='Give the folder checkpoint_N itself'):
    t5x.read_native(tmp_path)


def test_a_version_before_2_is_refused(tmp_path):
  folder = copy(tmp_path)
  rewrite(folder, lambda index: index.update(version=1))
  with pytest.raises(InputError, match='got 1'):
    t5x.read_native(folder)
