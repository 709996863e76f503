import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dap import errors, optimizers

PARAMS = {'kernel': jnp.array([[1.0, -2.0], [0.5, 3.0]]), 'scale': jnp.ones(2)}


def toy_loss(params):
  """Has gradients on both sides of the clipping norm."""
  return jnp.sum(params['kernel'] ** 4) + jnp.sum((params['scale'] - 3) ** 2)


def trained(transformation, rate, num_steps=20):
  params, state = PARAMS, transformation.init(PARAMS)
  for _ in range(num_steps):
    grads = jax.grad(toy_loss)(params)
    directions, state = transformation.update(grads, state, params)
    params = jax.tree.map(lambda p, d: p + rate * d, params, directions)
  return params


@pytest.mark.parametrize('decay', [0.0, 0.1])
@pytest.mark.parametrize('clip', [1.0, float('inf')])
def test_adamw_is_optax_adamw_after_clipping(decay, clip):
  ours = optimizers.AdamW(0.9, 0.98, 1e-8, decay, clip).transformation()
  theirs = optax.adamw(
    0.05,
    b1=0.9,
    b2=0.98,
    eps=1e-8,
    weight_decay=decay,
    mask={'kernel': True, 'scale': False},
  )
  if clip < float('inf'):
    theirs = optax.chain(optax.clip_by_global_norm(clip), theirs)
  first = trained(ours, -0.05)  # our directions leave the rate out
  second = trained(theirs, 1.0)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), first, second
  )


def test_weight_decay_leaves_scales_alone():
  decayed = optimizers.AdamW(weight_decay=0.5).transformation()
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  directions, _ = decayed.update(zeros, decayed.init(PARAMS), PARAMS)
  np.testing.assert_allclose(directions['kernel'], 0.5 * PARAMS['kernel'])
  np.testing.assert_array_equal(directions['scale'], 0)


def test_adafactor_descends_and_factors_large_kernels():
  params = {'large': jnp.ones((256, 128)), 'small': jnp.ones((4, 4))}
  transformation = optimizers.Adafactor().transformation()
  state = transformation.init(params)
  moments = [leaf.size for leaf in jax.tree.leaves(state)]
  assert sum(moments) < 1024  # 256 + 128 + 16 and place holders, not 32768
  directions, _ = transformation.update(params, state, params)
  for leaf in jax.tree.leaves(directions):
    assert np.all(leaf > 0)  # along the gradient, which the step subtracts
    assert np.sqrt(np.mean(np.square(leaf))) <= 1 + 1e-5  # block clipping


@pytest.mark.parametrize('clip', [0.0, -1.0, float('nan')])
def test_a_clipping_norm_out_of_range_is_refused(clip):
  with pytest.raises(errors.InputError, match='clip_norm > 0.*bind it to inf'):
    optimizers.AdamW(clip_norm=clip)


@pytest.mark.parametrize(
  ('step', 'expected', 'tolerance'),
  [
    # spec 2.27; its warm-up begins at rate 0, ours one step of w + 1 above it.
    (500, 0.250000, 5e-4),
    (4000, 0.868198, 1e-6),
    (6000, 0.550000, 1e-6),
    (10000, 0.100000, 1e-6),
    (12000, 0.100000, 1e-6),
  ],
)
def test_cosine_has_the_numbers_of_llama_2(step, expected, tolerance):
  schedule = optimizers.Cosine(10000, warmup_steps=2000, floor=0.1)
  assert schedule(step) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
  'schedule', [optimizers.Constant(20), optimizers.Cosine(100, 20, 0.1)]
)
def test_a_schedule_rises_to_1_and_never_is_0(schedule):
  values = [schedule(step) for step in range(100)]
  assert all(0 < value <= 1 for value in values)
  assert np.all(np.diff(values[:21]) > 0) and values[20] == 1
  assert schedule(0) == pytest.approx(1 / 21)


def test_schedules_without_warm_up_start_at_1():
  assert optimizers.Constant()(0) == optimizers.Cosine(10)(0) == 1


def test_a_warm_up_longer_than_the_run_is_refused():
  with pytest.raises(errors.InputError, match='got 20 and 10'):
    optimizers.Cosine(10, warmup_steps=20)
