"""Cringe and Pairwise Cringe, from tables of logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from dap.algorithms import objectives
from dap.errors import InputError
from dap.losses import cringe, log_probs
from dap.records import Pair

law = settings(deadline=None, derandomize=True, max_examples=20)
LOGITS = (2.0, 1.0, 0.5, -1.0)
PAIRWISE = {
  'gate_shift': -10.0,
  'gate_temperature': 10.0,
  'rival_weight': 0.005,
}
# Of two responses of three tokens over four ids; the second is shorter.
TABLE = np.random.default_rng(0).normal(0, 2, (1, 2, 3, 4))
TOKENS = jnp.array([[[0, 1, 2], [3, 0, 0]]])
MASK = jnp.array([[[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]])
DESIRABLE = jnp.array([[1.0, 0.0]])


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


def said(table, num_rivals, tokens=TOKENS):
  """Log-probs of the tokens and of their rivals under softmax(table)."""
  nats = jax.nn.log_softmax(jnp.asarray(table))
  return (
    jnp.take_along_axis(nats, tokens[..., None], axis=-1)[..., 0],
    log_probs.rival_log_probs(nats, tokens, num_rivals),
  )


def of_token(logits, token, num_rivals):
  """`rival_loss` of one token."""
  policy, rivals = said([logits], num_rivals, jnp.array([token]))
  return cringe.rival_loss(policy, rivals, jnp.ones(1))[0]


def binary(policy, rivals, mask, weight=1.0):
  return cringe.cringe_loss(
    policy, rivals, DESIRABLE, mask, rival_weight=weight
  )[0][0]


def pairwise(policy, rivals, mask, **numbers):
  sides = (Pair(x[:, 0], x[:, 1]) for x in (policy, rivals, mask))
  return cringe.pairwise_cringe_loss(*sides, **{**PAIRWISE, **numbers})[0][0]


LOSSES = {'cringe': binary, 'pairwise': pairwise}
each_loss = pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)


tables = st.lists(
  st.floats(-5, 5), min_size=5, max_size=5, unique_by=lambda x: round(x, 3)
)


@law
@given(logits=tables, token=st.integers(0, 4), num_rivals=st.integers(1, 4))
def test_rivals_are_the_likeliest_others_and_never_the_token(
  logits, token, num_rivals
):
  _, rivals = said([logits], num_rivals, jnp.array([token]))
  others = np.delete(jax.nn.log_softmax(jnp.asarray(logits)), token)
  np.testing.assert_array_equal(rivals[0], np.sort(others)[::-1][:num_rivals])


@law
@given(logits=tables, token=st.integers(0, 4), num_rivals=st.integers(1, 4))
def test_a_less_likely_token_loses_less(logits, token, num_rivals):
  lower = list(logits)
  lower[token] -= 0.1
  assert of_token(lower, token, num_rivals) < of_token(
    logits, token, num_rivals
  )


def test_its_gradient_is_the_mean_of_those_of_drawn_rivals():
  table = jnp.asarray(LOGITS)
  chances = jax.nn.softmax(table[jnp.array([1, 2])])

  def drawn(logits, rival):
    return jax.nn.softplus(logits[0] - logits[rival])

  mean = sum(
    chance * jax.grad(drawn)(table, rival)
    for chance, rival in zip(chances, (1, 2), strict=True)
  )
  np.testing.assert_allclose(
    jax.grad(lambda x: of_token(x, 0, 2))(table), mean, atol=1e-12
  )
  assert mean[1] < 0 < mean[0]  # rivals are raised, not only the token lowered


@each_loss
def test_gradients_are_those_of_finite_differences(loss):
  # Of one rival, whose chance is 1 whatever the logits.
  check_grads(
    lambda table: loss(*said(table, 1), MASK), (TABLE,), order=1, eps=1e-6
  )


@law
@given(gap=st.floats(-300, 300), more=st.floats(0.1, 50))
def test_the_gate_is_a_share_that_falls_as_the_margin_grows(gap, more):
  def gate(gap):
    policy = Pair(jnp.array([[0.5 * gap]]), jnp.array([[-0.5 * gap]]))
    rivals = Pair(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)))
    mask = Pair(jnp.ones((1, 1)), jnp.ones((1, 1)))
    return cringe.pairwise_cringe_loss(policy, rivals, mask, **PAIRWISE)[1][
      'gate'
    ][0]

  assert 0 < gate(gap + more) < gate(gap) < 1


def test_the_gate_has_a_gradient_that_widens_the_margin():
  # The likelihood of a rejected response enters the gate alone where rivals
  # weigh nothing.
  policy, rivals = said(TABLE, 1)
  slope = jax.grad(lambda x: pairwise(x, rivals, MASK, rival_weight=0.0))(
    policy
  )
  assert np.all(slope[0, 1, :2] > 0)


def test_wanted_or_not_is_what_the_column_says():
  policy, rivals = said(TABLE, 2)
  numbers = {'rival_weight': 0.5}
  one = cringe.cringe_loss(policy, rivals, DESIRABLE, MASK, **numbers)[0]
  turned = (x[:, ::-1] for x in (policy, rivals, DESIRABLE, MASK))
  np.testing.assert_array_equal(one, cringe.cringe_loss(*turned, **numbers)[0])
  both, metrics = cringe.cringe_loss(
    policy, rivals, jnp.ones((1, 2)), MASK, **numbers
  )
  assert metrics['rival_loss'] == 0
  np.testing.assert_allclose(both, -jnp.sum(policy * MASK) / 5, rtol=1e-12)


@each_loss
def test_padding_moves_nothing(loss):
  policy, rivals = said(TABLE, 2)
  wide = [((0, 0), (0, 0), (0, 2)), ((0, 0), (0, 0), (0, 2), (0, 0))]
  mask = jnp.pad(MASK, wide[0])
  junk = (
    jnp.where(mask > 0, jnp.pad(policy, wide[0]), jnp.nan),
    jnp.where(mask[..., None] > 0, jnp.pad(rivals, wide[1]), jnp.nan),
  )
  np.testing.assert_allclose(
    loss(policy, rivals, MASK), loss(*junk, mask), rtol=1e-12
  )
  grads = jax.grad(lambda x: loss(*x, mask))(junk)
  for bar in grads:
    assert np.all(np.isfinite(bar)) and not np.any(bar[0, 1, 2:])


@functools.cache
def _graded(loss):
  return jax.jit(
    jax.value_and_grad(lambda x, **numbers: loss(*x, MASK, **numbers))
  )


@each_loss
@pytest.mark.parametrize('policy', [-1e4, 0.0])
@pytest.mark.parametrize('rival', [-1e4, 0.0])
@pytest.mark.parametrize('shift', [-1e4, 1e4])
def test_it_is_finite_at_the_ends(loss, policy, rival, shift):
  numbers = {'gate_shift': shift} if loss is pairwise else {}
  given = jnp.full((1, 2, 3), policy), jnp.full((1, 2, 3, 2), rival)
  value, grads = _graded(loss)(given, **numbers)
  assert np.isfinite(value)
  assert all(np.all(np.isfinite(bar)) for bar in grads)


def test_neither_reads_a_reference():
  for function in (cringe.cringe_loss, cringe.pairwise_cringe_loss):
    assert {*objectives.reads(function)} <= {
      'policy', 'rivals', 'desirable', 'mask',
    }  # fmt: skip


@pytest.mark.parametrize(
  ('function', 'numbers', 'says'),
  [
    (cringe.cringe_loss, {}, 'rival_weight'),
    (cringe.cringe_loss, {'rival_weight': -1.0}, 'rival_weight .* >= 0'),
    (cringe.pairwise_cringe_loss, {'gate_shift': -10.0}, 'gate_temperature'),
    (
      cringe.pairwise_cringe_loss,
      {**PAIRWISE, 'gate_temperature': 0.0},
      'gate_temperature .* > 0',
    ),
    (
      cringe.pairwise_cringe_loss,
      {**PAIRWISE, 'gate_shift': float('nan')},
      'gate_shift .* of either sign',
    ),
  ],
)
def test_numbers_that_lack_or_lie_outside_are_refused(function, numbers, says):
  with pytest.raises(InputError, match=says):
    objectives.Loss(function, numbers)
