import hashlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5x_parity as parity
from etils import epath
from flax import traverse_util

from dap import partitioning
from dap.checkpoints import (
  convert,
  layouts,
  load,
  points,
  state,
  stored,
  t5x_native,
)
from dap.errors import InputError
from dap.models import t5
from dap.models.policy import Policy

ONE_DEVICE = partitioning.mesh((1, 1))
T5X = {
  'native': 't5x',
  'native_scanned': 't5x (scanned layers)',
  'orbax': 't5x_orbax',
}


def checkpoint(name):
  return parity.FOLDER / name / 'checkpoint_3'


def loaded(path, mesh=ONE_DEVICE):
  return load.load_params(Policy(parity.T5), path, mesh)


@pytest.mark.parametrize(('name', 'layout'), T5X.items())
def test_every_t5x_checkpoint_is_told_apart_and_read_to_the_bit(name, layout):
  contents = layouts.open_checkpoint(checkpoint(name))
  assert (contents.layout, contents.step) == (layout, 3)
  assert contents.t5_config() == parity.CONFIG
  flat = traverse_util.flatten_dict(loaded(checkpoint(name)), sep='/')
  assert flat.keys() == parity.TREE['params'].keys()
  for parameter, known in parity.TREE['params'].items():
    digest = hashlib.sha256(np.asarray(flat[parameter]).tobytes()).hexdigest()
    assert digest[:16] == known['sha256_step3'], parameter
    assert flat[parameter].dtype == jnp.float32


@pytest.mark.parametrize('name', T5X)
def test_every_t5x_checkpoint_gives_t5x_s_logits(name):
  logits = parity.logits(
    parity.CONFIG, loaded(checkpoint(name)), *parity.batch()
  )
  known = 'variant/scanned/logits' if 'scanned' in name else 'logits'
  np.testing.assert_allclose(logits, parity.outputs()[known], atol=1e-4)


@pytest.mark.parametrize('name', [*T5X, 'orbax/checkpoint_3/state'])
def test_the_folder_of_a_run_gives_its_newest_checkpoint(name):
  contents = layouts.open_checkpoint(parity.FOLDER / name)
  assert contents.path.name in ('checkpoint_3', 'state')


def test_the_newest_is_the_largest_number(tmp_path):
  for step in (9, 100, 20):
    shutil.copytree(checkpoint('native'), tmp_path / f'checkpoint_{step}')
  assert layouts.find(tmp_path)[0].name == 'checkpoint_100'


def test_what_is_no_checkpoint_does_not_hide_an_older_one(tmp_path):
  shutil.copytree(checkpoint('native'), tmp_path / 'checkpoint_3')
  (tmp_path / 'checkpoint_9').mkdir()
  (tmp_path / 'checkpoint_10').write_text('a file')
  assert layouts.find(tmp_path)[0].name == 'checkpoint_3'


def test_folders_of_orbax_s_own_manager_are_read(tmp_path):
  for step in (7, 12):
    state_folder = checkpoint('orbax') / 'state'
    shutil.copytree(state_folder, tmp_path / str(step) / 'default')
  assert layouts.find(tmp_path)[0].name == '12'
  jax.tree.map(
    np.testing.assert_array_equal,
    layouts.read_params(tmp_path),
    parity.params(),
  )


@pytest.mark.parametrize('path', ['', '  ', 'file:///x', 'gs:/x', 'http://x/y'])
def test_a_place_that_cannot_be_read_is_refused(path):
  with pytest.raises(InputError, match='A place is a local folder'):
    layouts.open_checkpoint(path)


def test_a_home_is_found(monkeypatch, tmp_path):
  shutil.copytree(checkpoint('native'), tmp_path / 'checkpoint_3')
  monkeypatch.setenv('HOME', str(tmp_path))
  assert layouts.open_checkpoint('~/checkpoint_3').step == 3


def test_optimizer_states_are_not_opened(monkeypatch):
  opened = []
  original = stored.Stored
  monkeypatch.setattr(
    'dap.checkpoints.tensors.Stored',
    lambda name, *rest: opened.append(name) or original(name, *rest),
  )
  layouts.open_checkpoint(checkpoint('orbax'))
  assert not [name for name in opened if 'param_states' in name]
  assert len(opened) == 52 + 1  # and the step


def test_parameters_lie_on_the_mesh_from_every_layout():
  mesh = partitioning.mesh((2, 2))
  for name in T5X:
    found = loaded(checkpoint(name), mesh)
    kernel = found['encoder']['layers_0']['mlp']['wi_0']['kernel']
    assert kernel.addressable_shards[0].data.shape == (32, 32)  # 64 / 2
    jax.tree.map(np.testing.assert_array_equal, found, parity.params())


