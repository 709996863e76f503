import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5x_parity as parity

from dap.models import dense, t5_layers


@pytest.mark.parametrize(
  ('name', 'bidirectional'),
  [('bucket_bidirectional', True), ('bucket_causal', False)],
)
def test_every_distance_has_t5x_s_bucket(name, bidirectional):
  distances = jnp.asarray(parity.outputs()['relpos/relative_position'])
  buckets = t5_layers.relative_position_bucket(
    distances, bidirectional=bidirectional
  )
  np.testing.assert_array_equal(buckets, parity.outputs()[f'relpos/{name}'])


@pytest.mark.parametrize(
  ('stack', 'length'), [('encoder', 12), ('decoder', 10)]
)
def test_relative_bias_is_t5x_s(stack, length):
  bias = t5_layers.RelativeBias(4, stack == 'encoder', 'float32').apply(
    {'params': parity.params()[stack]['relpos_bias']}, length
  )
  np.testing.assert_allclose(
    bias,
    parity.outputs()[f'relpos/{stack}_bias_{length}x{length}'],
    rtol=0,
    atol=1e-6,
  )


def test_projections_and_their_gradients_are_plain_matmuls():
  keys = jax.random.split(jax.random.key(0), 4)
  x = jax.random.normal(keys[0], (2, 3, 5))
  first, second = (jax.random.normal(key, (5, 4)) for key in keys[1:3])
  read = jax.random.normal(keys[3], (2, 3, 4))

  def total(product):
    def of(x, first, second):
      y, z = product(x, first, second)
      return jnp.sum(read * y + jnp.square(z))

    return jax.value_and_grad(of, (0, 1, 2))(x, first, second)

  ours = total(dense.project)
  theirs = total(lambda x, *kernels: [x @ kernel for kernel in kernels])
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), ours, theirs
  )


def test_rms_norm_divides_by_the_root_mean_square():
  x = jnp.array([[3.0, 4.0, 0.0, 0.0]])  # mean square 25 / 4, root 2.5
  norm = t5_layers.RMSNorm(4, 'float32')
  scale = jnp.array([1.0, 2.0, 1.0, 1.0])
  normed = norm.apply({'params': {'scale': scale}}, x)
  np.testing.assert_allclose(normed, [[1.2, 3.2, 0.0, 0.0]], atol=1e-6)


def test_an_mlp_with_one_activation_is_the_plain_relu_block_of_t5_1_0():
  mlp = t5_layers.MLP(2, 3, ('relu',), 0.0)
  kernel = jnp.array([[1.0, -1.0, 0.0], [0.0, 0.0, 2.0]])
  params = {'wi': {'kernel': kernel}, 'wo': {'kernel': jnp.ones((3, 2))}}
  out = mlp.apply({'params': params}, jnp.array([[[1.0, 3.0]]]))
  np.testing.assert_allclose(out, [[[7.0, 7.0]]])  # relu(1, -1, 6) sums to 7


def test_dropout_scales_what_it_keeps_and_shares_a_draw_along_the_length():
  class Drop(t5_layers.nn.Module):
    @t5_layers.nn.compact
    def __call__(self, x):
      return t5_layers.drop(self, x, 0.25, -2)

  rngs = {'dropout': jax.random.key(0)}
  dropped = Drop().apply({}, jnp.ones((50, 3, 100)), rngs=rngs)
  np.testing.assert_array_equal(dropped, dropped[:, :1].repeat(3, axis=1))
  np.testing.assert_allclose(np.unique(dropped), [0, 4 / 3], rtol=1e-6)
  assert abs(float(dropped.mean()) - 1) < 0.05
