import algorithm_laws as laws
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap.losses import reinforce

RUN = laws.run_of('reinforce')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('reinforce'))


def test_reinforce_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(5,))


def test_the_stream_of_reinforce_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_one_program_serves_a_grid_of_reinforce(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, value_weight=number)
    for rate, number in ((1e-3, 1.0), (1e-2, 0.1))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_returns_are_the_rewards_to_come(done):
  rows = laws.rows(done)
  to_come = np.cumsum(rows['columns/token_rewards'][..., ::-1], axis=-1)
  real = rows['mask'] > 0
  found = rows['columns/returns']
  np.testing.assert_allclose(found[real], to_come[..., ::-1][real], atol=1e-5)


def test_the_worked_responses_of_reinforce_with_a_value():
  # Log-probs -1.8, -2, -1.5, returns 1, .2, .6, a value of .5 of each.
  policy = jnp.array([[-1.8], [-2.0], [-1.5]])
  returns = jnp.array([[1.0], [0.2], [0.6]])
  values, mask = jnp.full((3, 1), 0.5), jnp.ones((3, 1))
  loss, metrics = reinforce.reinforce_value_loss(
    policy, values, returns, mask, value_weight=2.0
  )
  assert jnp.mean(metrics['policy_loss']) == pytest.approx(0.15)
  assert jnp.mean(metrics['value_loss']) == pytest.approx(0.116667, abs=1e-6)
  assert jnp.mean(loss) == pytest.approx(0.15 + 2 * 0.116667, abs=1e-6)


def test_the_value_is_taught_by_its_error_alone():
  def loss(values):
    arrays = (jnp.array([[-1.8]]), values, jnp.ones((1, 1)), jnp.ones((1, 1)))
    return reinforce.reinforce_value_loss(*arrays, value_weight=1.0)[0].sum()

  assert jax.grad(loss)(jnp.array([[0.25]])) == pytest.approx(-1.5)
