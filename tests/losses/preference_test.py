"""Losses of reward models and preference models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from dap import errors, losses
from dap.algorithms import margins
from dap.records import Pair, RoleParams

law = settings(deadline=None, derandomize=True, max_examples=30)


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize(
  ('margin', 'value'),
  [
    (0.0, 0.4740769841801),  # log(1 + exp(-(1.2 - .7)))
    (1 / 3, 0.6132820580996),
    (3.0, 2.578889734293),
  ],
)
def test_a_margin_asks_for_scores_further_apart(margin, value):
  chosen, rejected = jnp.array([1.2]), jnp.array([0.7])
  one = losses.bradley_terry_loss(chosen, rejected, margin=margin)
  each = losses.bradley_terry_loss(chosen, rejected, margin=jnp.array([margin]))
  np.testing.assert_allclose([one, each], [[value], [value]], rtol=1e-10)


@law
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-5, 5))
def test_bradley_terry_reads_only_the_difference(chosen, rejected, shift):
  one = lambda x: jnp.array([x])
  moved = losses.bradley_terry_loss(one(chosen + shift), one(rejected + shift))
  still = losses.bradley_terry_loss(one(chosen), one(rejected))
  np.testing.assert_allclose(moved, still, rtol=1e-9, atol=1e-12)


@law
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_exchanging_response_and_order_leaves_the_preference_loss(first, last):
  one = lambda x: jnp.array([x])
  np.testing.assert_allclose(
    losses.pairwise_preference_loss(Pair(one(first), one(last))),
    losses.pairwise_preference_loss(Pair(one(-last), one(-first))),
    rtol=1e-12,
  )


@pytest.mark.parametrize(
  'loss',
  [
    losses.bradley_terry_loss,
    lambda *both: losses.pairwise_preference_loss(Pair(*both)),
  ],
)
def test_losses_are_smooth_and_finite_at_extremes(loss):
  total = lambda x, y: jnp.sum(loss(x, y))
  scores = jnp.array([0.3, -1.2]), jnp.array([-0.4, 0.9])
  check_grads(jax.jit(total), scores, order=1, modes=['rev'], eps=1e-6)
  for dtype in (jnp.float32, jnp.float64):
    far = jnp.array([1e4, -1e4], dtype), jnp.array([-1e4, 1e4], dtype)
    value, grad = jax.value_and_grad(total, argnums=(0, 1))(*far)
    assert np.isfinite(value) and all(np.all(np.isfinite(x)) for x in grad)


def soft(first, last, share):
  one = lambda x: jnp.array([x])
  odds, shares = Pair(one(first), one(last)), Pair(one(share), one(1 - share))
  return losses.soft_preference_loss(odds, shares)[0]


def test_votes_weigh_both_answers():
  logit = lambda p: np.log(p / (1 - p))
  # .75 (-(log .8 + log .65) / 2) + .25 (-(log .2 + log .35) / 2)
  found = soft(logit(0.8), logit(0.35), 0.75)
  np.testing.assert_allclose(found, 0.5776299298941, rtol=1e-10)
  np.testing.assert_allclose(soft(0.0, 0.0, 0.6), np.log(2), rtol=1e-10)


@law
@given(st.floats(-20, 20), st.floats(-20, 20), st.sampled_from([0.0, 1.0]))
def test_a_panel_of_one_mind_is_one_voter(first, last, share):
  one = lambda x: jnp.array([x])
  sign = 2 * share - 1
  odds = Pair(one(sign * first), one(sign * last))
  np.testing.assert_allclose(
    soft(first, last, share), losses.pairwise_preference_loss(odds)[0]
  )


@law
@given(st.floats(0.02, 0.98))
def test_the_least_is_at_the_odds_of_the_votes(share):
  odds = float(np.log(share / (1 - share)))
  slope = jax.grad(lambda x: soft(x, -x, share))
  np.testing.assert_allclose(slope(odds), 0, atol=1e-10)
  assert slope(odds - 0.1) < 0 < slope(odds + 0.1)
  check_grads(lambda x, y: soft(x, y, share), (0.3, -0.7), 1, ['rev'])


def of_margins(shares, grades):
  shares = jnp.array(shares)
  columns = {'shares': jnp.stack([shares, 1 - shares], axis=1)}
  batch = tiny.pairs().batch(np.arange(len(shares)))._replace(columns=columns)
  return margins.Margins(grades)(tiny.POLICY, RoleParams(None), batch)


def test_the_margin_of_a_pair_is_that_of_its_grade():
  grades = ((1.0, 1.0), (0.8, 2 / 3), (0.6, 1 / 3))
  found = of_margins([1.0, 5 / 6, 2 / 3, 0.5, 0.8], grades)
  expected = np.array([1, 2 / 3, 1 / 3, 0, 2 / 3])
  np.testing.assert_allclose(found, np.stack([expected] * 2, axis=1))


def test_margins_of_pairs_are_those_of_bradley_terry():
  # Scores 1.2 and .7: margins 0, 1/3 and 3.
  odds = jnp.full(3, 0.5)
  margin = jnp.array([0.0, 1 / 3, 3.0])
  found = losses.margin_preference_loss(Pair(odds, -odds), Pair(margin, margin))
  np.testing.assert_allclose(found, [0.474077, 0.613282, 2.578890], atol=1e-6)


@pytest.mark.parametrize('grades', [((0.6, 1.0), (0.8, 0.5)), ((0.6, -1.0),)])
def test_grades_fall_and_margins_are_no_less_than_0(grades):
  with pytest.raises(errors.InputError, match='shares that fall'):
    margins.Margins(grades)