def test_bfloat16_checkpoints_are_read_as_float32(tmp_path):

  for to in ('t5x', 't5x_orbax', 'hf'):
    target = convert.Target(dtype='bfloat16')
    folder = tmp_path / to
    convert.convert(str(checkpoint('native')), str(folder), to, target)
    for leaf, exact in zip(
      jax.tree.leaves(loaded(folder)), jax.tree.leaves(parity.params())
    ):
      assert leaf.dtype == jnp.float32
      rounded = exact.astype(jnp.bfloat16).astype(jnp.float32)
      np.testing.assert_array_equal(leaf, rounded)


def test_mixed_layouts_are_refused(tmp_path):
  folder = shutil.copytree(checkpoint('native'), tmp_path / 'checkpoint_3')
  shutil.copytree(checkpoint('orbax') / 'state', folder / 'state')
  with pytest.raises(InputError, match=r'mixes layouts: .*t5x .*and t5x_orbax'):
    layouts.open_checkpoint(folder)


def test_a_folder_that_is_no_checkpoint_is_told_what_one_is(tmp_path):
  with pytest.raises(InputError, match='has none of them. A checkpoint is'):
    layouts.open_checkpoint(tmp_path)
  with pytest.raises(InputError, match='does not exist'):
    layouts.open_checkpoint(tmp_path / 'absent')


def rewritten(tmp_path, change):
  """A dap checkpoint of the fixture's parameters after a change of them."""
  flat = {
    tuple(name.split('/')): leaf
    for name, leaf in traverse_util.flatten_dict(
      parity.params(), sep='/'
    ).items()
  }
  change(flat)
  state.save(tmp_path, 1, traverse_util.unflatten_dict(flat), {}, 'digest')
  return tmp_path


SCALE = ('encoder', 'encoder_norm', 'scale')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda flat: flat.pop(SCALE), '1 missing: encoder/encoder_norm/scale'),
    (
      lambda flat: flat.update({('other',): jnp.zeros(2)}),
      '1 unexpected: other',
    ),
    (
      lambda flat: flat.update({SCALE: jnp.zeros(2)}),
      r'1 of another shape: encoder/encoder_norm/scale is \(2,\), needed',
    ),
    (
      lambda flat: flat.update(
        {('token_embedder', 'embedding'): jnp.zeros((100, 32))}
      ),
      'embedding has 100 rows and the model 128: bind VOCABULARY_SIZE=100',
    ),
    (
      lambda flat: flat.update({SCALE: jnp.zeros(32, jnp.int8)}),
      'float32, bfloat16 or another float; encoder/encoder_norm/scale.*int8',
    ),
  ],
)
def test_parameters_of_another_model_are_named(tmp_path, change, message):
  folder = rewritten(tmp_path, change)
  with pytest.raises(InputError, match=message):
    loaded(folder)


def test_relative_position_tables_of_each_layer_are_refused(tmp_path):

  arrays, step = t5x_native.open_native(
    epath.Path(checkpoint('native_scanned'))
  )
  name = 'encoder/encoder/relpos_bias/rel_embedding'
  other = np.arange(4 * 2 * 32, dtype=np.float32).reshape(4, 2, 32)
  arrays[name] = stored.Stored(
    name, other.shape, other.dtype, lambda box: other[box]
  )
  parts = {n: stored.whole(array) for n, array in arrays.items()}
  t5x_native.write(epath.Path(tmp_path), parts, step)
  with pytest.raises(InputError, match='in .*rel_embedding they differ, as in'):
    loaded(tmp_path)


def test_a_fingerprint_names_content_and_no_place(tmp_path):
  names = [layouts.fingerprint(checkpoint(name)) for name in T5X]
  assert len(set(names)) == 3
  copied = shutil.copytree(checkpoint('native'), tmp_path / 'elsewhere')
  assert layouts.fingerprint(copied) == names[0]
  chunk = copied / 'target.token_embedder.embedding' / '0.0'
  chunk.write_bytes(chunk.read_bytes()[:-1] + b'!')
  assert layouts.fingerprint(copied) != names[0]


