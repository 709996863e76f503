import algorithm_laws as laws
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap import errors
from dap.losses import grpo

RUN = laws.run_of('grpo', EPOCHS=2, MINIBATCHES=2)
SCORES = jnp.array([[1.0, 0.2, 0.6]])
POLICY = np.array([0.1, -0.3, 0.0])  # log-ratios to the behaviour policy
DISTANCE = np.array([-0.3, 0.1, 0.0])  # of the reference from the policy


def worked(**scalars):
  """Three responses of three tokens that are alike but for their scores."""

  def alike(tokens):
    return jnp.broadcast_to(jnp.asarray(tokens), (1, 3, 3))

  policy = alike(POLICY) - 1.0
  arrays = (policy, alike(-1.0), policy + alike(DISTANCE))
  numbers = {'clip': 0.2, 'kl_weight': 0.04, **scalars}
  return grpo.grpo_loss(*arrays, SCORES, alike(1.0), **numbers)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('grpo'))


def test_advantages_are_scores_normalised_within_a_prompt():
  # Mean .6, unbiased standard deviation .4: .4 / .4001.
  found = grpo.normalised_scores(SCORES)
  np.testing.assert_allclose(found, [[0.99975, -0.99975, 0]], atol=1e-6)
  equal = grpo.normalised_scores(jnp.ones((2, 4)))
  np.testing.assert_array_equal(equal, 0)


def test_the_worked_group():
  # Ratios 1.105171, .740818, 1. With A = .99975 their mean .948663 counts, as
  # -.948426; with A = -.99975 the second is clipped to .8: .99975 * .968390.
  loss, metrics = worked()
  policy_loss = (-0.948426 + 0.99975 * 0.968390) / 3
  np.testing.assert_allclose(metrics['policy_loss'], policy_loss, atol=1e-6)
  # exp(-.3) - .7, exp(.1) - 1.1 and 0: mean .015330.
  np.testing.assert_allclose(metrics['reference_kl'], 0.015330, atol=1e-6)
  np.testing.assert_allclose(metrics['clip_fraction'], 1 / 3, atol=1e-6)
  np.testing.assert_allclose(loss, policy_loss + 0.04 * 0.01533, atol=1e-6)


def test_equal_scores_teach_nothing():
  def loss(policy):
    arrays = (policy, jnp.zeros((1, 4, 3)), jnp.zeros((1, 4, 3)))
    numbers = {'clip': 0.2, 'kl_weight': 0.0}
    each, metrics = grpo.grpo_loss(
      *arrays, jnp.full((1, 4), 2.0), jnp.ones((1, 4, 3)), **numbers
    )
    return jnp.sum(each), metrics

  grads, metrics = jax.grad(loss, has_aux=True)(jnp.full((1, 4, 3), 0.1))
  np.testing.assert_array_equal(grads, 0)
  np.testing.assert_array_equal(metrics['equal_scores'], 1)


def test_a_negative_weight_is_refused():
  with pytest.raises(errors.InputError, match='kl_weight of grpo_loss'):
    laws.run_of('grpo', KL_WEIGHT=-1.0)


def test_grpo_repeats(done, tmp_path):
  laws.repeats(done, tmp_path)


def test_grpo_survives_kills_between_minibatches(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(6, 18))


def test_one_program_serves_a_grid_of_grpo(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, kl_weight=weight)
    for rate, weight in ((1e-3, 0.04), (1e-2, 0.5))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_the_stream_of_grpo_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)
