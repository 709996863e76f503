"""Who starts where, and who writes what, in rounds of arms."""

import pytest
import tiny

from dap.errors import InputError
from dap.study.design import choices, recipes
from dap.study.design.grid import RunOf

SETTING = (1e-3, 0.1)
SFT = RunOf('sft')


@pytest.fixture(scope='module')
def run():
  return tiny.run()


def test_spin_has_the_data_against_the_last_two_writers(run):
  made = recipes.ranked(
    'spin', run, SETTING, num_samples=1, writers=recipes.newest_two,
    choice=choices.DataOverSamples(),
  )  # fmt: skip
  first, second = (RunOf(f'spin_{i}', SETTING) for i in (1, 2))
  assert [arm.start for arm in made] == [None, first, second]
  writers = [arm.pairs.writers for arm in made]
  assert writers == [(SFT,), (SFT, first), (first, second)]


def test_one_grow_is_filtered_step_by_step(run):
  made = recipes.grow_improve(
    'rest', run, (SETTING, (5e-4, 0.1)), (0.5, 0.7), num_grows=2
  )
  assert [arm.name for arm in made] == [
    'rest_1_1', 'rest_1_2', 'rest_2_1', 'rest_2_2',
  ]  # fmt: skip
  ends = [RunOf(arm.name, arm.settings[0]) for arm in made]
  assert [arm.start for arm in made] == [None, *ends[:3]]
  # A grow is written by the end of the grow before it, not of the step.
  grown = [arm.pairs.writers for arm in made]
  assert grown == [(SFT,), (SFT,), (ends[1],), (ends[1],)]
  assert [arm.pairs.choice.share for arm in made] == [0.5, 0.7] * 2


@pytest.mark.parametrize(
  ('settings', 'shares'),
  [((SETTING,), ()), ((SETTING,) * 2, (0.7, 0.5)), ((SETTING,), (0.5, 0.7))],
)
def test_improve_steps_without_an_order_are_refused(run, settings, shares):
  with pytest.raises(InputError, match='ascending shares'):
    recipes.grow_improve('rest', run, settings, shares)


def test_a_choice_says_how_many_samples_it_needs(run):
  with pytest.raises(InputError, match='BestAndWorst needs 2 responses'):
    recipes.ranked('dpo', run, SETTING, num_samples=1)
