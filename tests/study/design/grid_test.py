import dataclasses
import re

import pytest
import tiny

from dap import errors, losses
from dap.algorithms import algorithm
from dap.algorithms.objectives import Loss
from dap.models import t5
from dap.study.design import grid

SETTINGS = ((1e-3, 0.1), (2e-3, 0.5))
BEST = tiny.run(algorithm.Algorithm(Loss(losses.best_of_two_loss)))
AZAR = tiny.run(algorithm.Algorithm(Loss(losses.ipo_azar_loss, {'tau': 1.0})))
CDPO = tiny.run(
  algorithm.Algorithm(
    Loss(losses.cdpo_loss, {'beta': 1.0, 'label_smoothing': 0.1})
  )
)


def numbers(arm):
  """Of the loss of each run, by the run's name."""
  return {each.name: each.run.algorithm.loss.numbers for each in arm.runs(0)}


def test_runs_differ_in_rate_number_and_seed_alone():
  arm = grid.Arm('ipo', tiny.run(save_steps=(3,)), SETTINGS)
  names, settings, runs, scalars = zip(*arm.runs(seed=7))
  assert settings == SETTINGS
  assert names == ('ipo_lr0.001_beta0.1', 'ipo_lr0.002_beta0.5')
  for (rate, beta), run, told in zip(settings, runs, scalars):
    assert run.algorithm.loss.numbers == told == {'beta': beta}
    assert run == dataclasses.replace(
      arm.run,
      learning_rate=rate,
      seed=7,
      algorithm=dataclasses.replace(tiny.OFFLINE, loss=tiny.ipo(beta)),
    )
  assert runs[0].objective == runs[1].objective  # one program serves both


@pytest.mark.parametrize('setting', [(1e-3, None), (1e-3,), (1e-3, {})])
def test_what_no_number_is_given_for_stays_as_it_is(setting):
  (only,) = grid.Arm('best', BEST, (setting,)).runs(0)
  assert only.name == 'best_lr0.001' and only.scalars == {}
  assert only.run.algorithm == BEST.algorithm
  (only,) = grid.Arm('cdpo', CDPO, (setting,)).runs(0)
  assert only.name == 'cdpo_lr0.001'
  assert only.run.algorithm == CDPO.algorithm


def test_a_number_has_the_name_that_its_loss_gives_it():
  arm = grid.Arm('azar', AZAR, ((1e-3, 0.1), (1e-3, {'tau': 0.2})))
  assert numbers(arm) == {
    'azar_lr0.001_tau0.1': {'tau': 0.1},
    'azar_lr0.001_tau0.2': {'tau': 0.2},
  }


def test_a_setting_may_give_several_numbers_in_their_order_or_by_name():
  by_name = (1e-3, {'label_smoothing': 0.3})
  settings = ((1e-3, 0.5), (1e-3, 0.5, 0.2), (1e-3, None, 0.2), by_name)
  assert numbers(grid.Arm('cdpo', CDPO, settings)) == {
    'cdpo_lr0.001_beta0.5': {'beta': 0.5, 'label_smoothing': 0.1},
    'cdpo_lr0.001_beta0.5_label_smoothing0.2': {
      'beta': 0.5,
      'label_smoothing': 0.2,
    },
    'cdpo_lr0.001_label_smoothing0.2': {'beta': 1.0, 'label_smoothing': 0.2},
    'cdpo_lr0.001_label_smoothing0.3': {'beta': 1.0, 'label_smoothing': 0.3},
  }


def test_an_arm_may_name_the_numbers_of_its_settings():
  names = ('label_smoothing', 'beta')
  arm = grid.Arm('cdpo', CDPO, ((1e-3, 0.2, 0.5),), scalars=names)
  (only,) = arm.runs(0)
  assert only.name == 'cdpo_lr0.001_label_smoothing0.2_beta0.5'
  assert list(only.scalars.items()) == [('label_smoothing', 0.2), ('beta', 0.5)]
  one = grid.Arm('cdpo', CDPO, ((1e-3, 0.2),), scalars=('label_smoothing',))
  assert numbers(one) == {
    'cdpo_lr0.001_label_smoothing0.2': {'beta': 1.0, 'label_smoothing': 0.2}
  }


REFUSED = {
  'no settings': (((),), 'learning rate, *numbers of the loss'),
  'none at all': ((), 'settings (learning rate, *numbers) that differ'),
  'twice': (((1e-3, 0.1),) * 2, 'that differ'),
  'twice, by name': (((1e-3, 0.1), (1e-3, {'beta': 0.1})), 'that differ'),
  'no rate': (((0.0, 0.1),), 'learning_rate > 0, got 0.0'),
  'zero': (((1e-3, 0.0),), 'beta of ipo_loss must be > 0, got 0.0'),
  'negative': (((1e-3, -1.0),), 'beta of ipo_loss must be > 0, got -1.0'),
  'too many': (((1e-3, 0.1, 0.2),), '2 numbers beside the learning rate'),
  'unknown': (((1e-3, {'tau': 0.1}),), 'ipo_loss takes the numbers beta, got'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_settings_that_cannot_be_are_refused_with_their_arm(case):
  settings, words = REFUSED[case]
  with pytest.raises(errors.InputError, match=re.escape(words)) as refusal:
    grid.Arm('my_ipo', tiny.run(), settings)
  assert 'arm my_ipo' in str(refusal.value)


@pytest.mark.parametrize('scalars', [('tau',), ('beta', 'beta')])
def test_names_that_the_loss_does_not_take_are_refused(scalars):
  words = 'of the arm ipo need to be numbers of its loss, each once: beta; got'
  with pytest.raises(errors.InputError, match=words):
    grid.Arm('ipo', tiny.run(), SETTINGS, scalars=scalars)


@pytest.mark.parametrize('name', ['', 'On', 'a/b', 'sft', 'golden_policy'])
def test_names_that_cannot_be_or_are_taken_are_refused(name):
  with pytest.raises(errors.InputError, match='An arm is named'):
    grid.Arm(name, tiny.run(), SETTINGS)


def test_a_number_for_a_loss_without_one_is_refused():
  with pytest.raises(errors.InputError, match='arm best: 1 numbers.*none'):
    grid.Arm('best', BEST, SETTINGS)


def test_an_arm_that_samples_takes_no_responses():
  stream = grid.StreamOf(grid.RunOf('other', (1e-3, 0.1)))
  with pytest.raises(errors.InputError, match='needs the prompts of D_golden'):
    grid.Arm('ipo', tiny.run(tiny.ONLINE), SETTINGS, pairs=stream)


@pytest.mark.parametrize(
  ('arm', 'setting'), [('ipo', None), ('sft', (1e-3, 0.1))]
)
def test_a_run_is_named_by_arm_and_setting_and_sft_by_itself(arm, setting):
  assert grid.RunOf('sft').setting is None
  with pytest.raises(errors.InputError, match='A run is named by'):
    grid.RunOf(arm, setting)


def test_a_size_gives_its_model_to_the_runs_of_its_arms_and_to_its_sft():
  wide = dataclasses.replace(tiny.CONFIG, mlp_dim=2 * tiny.CONFIG.mlp_dim)
  model = dataclasses.replace(tiny.POLICY, language_model=t5.T5(wide))
  size = grid.PolicySize('wide', tiny.run(), model=model)
  arm = grid.Arm('wide', tiny.run(), SETTINGS, size=size)
  assert size.sft.model == model
  assert {each.run.model for each in arm.runs(0)} == {arm.run.model} == {model}
  # One whose SFT run has its model already needs no other word.
  assert grid.PolicySize('wide', tiny.run(model=model)) == size
