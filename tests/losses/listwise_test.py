"""RRHF, PRO and CLICK: losses of the group of a prompt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap.algorithms.objectives import Loss
from dap.errors import InputError
from dap.losses import click, pro, rrhf

law = settings(deadline=None, derandomize=True, max_examples=20)
RRHF = {'length_power': 1.0, 'rank_weight': 1.0}


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


def group(sums, lengths, width=4):
  """Responses of these log-probs, equal at each token; junk on padding."""
  policy = np.full((1, len(sums), width), -9.9)
  mask = np.zeros_like(policy)
  for row, (total, length) in enumerate(zip(sums, lengths, strict=True)):
    policy[0, row, :length] = total / length
    mask[0, row, :length] = 1
  return jnp.asarray(policy), jnp.asarray(mask)


def of_rrhf(scores, policy, mask, **numbers):
  each, metrics = rrhf.rrhf_loss(
    policy, jnp.asarray([scores]), mask, **{**RRHF, **numbers}
  )
  return each[0], {name: value[0] for name, value in metrics.items()}


def of_pro(scores, policy, mask, weight=0.05):
  each, metrics = pro.pro_loss(
    policy, jnp.asarray([scores]), mask, likelihood_weight=weight
  )
  return each[0], {name: value[0] for name, value in metrics.items()}


def test_the_worked_group_of_rrhf():
  # Means -.8, -.5, -.9. Worse by score, better by mean: the second over the
  # first, .3, and over the third, .4. The best has -2.4 nats.
  policy, mask = group((-2.4, -2.0, -1.8), (3, 4, 2))
  loss, metrics = of_rrhf((1.0, 0.2, 0.8), policy, mask)
  np.testing.assert_allclose(metrics['rank_loss'], 0.7, rtol=1e-12)
  np.testing.assert_allclose(metrics['likelihood_loss'], 2.4, rtol=1e-12)
  np.testing.assert_allclose(loss, 3.1, rtol=1e-12)
  assert metrics['equal_pairs'] == 0


def test_rrhf_ranks_nothing_where_means_are_in_the_order_of_scores():
  policy, mask = group((-2.4, -2.0, -1.8), (3, 4, 2))
  _, metrics = of_rrhf((0.1, 0.9, -3.0), policy, mask)
  assert metrics['rank_loss'] == 0


def test_equal_scores_are_no_pair_of_rrhf_and_the_first_is_imitated():
  policy, mask = group((-2.4, -2.0), (3, 4))
  loss, metrics = of_rrhf((0.5, 0.5), policy, mask)
  np.testing.assert_allclose(loss, 2.4, rtol=1e-12)
  assert metrics['equal_pairs'] == 1


def test_equal_scores_do_not_compete_in_pro():
  policy, mask = group((-3.0, -2.2, -6.0), (3, 2, 4))
  loss, metrics = of_pro((1.0, 1.0, 1.0), policy, mask)
  assert metrics['rank_loss'] == 0
  assert metrics['equal_pairs'] == 1
  grads = jax.grad(lambda x: of_pro((1.0, 1.0, 0.0), x, mask)[0])(policy)
  assert np.all(np.isfinite(grads))
  np.testing.assert_allclose(loss, 0.2 * 3.0, rtol=1e-12)


@pytest.mark.parametrize(('gap', 'nats'), [(15.0, 0.0), (14.0, 1.0)])
def test_click_is_satisfied_at_its_margin(gap, nats):
  policy, mask = group((-2.0, -2.0 - gap, -1.0), (2, 2, 2))
  _, metrics = click.click_loss(policy, mask, margin=15.0, rank_weight=0.1)
  np.testing.assert_allclose(metrics['rank_loss'], [nats], atol=1e-12)


LOSSES = {
  'rrhf': of_rrhf,
  'pro': of_pro,
  'click': lambda scores, policy, mask: (
    click.click_loss(policy, mask, margin=15.0, rank_weight=0.1)[0][0],
    {},
  ),
}
each_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)
SCORES = (1.0, 0.2, 0.8)


@each_loss
def test_padding_moves_no_list_loss(loss):
  policy, mask = group((-2.4, -2.0, -1.8), (3, 4, 2))
  wide = [jnp.pad(x, ((0, 0), (0, 0), (0, 3))) for x in (policy, mask)]
  wide[0] = jnp.where(wide[1] > 0, wide[0], jnp.nan)
  np.testing.assert_array_equal(
    loss(SCORES, policy, mask)[0], loss(SCORES, *wide)[0]
  )
  value = lambda x: loss(SCORES, x, wide[1])[0]
  grads = jax.grad(value)(wide[0])
  np.testing.assert_array_equal(jnp.where(wide[1] > 0, 0, grads), 0)


@pytest.mark.parametrize('name', ['rrhf', 'pro'])
@law
@given(order=st.permutations(range(3)), shift=st.floats(-3, 3))
def test_neither_order_nor_level_of_scores_matters(name, order, shift):
  policy, mask = group((-2.4, -2.0, -1.8), (3, 4, 2))
  moved = [SCORES[i] + shift for i in order]
  rows = jnp.asarray(order)
  one, _ = LOSSES[name](SCORES, policy, mask)
  other, _ = LOSSES[name](moved, policy[:, rows], mask[:, rows])
  np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize('name', ['rrhf', 'pro'])
def test_a_response_that_is_not_there_counts_for_nothing(name):
  policy, mask = group((-2.4, -2.0, -1.8), (3, 4, 2))
  more = [jnp.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (policy, mask)]
  one, _ = LOSSES[name](SCORES, policy, mask)
  rank = {'rrhf': {}, 'pro': {'weight': 0.05 * 4 / 9}}[name]
  other, _ = LOSSES[name]((*SCORES, 9.0), *more, **rank)
  np.testing.assert_allclose(one, other, rtol=1e-12)


@each_loss
@pytest.mark.parametrize('total', [-1e4, -1e-30])
def test_list_losses_are_finite_at_the_ends(loss, total):
  policy, mask = group((total, -1.0, total), (3, 4, 2))
  value, grads = jax.value_and_grad(lambda x: loss(SCORES, x, mask)[0])(policy)
  assert np.isfinite(value) and np.all(np.isfinite(grads))


@pytest.mark.parametrize(
  ('function', 'numbers', 'says'),
  [
    (rrhf.rrhf_loss, {**RRHF, 'rank_weight': -1.0}, 'rank_weight .* >= 0'),
    (pro.pro_loss, {'likelihood_weight': -0.1}, 'likelihood_weight .* >= 0'),
    (click.click_loss, {'margin': 0.0, 'rank_weight': 0.1}, 'margin .* > 0'),
  ],
)
def test_numbers_out_of_range_are_refused(function, numbers, says):
  with pytest.raises(InputError, match=says):
    Loss(function, numbers)
