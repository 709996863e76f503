import dataclasses

import pytest
import tiny

from dap import errors
from dap.algorithms import algorithm, objectives
from dap.study.design import grid

SETTINGS = ((1e-3, 0.1), (2e-3, 0.5))


def test_runs_differ_in_rate_beta_and_seed_alone():
  arm = grid.Arm('ipo', tiny.run(save_steps=(3,)), SETTINGS)
  names, settings, runs = zip(*arm.runs(seed=7))
  assert settings == SETTINGS
  assert names == ('ipo_lr0.001_beta0.1', 'ipo_lr0.002_beta0.5')
  for (rate, beta), run in zip(settings, runs):
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
  (only,) = grid.Arm('best', run, ((1e-3, None),)).runs(0)
  assert only.name == 'best_lr0.001'
  assert only.setting == (1e-3, None) and only.run.algorithm == run.algorithm


@pytest.mark.parametrize(
  'settings',
  [(), ((0.0, 0.1),), ((1e-3, 0.0),), ((1e-3, -1.0),), ((1e-3, 0.1),) * 2],
)
def test_settings_out_of_range_are_refused(settings):
  with pytest.raises(errors.InputError, match='[Ss]etting'):
    grid.Arm('ipo', tiny.run(), settings)


@pytest.mark.parametrize('name', ['', 'On', 'a/b', 'sft', 'golden_policy'])
def test_names_that_cannot_be_or_are_taken_are_refused(name):
  with pytest.raises(errors.InputError, match='An arm is named'):
    grid.Arm(name, tiny.run(), SETTINGS)


def test_a_beta_for_a_loss_without_one_is_refused():
  run = tiny.run(algorithm.Algorithm(objectives.best_of_two()))
  with pytest.raises(errors.InputError, match='best has no beta'):
    list(grid.Arm('best', run, SETTINGS).runs(0))


def test_an_arm_that_samples_takes_no_responses():
  stream = grid.StreamOf(grid.RunOf('other', (1e-3, 0.1)))
  with pytest.raises(errors.InputError, match='needs the prompts of D_golden'):
    grid.Arm('ipo', tiny.run(tiny.ONLINE), SETTINGS, pairs=stream)


def test_a_run_is_named_by_arm_and_setting_and_sft_by_itself():
  assert grid.RunOf('ipo', (5e-4, 0.05)).name == 'ipo_lr0.0005_beta0.05'
  assert grid.RunOf('sft').name == 'sft'
  for arm, setting in (('ipo', None), ('sft', (1e-3, 0.1))):
    with pytest.raises(errors.InputError, match='A run is named by'):
      grid.RunOf(arm, setting)
