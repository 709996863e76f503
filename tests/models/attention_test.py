import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap.models import attention

KEYS = jax.random.split(jax.random.key(0), 6)
SHAPE = (2, 3, 5, 4)
QUERY, KEY, VALUE, READ = (jax.random.normal(key, SHAPE) for key in KEYS[:4])
BIAS = jax.random.normal(KEYS[4], (1, 3, 5, 5))
MASK = jax.random.uniform(KEYS[5], (2, 1, 5, 5)) < 0.7


def derived(query, key, value, bias, mask):
  """The same without the hand-written gradient."""
  return attention.mix(attention.weights(query, key, bias, mask), value)


@pytest.mark.parametrize('bias', [BIAS, None], ids=['bias', 'no bias'])
@pytest.mark.parametrize(
  'mask',
  [MASK, MASK[:, :, :1], MASK.at[0].set(False)],
  ids=['any', 'memory', 'none in row 0'],
)
def test_the_written_gradient_is_the_derived_one(bias, mask):
  def read(function):
    def total(query, key, value, bias):
      return jnp.sum(READ * function(query, key, value, bias, mask))

    argnums = (0, 1, 2) if bias is None else (0, 1, 2, 3)
    return jax.grad(total, argnums)(QUERY, KEY, VALUE, bias)

  for ours, theirs in zip(read(attention.attend), read(derived)):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


def test_masked_memory_changes_nothing():
  mask = jnp.ones((2, 1, 1, 5), bool).at[..., 3:].set(False)
  attended = attention.attend(QUERY, KEY, VALUE, BIAS, mask)
  other = attention.attend(
    QUERY,
    KEY.at[:, :, 3:].set(9),
    VALUE.at[:, :, 3:].set(9),
    BIAS.at[..., 3:].set(9),
    mask,
  )
  np.testing.assert_array_equal(attended, other)


def test_equal_keys_share_attention():
  key = jnp.zeros(SHAPE)
  mask = jnp.ones((2, 1, 1, 5), bool)
  attended = attention.attend(QUERY, key, VALUE, None, mask)
  mean = jnp.broadcast_to(VALUE.mean(2, keepdims=True), SHAPE)
  np.testing.assert_allclose(attended, mean, atol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_keys_that_lie_transposed_are_read_alike(dtype):
  query, key, value = (x.astype(jnp.bfloat16) for x in (QUERY, KEY, VALUE))
  mask = MASK[:, :, :1]
  ours = attention.attend_transposed(
    query, key.swapaxes(2, 3), value, mask, dtype
  )
  theirs = attention.attend(
    query.astype(dtype), key.astype(dtype), value, None, mask
  )
  assert ours.dtype == theirs.dtype == jnp.bfloat16
  np.testing.assert_array_equal(ours, theirs)


def test_bfloat16_queries_keep_their_dtype():
  args = (x.astype(jnp.bfloat16) for x in (QUERY, KEY, VALUE))
  grad = jax.grad(lambda *a: attention.attend(*a, BIAS, MASK).sum())(*args)
  assert grad.dtype == jnp.bfloat16