@pytest.mark.parametrize(
  ('vocab_size', 'gated', 'tied'),
  [
    (32128, True, False),  # T5 1.1 and Flan
    (32128, False, True),  # T5 1.0
    (250112, True, False),  # mT5
    (384, True, False),  # ByT5
  ],
)
def test_the_family_is_told_from_shapes(vocab_size, gated, tied):
  config = t5.T5Config(
    vocab_size=vocab_size,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=3,
    num_decoder_layers=1,
    mlp_activations=('gelu', 'linear') if gated else ('relu',),
    logits_via_embedding=tied,
  )
  shapes = state.names(
    jax.eval_shape(lambda k: t5.init_params(config, k), jax.random.key(0))
  )
  parts = {
    name: stored.whole(
      stored.Stored(name, leaf.shape, np.dtype('float32'), lambda box: None)
    )
    for name, leaf in shapes.items()
  }
  contents = layouts.Contents(epath.Path('x'), 't5x', parts, 0)
  assert contents.t5_config() == config


def test_what_is_no_t5_has_no_configuration():
  contents = layouts.Contents(epath.Path('x'), 't5x', {}, 0)
  with pytest.raises(InputError, match='lacks .token_embedder/embedding'):
    contents.t5_config()


def saved(folder, tree):
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder, tree)
  return folder


MOMENTS = {'count': jnp.zeros((), jnp.int32), 'mu': None, 'nu': None}


def foreign():
  """Trees with one T5 in them, as trainers other than T5X save it."""
  params = parity.params()
  state_of = {**MOMENTS, 'mu': params, 'nu': params}
  return {
    'twice': {'params': {'params': params}},
    'train_state': {
      'step': jnp.asarray(9),
      'params': {'params': params},
      'opt_state': [state_of, {}],
    },
    'model_and_opt': {'model': params, 'opt': state_of},
    'at_the_root': {**params, 'optimizer': {'0': state_of}},
    'deep': {'trainer': {'module': {'target': params}}, 'mu': params},
  }


@pytest.mark.parametrize('name', foreign())
def test_the_t5_of_a_foreign_tree_is_found_without_its_moments(name, tmp_path):
  contents = layouts.open_checkpoint(saved(tmp_path / name, foreign()[name]))
  assert contents.t5_config() == parity.CONFIG
  assert contents.step == (9 if name == 'train_state' else 0)
  jax.tree.map(
    np.testing.assert_array_equal, loaded(tmp_path / name), parity.params()
  )
  convert.convert(str(tmp_path / name), str(tmp_path / 'out'), 't5x')
  assert len(layouts.open_checkpoint(tmp_path / 'out').parts) == 52


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda p: {'params': p, 'ema_params': p}, 'sets .*ema_params/, params/'),
    (lambda p: {'opt_state': {'mu': p}}, 'states of an optimizer alone'),
    (lambda p: {'model': {**p, 'adapter': p['decoder']}}, 'model/adapter/'),
    (lambda p: {**p, 'batch_stats': jnp.ones(2)}, 'its root, .*batch_stats'),
  ],
)
def test_a_tree_with_more_than_one_t5_is_refused_by_its_prefix(
  change, message, tmp_path
):
  saved(tmp_path / 'tree', change(parity.params()))
  for to in convert.WRITERS:
    with pytest.raises(InputError, match=message):
      convert.convert(str(tmp_path / 'tree'), str(tmp_path / to), to)


def test_a_judge_of_a_foreign_tree_keeps_its_head(tmp_path):
  tree = {'params': {'transformer': parity.params(), 'head': jnp.ones(3)}}
  parts = layouts.open_checkpoint(saved(tmp_path / 'judge', tree)).parts
  assert 'head' in parts and 'transformer/token_embedder/embedding' in parts


@pytest.mark.parametrize('item', ['default', 'params', 'model', 'train_state'])
def test_a_step_of_a_manager_is_its_folders(item, tmp_path):
  tree = {'params': parity.params(), 'step': jnp.asarray(3)}
  for step in ('000012', '7'):
    saved(tmp_path / step / item, tree)
    saved(tmp_path / step / 'opt_state', {'mu': parity.params()})
  for path in (tmp_path, tmp_path / '000012', tmp_path / '000012' / item):
    contents = layouts.open_checkpoint(path)
    assert contents.step == 12 and len(contents.parts) == 52
  convert.convert(str(tmp_path), str(tmp_path / 'out'), 'dap')
  assert points.steps(tmp_path / 'out') == [12]


def test_native_checkpoints_hide_no_moments_either(tmp_path):
  arrays, _ = t5x_native.open_native(epath.Path(checkpoint('native')))
  named = {f'params/{name}': x for name, x in arrays.items()}
  named |= {f'opt/mu/{name}': x for name, x in arrays.items()}
  parts = {n: stored.whole(array) for n, array in named.items()}
  t5x_native.write(epath.Path(tmp_path), parts, 5)
  contents = layouts.open_checkpoint(tmp_path)
  assert contents.step == 5 and contents.parts.keys() == arrays.keys()
