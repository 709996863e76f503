import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tiny

from dap import errors, partitioning, train
from dap.checkpoints import (
  convert,
  finite,
  layouts,
  load,
  metadata,
  points,
  state,
)
from dap.training.programs import Params

ONE_DEVICE = partitioning.mesh((1, 1))
PARAMS = tiny.POLICY.init(jax.random.key(0))
LAST = 'decoder/logits_dense/kernel'


def spoiled(value=np.nan):
  """The parameters with two numbers of the last kernel that are none."""
  kernel = PARAMS['decoder']['logits_dense']['kernel']
  tree = jax.tree.map(lambda leaf: leaf, PARAMS)
  tree['decoder']['logits_dense'] = {'kernel': kernel.at[0, :2].set(value)}
  return tree


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """A checkpoint as versions that did not look could write it."""
  root = tmp_path_factory.mktemp('old') / 'checkpoints'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(finite, 'wrong', lambda named: [])
    state.save(root, 2, spoiled(-np.inf), {}, '')
  return root.parent


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told_by_name_and_number(value):
  found = finite.wrong(state.names(spoiled(value)))
  assert found == [(LAST, 2, tiny.CONFIG.emb_dim * tiny.VOCAB)]
  assert finite.wrong(state.names(PARAMS)) == []


@pytest.mark.parametrize(
  'leaf',
  [
    np.full(300, 3e38, np.float32),  # whose sum is not finite
    np.full(9, 1e38, ml_dtypes.bfloat16),
    np.arange(3),
    jnp.zeros(0),
    np.float32(1),
  ],
)
def test_large_and_whole_numbers_are_finite(leaf):
  assert finite.wrong({'leaf': leaf}) == []


def test_an_array_over_devices_is_looked_at_where_it_lies():
  sharding = jax.NamedSharding(
    partitioning.mesh((2, 2)), jax.sharding.PartitionSpec('data', 'model')
  )
  array = jax.device_put(jnp.ones((4, 4)).at[3, 3].set(jnp.nan), sharding)
  assert finite.wrong({'leaf': array}) == [('leaf', 1, 16)]


@pytest.mark.parametrize('part', ['params', 'rest'])
def test_no_checkpoint_is_written_of_what_is_not_finite(tmp_path, part):
  root = tmp_path / 'checkpoints'
  trees = {'params': PARAMS, 'rest': {'moments': PARAMS}}
  state.save(root, 2, trees['params'], trees['rest'], '')
  trees[part] = {'params': spoiled(), 'rest': {'moments': spoiled()}}[part]
  with pytest.raises(errors.InputError) as raised:
    state.save(root, 4, trees['params'], trees['rest'], '')
  message = str(raised.value)
  assert f'{LAST} (2 of 384)' in message and part in message
  assert f'last good checkpoint is {root / "checkpoint_2"}' in message
  assert [path.name for path in root.iterdir()] == ['checkpoint_2']


def test_where_nothing_was_saved_the_folder_must_go(tmp_path):
  with pytest.raises(
    errors.InputError, match=f'remove {tmp_path}: it holds no'
  ):
    state.save(tmp_path / 'checkpoints', 4, spoiled(), {}, '')


def test_a_training_that_goes_wrong_between_lines_saves_nothing(tmp_path):
  run = tiny.run(learning_rate=1e30, log_every=12, save_steps=(2, 4))
  with pytest.raises(errors.InputError, match='at step 2 there are others'):
    train.fit(run, tiny.pairs(), Params(PARAMS, PARAMS), tmp_path)
  assert points.steps(tmp_path / 'checkpoints') == []


def test_every_reader_names_the_array(written, tmp_path):
  template = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS
  )
  folder = written / 'checkpoints' / 'checkpoint_2'
  with pytest.raises(errors.InputError, match=rf'{LAST} \(2 of 384\)'):
    state.restore_params(folder, template)
  for read in (
    lambda: load.load_params(tiny.POLICY, written, ONE_DEVICE),
    lambda: layouts.read_params(written),
  ):
    with pytest.raises(errors.InputError, match=f'of {LAST} of .* 2 of 384'):
      read()
  for to in convert.WRITERS:
    with pytest.raises(errors.InputError, match=LAST):
      convert.convert(str(written), str(tmp_path / to), to)
    assert not list(tmp_path.iterdir())


def test_a_number_beyond_the_range_of_its_new_dtype_is_refused(tmp_path):
  most = np.finfo(np.float32).max  # rounds up in bfloat16
  state.save(tmp_path / 'run', 1, spoiled(most), {}, '')
  to = convert.Target(dtype='bfloat16')
  for layout in ('t5x', 't5x_orbax', 'hf'):
    with pytest.raises(errors.InputError, match='too large for bfloat16'):
      convert.convert(str(tmp_path / 'run'), str(tmp_path / layout), layout, to)
  convert.convert(str(tmp_path / 'run'), str(tmp_path / 'ok'), 't5x')


def test_a_training_keeps_its_facts_in_each_checkpoint(tmp_path):
  run = tiny.run(num_steps=2, save_steps=(1, 2))
  train.fit(
    run, tiny.pairs(), Params(PARAMS, PARAMS), tmp_path, facts={'of': 'data'}
  )
  for step in (1, 2):
    folder = tmp_path / 'checkpoints' / f'checkpoint_{step}'
    found = metadata.read(folder)['facts']
    assert found['of'] == 'data' and found['gives'] == ['log_probs']
    assert found['prompts_end'] is False
    assert found['mlp_activations'] == ['gelu', 'linear']
