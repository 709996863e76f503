import pytest

from dap import errors
from dap.algorithms import refresh


@pytest.mark.parametrize(
  ('schedule', 'expected'),
  [
    (refresh.EveryStep(), [0, 1, 2, 3, 4, 5, 6, 7]),
    (refresh.Every(1), [0, 1, 2, 3, 4, 5, 6, 7]),
    (refresh.Every(3), [0, 3, 6]),
    (refresh.Never(), [0]),
  ],
  ids=str,
)
def test_the_behaviour_policy_is_copied_at_these_steps(schedule, expected):
  assert [step for step in range(8) if schedule(step)] == expected


@pytest.mark.parametrize('steps', [0, -1])
def test_a_refresh_needs_a_step_between_copies(steps):
  with pytest.raises(errors.InputError, match='steps >= 1.*never.gin'):
    refresh.Every(steps)
