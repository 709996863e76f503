import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap import errors
from dap.algorithms import refresh
from dap.records import Role

START = Role({'w': jnp.full(3, -1.0)}, 0)


def roles(schedule, count=8):
  """The role of each step; the policy of step n has the parameter n."""
  found, role = [], START
  for step in range(count):
    role = schedule(step, role, {'w': jnp.full(3, float(step))})
    found.append(role)
  return found


def parameter(role):
  return None if role.params is None else float(role.params['w'][0])


@pytest.mark.parametrize(
  ('schedule', 'expected'),
  [
    (refresh.Every(1), [-1, 1, 2, 3, 4, 5, 6, 7]),
    (refresh.Every(3), [-1, -1, -1, 3, 3, 3, 6, 6]),
    (refresh.Lagged(1), [-1, 0, 1, 2, 3, 4, 5, 6]),
    (refresh.Lagged(3), [-1, -1, -1, 0, 1, 2, 3, 4]),
  ],
  ids=str,
)
def test_a_copy_is_of_the_policy_of_these_steps(schedule, expected):
  # -1 is what the run was given: a reference that is no copy of the policy.
  found = roles(schedule)
  assert [parameter(role) for role in found] == expected
  assert [role.taken_at for role in found] == [max(0, n) for n in expected]


def test_the_current_policy_is_no_copy():
  found = roles(refresh.Current())
  assert all(role.params is None for role in found)
  assert [role.taken_at for role in found] == list(range(8))


def test_what_never_follows_stays():
  assert all(role is START for role in roles(refresh.Never()))


def test_a_lag_holds_as_many_copies_as_it_has_steps():
  assert [len(role.later) for role in roles(refresh.Lagged(3))] == [
    1, 2, 3, 3, 3, 3, 3, 3,
  ]  # fmt: skip


def test_a_moving_average_nears_the_policy_by_its_rate():
  found = [parameter(role) for role in roles(refresh.Ema(0.5), 4)]
  assert found == [-1, 0, 1, 2]  # .5 * -1 + .5 * 1, .5 * 0 + .5 * 2, ...
  whole = [parameter(role) for role in roles(refresh.Ema(1.0), 4)]
  assert whole == [-1, 1, 2, 3]  # a rate of 1 is a copy
  slow = [role.taken_at for role in roles(refresh.Ema(0.5, steps=2), 6)]
  assert slow == [0, 0, 2, 2, 4, 4]


@pytest.mark.parametrize('schedule', [refresh.Every(2), refresh.Lagged(1)])
def test_a_copy_outlives_the_donation_of_the_policy(schedule):
  policy = {'w': jnp.ones(3)}
  role = schedule(2, schedule(1, START, policy), {'w': jnp.ones(3)})
  jax.jit(lambda tree: {'w': tree['w'] + 1}, donate_argnums=0)(policy)
  np.testing.assert_array_equal(role.params['w'], 1)


@pytest.mark.parametrize('steps', [0, -1])
@pytest.mark.parametrize('kind', [refresh.Every, refresh.Lagged])
def test_a_refresh_needs_a_step_between_copies(kind, steps):
  with pytest.raises(errors.InputError, match='steps >= 1.*never.gin'):
    kind(steps)


@pytest.mark.parametrize('rate', [0.0, -0.1, 1.1, float('nan')])
def test_a_rate_of_a_moving_average_is_a_share(rate):
  with pytest.raises(errors.InputError, match=r'rate in \(0, 1\]'):
    refresh.Ema(rate)
