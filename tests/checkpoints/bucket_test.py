import pathlib
import shutil

import fake_bucket
import jax
import numpy as np
import pytest
import t5x_parity as parity

from dap import partitioning
from dap.checkpoints import convert, layouts, load
from dap.errors import InputError
from dap.models.policy import Policy

gcsfs = pytest.importorskip('gcsfs', reason='needs the extra [gcs]')
HF = pathlib.Path(__file__).parents[1] / 'fixtures' / 'hf'


@pytest.fixture
def bucket(tmp_path, monkeypatch):
  """gs://bucket/ as an empty folder of this machine, and the requests to it."""
  # With tensorflow installed etils would take its client, which has no
  # setting for another server.
  from etils.epath import gpath

  monkeypatch.setenv('EPATH_USE_TF', 'false')
  gpath._is_tf_installed.cache_clear()
  gcsfs.GCSFileSystem.clear_instance_cache()
  root = tmp_path / 'bucket'
  root.mkdir()
  with fake_bucket.served(root, monkeypatch) as requests:
    yield root, requests
  gpath._is_tf_installed.cache_clear()
  gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.mark.parametrize('name', ['native', 'native_scanned', 'orbax'])
def test_t5x_checkpoints_are_loaded_from_a_bucket(bucket, name):
  root, requests = bucket
  shutil.copytree(parity.FOLDER / name, root / 'models' / name)
  mesh = partitioning.mesh((2, 2))
  params = load.load_params(
    Policy(parity.T5), f'gs://bucket/models/{name}', mesh
  )
  jax.tree.map(np.testing.assert_array_equal, params, parity.params())
  chunks = [r for r in requests if 'token_embedder.embedding%2F0.0?alt' in r]
  assert len(chunks) == (0 if name == 'orbax' else 1)  # each array read once
  assert not [r for r in requests if 'param_states' in r]
  here = layouts.fingerprint(parity.FOLDER / name)
  assert layouts.fingerprint(f'gs://bucket/models/{name}') == here


def test_a_hugging_face_model_is_loaded_from_a_bucket(bucket):
  root, _ = bucket
  shutil.copytree(HF / 't5_1_1', root / 'model')
  jax.tree.map(
    np.testing.assert_array_equal,
    layouts.read_params('gs://bucket/model'),
    layouts.read_params(HF / 't5_1_1'),
  )


@pytest.mark.parametrize('to', ['t5x', 'hf'])
def test_a_checkpoint_is_written_to_a_bucket(bucket, to):
  root, _ = bucket
  native = str(parity.NATIVE)
  convert.convert(native, 'gs://bucket/out/checkpoint_3', to)
  found = layouts.open_checkpoint(root / 'out' / 'checkpoint_3')
  assert found.layout == to
  jax.tree.map(
    np.testing.assert_array_equal,
    layouts.read_params(root / 'out' / 'checkpoint_3'),
    parity.params(),
  )


def test_what_is_not_in_the_bucket_is_said_so(bucket):
  with pytest.raises(InputError, match='gs://bucket/none is no checkpoint'):
    layouts.open_checkpoint('gs://bucket/none')
  with pytest.raises(InputError, match='dap are written to local folders'):
    convert.convert(str(parity.NATIVE), 'gs://bucket/new', 'dap')


def test_a_bucket_that_refuses_is_explained(bucket, monkeypatch):
  def refuse(self):
    self._send_json({'error': {'code': 403, 'message': 'no access'}}, 403)

  monkeypatch.setattr(fake_bucket._Handler, 'do_GET', refuse)
  with pytest.raises(InputError, match='gs://bucket/x cannot be.*log in'):
    layouts.open_checkpoint('gs://bucket/x')
