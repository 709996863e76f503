import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import t5x_parity as parity
from flax import traverse_util
from jax.sharding import AxisType, PartitionSpec

from dap import partitioning
from dap.errors import InputError
from dap.models import t5
from dap.models.policy import Policy

CONFIG = t5.T5Config(32, 16, 2, 8, 24, 1, 1)
POLICY = Policy(t5.T5(CONFIG), 30)
KERNEL = ('decoder', 'layers_0', 'mlp', 'wo', 'kernel')


def placed(mesh, rules=partitioning.STANDARD_RULES):
  params = POLICY.init(jax.random.key(0))
  sharding = partitioning.param_sharding(POLICY.logical_axes(), mesh, rules)
  return jax.device_put(params, sharding), sharding


def leaf(tree, path=KERNEL):
  return traverse_util.flatten_dict(tree)[path]


def shard_shape(x):
  return x.addressable_shards[0].data.shape


@pytest.mark.parametrize(
  ('shape', 'expected'), [((4, 1), (24, 16)), ((2, 2), (12, 16))]
)
def test_the_model_axis_splits_parameters_and_their_moments(shape, expected):
  mesh = partitioning.mesh(shape)
  params, sharding = placed(mesh)
  assert shard_shape(leaf(params)) == expected  # of mlp x embed, 24 x 16
  adam = optax.adamw(1e-3)
  state = jax.eval_shape(adam.init, params)
  sharding = partitioning.like_params(state, params, sharding, mesh)
  state = jax.jit(adam.init, out_shardings=sharding)(params)
  assert shard_shape(leaf(state[0].mu)) == expected
  assert shard_shape(leaf(state[0].nu)) == expected
  assert state[0].count.sharding.is_fully_replicated


@pytest.mark.parametrize('shape', [(4, 1), (2, 2)])
def test_a_batch_is_split_over_the_data_axis(shape):
  mesh = partitioning.mesh(shape)
  batch = jax.device_put(jnp.zeros((8, 3)), partitioning.by_example(mesh))
  assert shard_shape(batch) == (8 // shape[0], 3)
  whole = jax.device_put(jnp.zeros((8, 3)), partitioning.replicated(mesh))
  assert shard_shape(whole) == (8, 3)


def test_fully_sharded_rules_split_parameters_over_both_axes():
  rules = partitioning.FULLY_SHARDED_RULES
  params, _ = placed(partitioning.mesh((2, 2)), rules)
  assert shard_shape(leaf(params)) == (12, 8)


def test_mesh_axes_of_each_parameter_are_t5x_s():
  axes = t5.logical_axes(parity.CONFIG)
  sharding = partitioning.param_sharding(axes, partitioning.mesh((2, 2)))
  for name, found in traverse_util.flatten_dict(sharding, sep='/').items():
    expected = parity.TREE['params'][name]['mesh_axes']
    assert found.spec == PartitionSpec(*expected), name


def test_one_mesh_axis_splits_one_axis_of_an_array_and_unknown_names_none():
  mesh = partitioning.mesh((1, 4))
  axes = {'a': ('mlp', 'vocab'), 'b': ('other', None), 'c': ()}
  sharding = partitioning.param_sharding(axes, mesh)
  assert sharding['a'].spec == PartitionSpec('model', None)
  assert sharding['b'].spec == PartitionSpec(None, None)
  assert sharding['c'].spec == PartitionSpec()


def test_factored_moments_are_replicated():
  mesh = partitioning.mesh((2, 2))
  params, sharding = placed(mesh)
  adafactor = optax.adafactor(1e-3, min_dim_size_to_factor=8)
  state = jax.eval_shape(adafactor.init, params)
  sharding = partitioning.like_params(state, params, sharding, mesh)
  assert leaf(sharding[0].v_row).is_fully_replicated


@pytest.mark.parametrize('shape', [(4, 1), (2, 2), (1, 4)])
def test_log_probs_and_gradients_do_not_depend_on_the_mesh(shape):
  config = t5.T5Config(32, 16, 4, 8, 24, 1, 1)
  policy = Policy(t5.T5(config), 30)
  params = policy.init(jax.random.key(0))
  tokens = jax.random.randint(jax.random.key(1), (8, 2, 4), 1, 30)

  def total(params, tokens):
    return jnp.sum(jnp.square(policy.log_probs(params, tokens[:, 0], tokens)))

  mesh = partitioning.mesh(shape)
  sharding = partitioning.param_sharding(policy.logical_axes(), mesh)
  program = jax.jit(
    jax.value_and_grad(total),
    in_shardings=(sharding, partitioning.by_example(mesh)),
    out_shardings=(partitioning.replicated(mesh), sharding),
  )
  ours = program(params, tokens)
  theirs = jax.jit(jax.value_and_grad(total))(params, tokens)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-3),
    ours,
    theirs,
  )


def test_axes_are_automatic_and_all_devices_hold_data_by_default():
  mesh = partitioning.mesh()
  assert dict(mesh.shape) == {'data': jax.device_count(), 'model': 1}
  assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize('shape', [(8, 1), (0, 1), (2, -2)])
def test_a_mesh_that_the_devices_cannot_fill_is_refused(shape):
  with pytest.raises(InputError, match='devices'):
    partitioning.mesh(shape)


def test_a_parameter_that_cannot_be_split_evenly_is_refused():
  mesh = partitioning.mesh((1, 4))
  params = {'kernel': jnp.zeros((6, 3))}
  sharding = partitioning.param_sharding({'kernel': ('mlp', 'embed')}, mesh)
  with pytest.raises(InputError, match='divisible by the 4 devices'):
    partitioning.like_params(params, params, sharding, mesh)
