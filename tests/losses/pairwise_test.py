"""Losses of a pair: laws and limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from dap import losses
from dap.records import Pair

# Worked pair: three tokens against two. Padding holds junk that must not count.
POLICY = Pair([[-0.5, -1.0, -0.3]], [[-1.2, -0.8, -9.9]])
REFERENCE = Pair([[-0.7, -1.1, -0.5]], [[-0.9, -0.7, -4.4]])
MASK = Pair([[1.0, 1.0, 1.0]], [[1.0, 1.0, 0.0]])
# By hand: h_w = .2 + .1 + .2 = .5, h_l = -.3 - .1 = -.4, margin .9.

BY_BETA = {
  'ipo': losses.ipo_loss,
  'ipo_gpo_one': losses.ipo_gpo_one_loss,
  'dpo': losses.dpo_loss,
  'cdpo': functools.partial(losses.cdpo_loss, label_smoothing=0.1),
  'hinge': losses.hinge_loss,
  'exponential': losses.exponential_loss,
  'truncated_quadratic': losses.truncated_quadratic_loss,
  'savage': losses.savage_loss,
}
AZAR = lambda *args, beta: losses.ipo_azar_loss(*args, tau=beta)
AZAR_MEAN = lambda *args, beta: losses.ipo_azar_mean_loss(*args, tau=beta)
ON_SUMS = BY_BETA | {'ipo_azar': AZAR}
ALL = ON_SUMS | {'ipo_mean': losses.ipo_mean_loss, 'ipo_azar_mean': AZAR_MEAN}
each_loss = pytest.mark.parametrize('loss', ALL.values(), ids=ALL.keys())
each_on_sums = pytest.mark.parametrize(
  'loss', ON_SUMS.values(), ids=ON_SUMS.keys()
)
law = settings(deadline=None, derandomize=True, max_examples=30)
margins = st.floats(-30, 30).filter(lambda x: abs(x) > 1e-3)


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


def arrays(tree):
  return Pair(*(jnp.asarray(side) for side in tree))


def on_pair(loss, **scalars):
  return loss(arrays(POLICY), arrays(REFERENCE), arrays(MASK), **scalars)[0]


def at_margin(loss, margin, beta):
  """The loss of one-token responses whose margin is given."""
  zeros, ones = jnp.zeros((1, 1)), jnp.ones((1, 1))
  policy = Pair(jnp.full((1, 1), margin), zeros)
  return loss(policy, Pair(zeros, zeros), Pair(ones, ones), beta=beta)[0]


def test_ipo_of_means_reads_the_margin_of_means():
  # (.1 * (.5 / 3 + .4 / 2) - .5)^2
  value = on_pair(losses.ipo_mean_loss, beta=0.1)
  np.testing.assert_allclose(value, 0.21467777777777778, rtol=1e-10)


def test_dpo_of_means_reads_the_margin_of_means():
  # Slope by token: -beta sigmoid(-beta m) / tokens of its response, at
  # beta 2 and m = .5 / 3 + .4 / 2 = .36666..., sigmoid(-.7333...) = .324464
  value = on_pair(losses.dpo_mean_loss, beta=2.0)
  np.testing.assert_allclose(value, 0.392248, atol=1e-6)  # log(1 + e^-.7333)
  slope = jax.grad(
    lambda policy: losses.dpo_mean_loss(
      policy, arrays(REFERENCE), arrays(MASK), beta=2.0
    )[0]
  )(arrays(POLICY))
  np.testing.assert_allclose(slope.chosen, [[-0.216309] * 3], atol=1e-6)
  expected = [[0.324464, 0.324464, 0.0]]
  np.testing.assert_allclose(slope.rejected, expected, atol=1e-6)


def test_tokens_that_repeat_a_response_leave_dpo_of_means_as_it_is():
  # Of a sum, a response twice as long would weigh twice.
  twice = lambda pair: Pair(*(jnp.tile(side, 2) for side in arrays(pair)))
  for loss, same in ((losses.dpo_mean_loss, True), (losses.dpo_loss, False)):
    long = loss(twice(POLICY), twice(REFERENCE), twice(MASK), beta=2.0)[0]
    assert np.isclose(long, on_pair(loss, beta=2.0)) == same


def test_ipo_is_not_the_misprinted_equation():
  # (.9 - .1 / 2)^2 = .7225 would regularise less as beta grows.
  for loss in ALL.values():
    assert abs(on_pair(loss, beta=0.1) - 0.7225) > 1e-3


def test_gpo_takes_any_curve():
  value = on_pair(losses.gpo_loss, beta=0.5, f=jnp.cos)
  np.testing.assert_allclose(value, np.cos(0.45), rtol=1e-10)


@pytest.mark.parametrize(
  ('loss', 'value'),
  [
    (losses.dpo_loss, np.log(2)),  # dpo.at_ref
    (ON_SUMS['cdpo'], np.log(2)),
    (losses.ipo_loss, 0.25),  # ipoB.at_ref
    (ON_SUMS['ipo_azar'], 25.0),  # ipoA.at_ref = 1 / (4 * .1^2)
    (losses.ipo_gpo_one_loss, 1.0),  # ipoC.at_ref
    (losses.hinge_loss, 1.0),
  ],
)
def test_the_loss_at_the_reference_is_known(loss, value):
  same = arrays(REFERENCE)
  each = loss(same, same, arrays(MASK), beta=0.1)
  np.testing.assert_allclose(each, [value], rtol=1e-12)


@pytest.mark.parametrize(
  ('loss', 'slope'),
  [
    (losses.dpo_loss, -0.5),
    (ON_SUMS['cdpo'], -0.4),  # -(1 - .1) / 2 + .1 / 2
    (losses.ipo_loss, -1.0),
    (losses.ipo_gpo_one_loss, -2.0),
    (ON_SUMS['ipo_azar'], -100.0),  # -1 / tau, over beta = tau = .1
    (losses.hinge_loss, -1.0),
    (losses.exponential_loss, -1.0),
    (losses.truncated_quadratic_loss, -2.0),
    (losses.savage_loss, -0.25),
  ],
)
def test_the_gradient_at_the_reference_is_beta_times_the_slope(loss, slope):
  mask, reference = arrays(MASK), arrays(REFERENCE)
  grad = jax.grad(lambda p: loss(p, reference, mask, beta=0.1)[0])(reference)
  np.testing.assert_allclose(grad.chosen, 0.1 * slope * mask.chosen)
  np.testing.assert_allclose(grad.rejected, -0.1 * slope * mask.rejected)


@pytest.mark.parametrize(('margin', 'sign'), [(4.9, -1), (5.0, 0), (5.1, 1)])
@pytest.mark.parametrize('loss', [losses.ipo_loss, ON_SUMS['ipo_azar']])
def test_ipo_pulls_the_margin_to_its_target(loss, margin, sign):
  slope = jax.grad(lambda m: at_margin(loss, m, 0.1))(margin)
  assert np.sign(slope) == sign  # the target is 1 / (2 * 0.1)


def test_dpo_never_pulls_back():
  for margin in (-50.0, 0.0, 5.0, 50.0):
    assert jax.grad(lambda m: at_margin(losses.dpo_loss, m, 0.1))(margin) < 0


def test_soft_labels_are_label_smoothing_by_example():
  soft = losses.soft_dpo_loss(
    *(arrays(x) for x in (POLICY, REFERENCE, MASK)),
    beta=0.1,
    chosen_probability=jnp.array([0.9]),
  )
  hard = on_pair(losses.cdpo_loss, beta=0.1, label_smoothing=0.1)
  np.testing.assert_allclose(soft, [hard], rtol=1e-12)


@law
@given(margins, st.floats(0.01, 2))
def test_forms_of_ipo_convert_into_each_other(margin, beta):
  b = at_margin(losses.ipo_loss, margin, beta)
  a = at_margin(ON_SUMS['ipo_azar'], margin, beta)
  c = at_margin(losses.ipo_gpo_one_loss, margin, 2 * beta)
  np.testing.assert_allclose([beta**2 * a, c / 4], [b, b], rtol=1e-12)


@law
@given(margins, st.floats(0.01, 2))
def test_swapping_the_labels_changes_the_loss_by_the_margin(margin, beta):
  scaled = beta * margin
  swap = lambda loss: (
    at_margin(loss, margin, beta) - at_margin(loss, -margin, beta)
  )
  np.testing.assert_allclose(swap(losses.dpo_loss), -scaled, rtol=1e-9)
  np.testing.assert_allclose(swap(losses.ipo_loss), -2 * scaled, rtol=1e-9)


@each_on_sums
@law
@given(shift=st.floats(-20, 20))
def test_only_the_margin_matters(loss, shift):
  moved = Pair(
    jnp.asarray(POLICY.chosen).at[0, 0].add(shift),
    jnp.asarray(POLICY.rejected).at[0, 1].add(shift),
  )
  each = loss(moved, arrays(REFERENCE), arrays(MASK), beta=0.1)
  np.testing.assert_allclose(each[0], on_pair(loss, beta=0.1), rtol=1e-10)


@each_loss
@settings(law, max_examples=4)
@given(data=st.data())
def test_padding_and_the_order_of_a_batch_change_nothing(loss, data):
  count = data.draw(st.sampled_from([1, 3]))
  rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
  junk = data.draw(st.sampled_from([0.0, -1e4, np.nan, -np.inf]))
  extra = data.draw(st.sampled_from([1, 3]))
  draw = lambda: Pair(*jnp.asarray(rng.normal(size=(2, count, 4))))
  lengths = rng.integers(1, 5, (2, count, 1))
  policy, reference = draw(), draw()
  mask = Pair(*jnp.asarray((np.arange(4) < lengths).astype(float)))

  def padded(pair, fill):
    hole = lambda x, m: jnp.pad(
      jnp.where(m > 0, x, fill), ((0, 0), (0, extra)), constant_values=fill
    )
    return Pair(*(hole(x, m) for x, m in zip(pair, mask)))

  def total(policy, reference, mask):
    return jnp.sum(loss(policy, reference, mask, beta=0.1))

  longer = padded(policy, junk), padded(reference, junk), padded(mask, 0.0)
  plain = jax.grad(total)(policy, reference, mask)
  grad = jax.grad(total)(*longer)
  each = loss(policy, reference, mask, beta=0.1)
  np.testing.assert_allclose(loss(*longer, beta=0.1), each, rtol=1e-12)
  for short, long in zip(plain, grad):
    np.testing.assert_allclose(long[:, :4], short, rtol=1e-12)
    assert not np.any(long[:, 4:])
  order = rng.permutation(count)
  shuffled = jax.tree.map(lambda x: x[order], (policy, reference, mask))
  np.testing.assert_array_equal(loss(*shuffled, beta=0.1), each[order])


@law
@given(st.sampled_from([1, 2, 5]), st.floats(0.05, 1))
def test_means_are_sums_at_beta_over_the_length(length, beta):
  rng = np.random.default_rng(length)
  policy, reference = (Pair(*jnp.asarray(rng.normal(size=(2, 2, length))))
                       for _ in range(2))  # fmt: skip
  ones = Pair(jnp.ones((2, length)), jnp.ones((2, length)))
  means = losses.ipo_mean_loss(policy, reference, ones, beta=beta)
  sums = losses.ipo_loss(policy, reference, ones, beta=beta / length)
  np.testing.assert_allclose(means, sums, rtol=1e-12)


def test_with_unequal_lengths_means_are_not_sums_at_either_length():
  by_mean = on_pair(losses.ipo_mean_loss, beta=0.1)
  for length in (2, 3):
    by_sum = on_pair(losses.ipo_loss, beta=0.1 / length)
    assert abs(by_sum - by_mean) > 1e-3


@each_loss
def test_no_gradient_reaches_the_reference(loss):
  policy, mask = arrays(POLICY), arrays(MASK)
  total = lambda r: jnp.sum(loss(policy, r, mask, beta=0.1))
  assert not any(map(np.any, jax.grad(total)(arrays(REFERENCE))))


@each_loss
def test_equal_responses_have_no_gradient(loss):
  reference, mask = jnp.asarray(REFERENCE.chosen), jnp.asarray(MASK.chosen)

  def total(x):
    pairs = (Pair(y, y) for y in (x, reference, mask))
    return jnp.sum(loss(*pairs, beta=0.1))

  assert not np.any(jax.grad(total)(jnp.asarray(POLICY.chosen)))


@each_loss
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.float64])
@pytest.mark.parametrize('sign', [-1, 1])
def test_extreme_log_probs_give_finite_losses_and_gradients(loss, dtype, sign):
  zeros, ones = jnp.zeros((1, 2), dtype), jnp.ones((1, 2), dtype)
  low = jnp.full((1, 2), -1e4, dtype)
  policy = Pair(low, zeros) if sign < 0 else Pair(zeros, low)
  total = lambda p, beta: jnp.sum(
    loss(p, Pair(zeros, zeros), Pair(ones, ones), beta=beta)
  )
  for beta in (0.1, 1.0):
    value, grad = jax.value_and_grad(total)(policy, beta)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(x)) for x in grad)


@each_loss
def test_gradients_are_those_of_finite_differences(loss):
  rng = np.random.default_rng(3)
  targets = Pair(*jnp.asarray(rng.integers(0, 5, (2, 2, 3))))
  reference = Pair(*jnp.asarray(rng.normal(size=(2, 2, 3))))
  mask = Pair(*jnp.asarray([[[1.0, 1, 1], [1, 1, 0]], [[1, 0, 0], [1, 1, 1]]]))
  inputs = Pair(*jnp.asarray(rng.normal(size=(2, 2, 3, 4))))

  def mean_loss(first, second):
    policy = Pair(
      *(
        losses.token_log_probs(jnp.tanh(x @ first) @ second, y, m)
        for x, y, m in zip(inputs, targets, mask)
      )
    )
    return jnp.mean(loss(policy, reference, mask, beta=0.3))

  weights = [jnp.asarray(rng.normal(size=s)) for s in ((4, 6), (6, 5))]
  check_grads(mean_loss, weights, order=1, modes=['rev'], eps=1e-6)


@each_loss
def test_one_compilation_serves_a_grid_of_beta(loss):
  program = jax.jit(loss)
  pair = [arrays(x) for x in (POLICY, REFERENCE, MASK)]
  values = [float(program(*pair, beta=b)[0]) for b in (0.05, 0.1, 0.3, 1.0)]
  assert len(set(values)) == 4
  assert program._cache_size() == 1
