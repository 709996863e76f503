"""Curves of the GPO family: their kinks, bends and far ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap import losses


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


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
