import dataclasses

import pytest
import tiny

from dap import errors
from dap.algorithms import algorithm, objectives
from dap.study import grid

SETTINGS = ((1e-3, 0.1), (2e-3, 0.5))


def test_runs_differ_in_rate_beta_and_seed_alone():
  arm = grid.Arm(tiny.run(save_steps=(3,)), SETTINGS)
  rates, betas, runs = zip(*arm.runs(seed=7))
  assert (rates, betas) == ((1e-3, 2e-3), (0.1, 0.5))
  for rate, beta, run in zip(rates, betas, runs):
    assert dict(run.algorithm.loss.scalars) == {'beta': beta}
    assert run == dataclasses.replace(
      arm.run,
      learning_rate=rate,
      seed=7,
      algorithm=dataclasses.replace(
        tiny.OFFLINE, loss=objectives.ipo(beta)
      ),
    )  # fmt: skip
  assert runs[0].objective == runs[1].objective  # one program serves both


def test_a_beta_of_none_leaves_the_loss_as_it_is():
  run = tiny.run(algorithm.Algorithm(objectives.best_of_two()))
  ((_, beta, only),) = grid.Arm(run, ((1e-3, None),)).runs(0)
  assert beta is None and only.algorithm == run.algorithm


@pytest.mark.parametrize(
  'settings', [(), ((0.0, 0.1),), ((1e-3, 0.0),), ((1e-3, -1.0),)]
)
def test_settings_out_of_range_are_refused(settings):
  with pytest.raises(errors.InputError, match='[Ss]etting'):
    grid.Arm(tiny.run(), settings)
