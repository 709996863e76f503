"""Policy gradients: laws and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import errors, losses, partitioning
from dap.algorithms import signals
from dap.algorithms.objectives import Loss
from dap.records import Batch, Prompts, Responses, RoleParams

# The worked response: three tokens; the fourth place is padding with junk.
BEHAVIOUR = np.array([[-0.5, -1.0, -0.3, -9.9]])
REFERENCE = np.array([[-0.7, -1.1, -0.5, -4.4]])
VALUES = np.array([[0.1, 0.2, 0.3, 7.7]])
MASK = np.array([[1.0, 1.0, 1.0, 0.0]])
SCORES = np.array([1.0])
CLIPS = {'clip': 0.2, 'value_clip': 0.2, 'value_weight': 0.1}
law = settings(deadline=None, derandomize=True, max_examples=30)


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


def rewards(behaviour=BEHAVIOUR, reference=REFERENCE):
  arrays = (behaviour, reference, MASK, SCORES)
  return losses.token_rewards(*map(jnp.asarray, arrays), kl_weight=0.05)


def advantages(decay=0.95, discount=1.0, values=VALUES):
  return losses.generalised_advantages(
    rewards(), jnp.asarray(values), jnp.asarray(MASK),
    discount=discount, decay=decay,
  )  # fmt: skip


def ppo(policy, values, advantages, returns, mask=MASK, before=None, **changes):
  behaviour = BEHAVIOUR if before is None else before
  arrays = (policy, values, behaviour, VALUES, advantages, returns, mask)
  return losses.ppo_loss(
    *(jnp.asarray(each) for each in arrays), **{**CLIPS, **changes}
  )


def close(found, expected):
  np.testing.assert_allclose(found, expected, atol=5e-7)


def test_whitening_gives_mean_0_and_variance_1():
  # Mean .747825, unbiased standard deviation .056535.
  found = losses.whiten(advantages(), jnp.asarray(MASK))
  close(found, [[0.975501, 0.047316, -1.022816, 0]])


def test_at_the_policy_that_wrote_the_response_nothing_is_clipped():
  white = losses.whiten(advantages(), jnp.asarray(MASK))
  _, metrics = ppo(BEHAVIOUR, VALUES, white, advantages() + VALUES)
  close(metrics['policy_loss'], [0])  # minus the mean of whitened advantages
  close(metrics['clip_fraction'], [0])
  close(metrics['behaviour_kl'], [0])


@law
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8))
def test_what_leaving_one_out_gives_sums_to_0(scores):
  rewards = jnp.asarray([scores])
  n = len(scores)
  found = losses.leave_one_out_advantages(rewards)
  np.testing.assert_allclose(jnp.sum(found), 0, atol=1e-9)
  from_mean = n / (n - 1) * (rewards - rewards.mean())
  np.testing.assert_allclose(found, from_mean, atol=1e-9)


def test_rewards_of_tokens_sum_to_the_score_less_the_penalty():
  ratio = losses.log_ratio(*map(jnp.asarray, (BEHAVIOUR, REFERENCE, MASK)))
  close(jnp.sum(rewards(), -1), SCORES - 0.05 * ratio)


def test_without_decay_an_advantage_is_the_reward_to_go_less_the_value():
  to_go = jnp.cumsum(rewards()[:, ::-1], axis=-1)[:, ::-1]
  close(advantages(decay=1.0), (to_go - VALUES) * MASK)


def test_without_lambda_an_advantage_is_one_surprise():
  close(advantages(decay=0.0), [[0.09, 0.095, 0.69, 0]])


@pytest.mark.parametrize('junk', [0.0, -50.0, np.inf, np.nan])
def test_what_stands_on_padding_does_not_matter(junk):
  def filled(array):
    return jnp.where(jnp.asarray(MASK) > 0, jnp.asarray(array), junk)

  found = rewards(behaviour=filled(BEHAVIOUR), reference=filled(REFERENCE))
  np.testing.assert_array_equal(found, rewards())
  found = losses.generalised_advantages(
    filled(rewards()), filled(VALUES), jnp.asarray(MASK), discount=1.0,
    decay=0.95,
  )  # fmt: skip
  np.testing.assert_array_equal(found, advantages())
  white = losses.whiten(filled(advantages()), jnp.asarray(MASK))
  np.testing.assert_array_equal(
    white, losses.whiten(advantages(), jnp.asarray(MASK))
  )

  def total(policy, values, fill):
    returns = advantages() + VALUES
    arrays = (policy, values, white, returns)
    loss, metrics = ppo(*(fill(each) for each in arrays))
    return jnp.sum(loss), metrics

  both = jax.value_and_grad(total, (0, 1), has_aux=True)
  new = jnp.asarray(BEHAVIOUR) + 0.1, jnp.asarray(VALUES) - 0.1
  jax.tree.map(
    np.testing.assert_array_equal, both(*new, filled), both(*new, lambda x: x)
  )


def test_the_first_pass_of_ppo_has_the_gradient_of_reinforce():
  advantage = jnp.array([1.7])
  everywhere = jnp.broadcast_to(advantage[:, None], MASK.shape)

  def clipped(policy):
    return jnp.sum(ppo(policy, VALUES, everywhere, VALUES)[0])

  def plain(policy):
    mask = jnp.asarray(MASK)
    return jnp.sum(losses.reinforce_loss(policy, advantage, mask))

  at = jnp.asarray(BEHAVIOUR)
  close(jax.grad(clipped)(at), jax.grad(plain)(at))


@pytest.mark.parametrize(('advantage', 'ratio'), [(1.0, 1.3), (-1.0, 0.7)])
def test_beyond_the_clip_a_gain_has_no_gradient(advantage, ratio):
  def loss(policy, advantage):
    each, _ = ppo(policy, VALUES, advantage * MASK, VALUES)
    return jnp.sum(each)

  policy = jnp.asarray(BEHAVIOUR) + np.log(ratio)
  close(jax.grad(loss)(policy, advantage), 0)
  assert np.all(jax.grad(loss)(policy, -advantage)[:, :3] != 0)


def batch(gae):
  """Rows of 1 to 6 tokens."""
  rows = gae.shape[0]
  tokens = np.where(np.arange(6) < 1 + np.arange(rows)[:, None] % 6, 5, 0)
  mask = (tokens > 0).astype(np.float32)[:, None]
  found = Batch(
    Prompts(np.arange(rows, dtype=np.int32), np.ones((rows, 2), np.int32)),
    Responses(tokens[:, None].astype(np.int32), mask, mask),
    np.zeros((rows, 1), np.float32),
    np.ones(rows, np.float32),
    {'gae': gae.astype(np.float32)},
  )
  return tiny.on_device(found)


@pytest.mark.parametrize('shape', [(4, 1), (2, 2)])
def test_whitening_is_over_the_global_batch_whatever_the_mesh(shape):
  gae = np.random.default_rng(0).normal(3.0, 2.0, (8, 1, 6))
  gae += np.arange(8)[:, None, None]  # shards differ
  given = batch(gae)

  @jax.jit
  def whitened(given):
    return signals.Whitened()(tiny.POLICY, RoleParams(None), given)

  placed = jax.device_put(
    given, partitioning.by_example(partitioning.mesh(shape))
  )
  found = whitened(placed)
  np.testing.assert_allclose(found, whitened(given), atol=1e-6)
  real = np.asarray(found)[given.responses.mask > 0]
  np.testing.assert_allclose(np.mean(real), 0, atol=1e-6)
  np.testing.assert_allclose(np.var(real, ddof=1), 1, atol=1e-5)


@pytest.mark.parametrize(
  ('name', 'value'),
  [('clip', 0.0), ('value_clip', -0.1), ('value_weight', -1.0)],
)
def test_numbers_of_ppo_out_of_range_are_refused(name, value):
  with pytest.raises(errors.InputError, match=f'{name} of ppo_loss .*{value}'):
    Loss(losses.ppo_loss, {**CLIPS, name: value})


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (lambda: signals.LeaveOneOut(kl_weight=-0.1), 'kl_weight must be >= 0'),
    (lambda: signals.TokenRewards(kl_weight=-0.1), 'kl_weight must be >= 0'),
    (lambda: signals.TokenRewards(score_limit=0), 'score_limit must be > 0'),
    (lambda: signals.Gae(discount=1.1), r'discount .* \[0, 1\], got 1.1'),
    (lambda: signals.Gae(decay=-0.1), r'decay .* \[0, 1\], got -0.1'),
  ],
)
def test_numbers_of_signals_out_of_range_are_refused(make, words):
  with pytest.raises(errors.InputError, match=words):
    make()


def test_leaving_one_out_of_one_is_refused():
  given = batch(np.zeros((2, 1, 6)))
  with pytest.raises(errors.InputError, match='two responses to a prompt'):
    signals.LeaveOneOut()(tiny.POLICY, RoleParams(None), given)
