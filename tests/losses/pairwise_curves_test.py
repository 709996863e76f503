"""Curves of the GPO family, and the optima that descent on losses finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap import losses
from dap.records import Pair


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


GPO_TABLE = {  # f: f(0), f(.09), f(1.5), f'(0)
  losses.logistic: (0.6931471805599, 0.6491593390256, 0.2014132779828, -0.5),
  losses.hinge: (1.0, 0.91, 0.0, -1.0),
  losses.squared: (1.0, 0.8281, 0.25, -2.0),
  losses.exponential: (1.0, 0.9139311852712, 0.2231301601484, -1.0),
  losses.truncated_quadratic: (1.0, 0.8281, 0.0, -2.0),
  losses.savage: (0.25, 0.2280207425541, 0.03327907173602, -0.25),
}


@pytest.mark.parametrize(
  ('curve', 'row'), GPO_TABLE.items(), ids=lambda x: getattr(x, '__name__', '')
)
def test_each_curve_of_the_gpo_family_has_its_values_and_slope(curve, row):
  values = curve(jnp.array([0.0, 0.09, 1.5]))
  np.testing.assert_allclose(values, row[:3], rtol=1e-10, atol=1e-12)
  np.testing.assert_allclose(jax.grad(curve)(0.0 * jnp.ones(())), row[3])


def test_the_hinge_has_no_gradient_at_its_kink():
  for curve in (losses.hinge, losses.truncated_quadratic):
    assert jax.grad(curve)(jnp.ones(())) == 0


def test_savage_is_convex_only_above_minus_log_two():
  bend = jax.grad(jax.grad(losses.savage))
  assert bend(jnp.asarray(-1.2)) < 0 < bend(jnp.asarray(0.0))
  assert abs(bend(jnp.asarray(-np.log(2)))) < 1e-12


@pytest.mark.parametrize('below', [-30.0, -40.0, -1e4])
def test_the_exponential_goes_on_as_a_tangent_where_it_would_overflow(below):
  value, slope = jax.value_and_grad(losses.exponential)(jnp.asarray(below))
  np.testing.assert_allclose(slope, -np.exp(30), rtol=1e-10)
  np.testing.assert_allclose(value, np.exp(30) * (1 - 30 - below), rtol=1e-10)


def descend(total, steps, rate, size):
  move = lambda _, x: x - rate * jax.grad(total)(x)
  return jax.jit(lambda x: jax.lax.fori_loop(0, steps, move, x))(
    jnp.zeros(size)
  )


def test_gradient_descent_finds_the_population_optimum_of_ipo():
  tau, start = 0.5, jnp.log(jnp.array([0.2, 0.5, 0.3]))
  behaviour = np.array([0.5, 0.3, 0.2])
  wins = np.array([[0.5, 0.8, 0.6], [0.2, 0.5, 0.6], [0.4, 0.4, 0.5]])
  first, second = (x.ravel() for x in np.mgrid[:3, :3])
  weight = behaviour[first] * behaviour[second] * wins[first, second]
  ones = jnp.ones((9, 1))

  def total(logits):
    log_probs = jax.nn.log_softmax(start + logits)
    policy, reference = (
      Pair(x[first][:, None], x[second][:, None]) for x in (log_probs, start)
    )
    each = losses.ipo_loss(policy, reference, Pair(ones, ones), beta=tau)
    return jnp.sum(weight * each)

  found = jax.nn.softmax(start + descend(total, 2000, 1.0, 3))
  # p(y > behaviour): .61, .37, .42, so that h0 - h1 = (.61 - .37) / .5 = .48.
  expected = wins @ behaviour
  np.testing.assert_allclose(expected, [0.61, 0.37, 0.42], rtol=1e-12)
  ratio = jnp.log(found) - start
  np.testing.assert_allclose(ratio[0] - ratio[1], 0.48, atol=1e-8)
  np.testing.assert_allclose(
    found, [0.2798963918349, 0.4329880967347, 0.2871155114305], atol=1e-8
  )


def test_gradient_descent_finds_the_tabular_optimum_of_dpo():
  one = jnp.ones((1, 1))

  def total(margin):
    policy = Pair(margin[None], 0 * margin[None])
    return losses.soft_dpo_loss(
      policy,
      Pair(0 * one, 0 * one),
      Pair(one, one),
      beta=0.1,
      chosen_probability=jnp.array([0.8]),
    )[0]

  found = descend(total, 2000, 200.0, 1)
  np.testing.assert_allclose(found, [13.8629436112], atol=1e-8)  # logit(.8)/.1
