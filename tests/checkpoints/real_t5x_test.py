"""What we write, read by T5X itself; skipped where it is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5x_parity as parity
from flax import traverse_util

from dap.checkpoints import convert, layouts

pytest.importorskip('t5x.models', reason='bash launch/install_t5x.sh adds it')

from t5x import checkpoints, partitioning, train_state
from t5x.examples.t5 import network

SCANNED = parity.FOLDER / 'native_scanned' / 'checkpoint_3'


@pytest.fixture(scope='module')
def state():
  """T5X's own state, whose parameters are other numbers."""
  sizes = {**parity.TREE['config'], 'num_heads': parity.CONFIG.num_heads}
  sizes['mlp_activations'] = tuple(sizes['mlp_activations'])
  model = network.Transformer(network.T5Config(dtype=jnp.float32, **sizes))
  tokens = jnp.ones((1, 4), jnp.int32)
  with jax.numpy_rank_promotion('allow'):
    variables = model.init(jax.random.PRNGKey(5), tokens, tokens, tokens)
  return train_state.InferenceState.create(variables)


@pytest.mark.parametrize('to', ['t5x', 't5x_orbax'])
def test_t5x_restores_what_we_wrote(to, state, tmp_path):
  folder = tmp_path / 'checkpoint_3'
  convert.convert(str(SCANNED), str(folder), to)
  partitioner = partitioning.PjitPartitioner(num_partitions=1)
  kinds = {
    't5x': checkpoints.Checkpointer,
    't5x_orbax': checkpoints.OrbaxCheckpointManagerInterface,
  }
  checkpointer = kinds[to](
    train_state=state,
    partitioner=partitioner,
    **{'t5x': {'checkpoints_dir': str(tmp_path)}}.get(
      to, {'directory': str(tmp_path)}
    ),
  )
  restored = checkpointer.restore(path=str(folder))
  assert int(restored.step) == 3
  found = traverse_util.flatten_dict(dict(restored.params), sep='/')
  known = traverse_util.flatten_dict(parity.params(), sep='/')
  assert found.keys() == known.keys()
  for name, array in known.items():
    np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize('orbax', [False, True])
def test_we_read_what_t5x_writes_now(orbax, state, tmp_path):
  partitioner = partitioning.PjitPartitioner(num_partitions=1)
  if orbax:
    manager = checkpoints.OrbaxCheckpointManagerInterface(
      str(tmp_path), state, partitioner
    )
    manager.save(state)
    manager.wait_until_finished()
  else:
    checkpoints.Checkpointer(state, partitioner, str(tmp_path)).save(state)
  contents = layouts.open_checkpoint(tmp_path)
  assert contents.layout == ('t5x_orbax' if orbax else 't5x')
  jax.tree.map(
    np.testing.assert_array_equal,
    layouts.read_params(tmp_path),
    jax.tree.map(np.asarray, dict(state.params)),
  )
