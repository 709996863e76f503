import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny

from dap import errors, partitioning
from dap.checkpoints import load, state

NATIVE = pathlib.Path(__file__).parents[1] / 'fixtures' / 't5x' / 'native'
ONE_DEVICE = partitioning.mesh((1, 1))
PARAMS = tiny.POLICY.init(jax.random.key(0))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  state.save(folder / 'checkpoints', 4, PARAMS, {}, 'digest')
  return folder


def test_a_run_or_its_checkpoint_gives_the_parameters(run):
  for path in (run, run / 'checkpoints' / 'checkpoint_4'):
    found = load.load_params(tiny.POLICY, path, ONE_DEVICE)
    jax.tree.map(np.testing.assert_array_equal, found, PARAMS)


def test_parameters_lie_on_the_mesh_as_the_model_says(run):
  mesh = partitioning.mesh((2, 2))
  found = load.load_params(tiny.POLICY, run, mesh)
  kernel = found['encoder']['layers_0']['mlp']['wi_0']['kernel']
  assert kernel.addressable_shards[0].data.shape == (16, 16)  # 32 / 2
  np.testing.assert_array_equal(
    kernel, PARAMS['encoder']['layers_0']['mlp']['wi_0']['kernel']
  )


def test_a_t5x_checkpoint_of_another_size_is_refused():
  with pytest.raises(errors.InputError, match='must fit the model'):
    load.load_params(tiny.POLICY, NATIVE / 'checkpoint_3', ONE_DEVICE)


def test_a_fingerprint_names_content_and_no_place(run, tmp_path):
  copied = shutil.copytree(run, tmp_path / 'copied')
  assert load.fingerprint(str(run)) == load.fingerprint(str(copied))
  assert load.fingerprint('') == ''
  params = jax.tree.map(lambda leaf: leaf + 1, PARAMS)
  state.save(copied / 'checkpoints', 4, params, {}, 'digest')
  assert load.fingerprint(str(run)) != load.fingerprint(str(copied))
  assert load.fingerprint(str(NATIVE / 'checkpoint_3'))


def test_a_path_that_is_not_given_is_asked_for():
  assert load.require('out/sft', 'a judge', 'PATH') == 'out/sft'
  with pytest.raises(errors.InputError, match='a judge.*--gin.PATH=\'"path"\''):
    load.require('', 'a judge', 'PATH')
