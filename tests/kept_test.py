import dataclasses

import algorithm_laws as laws
import pytest
import tiny

from dap import kept, memory
from dap.losses import heads as losses
from dap.models import heads, t5
from dap.models.policy import Policy

PROMPT, LENGTH = 44, 20
# No two sizes alike, so that an axis is known by its width.
CONFIG = t5.T5Config(1000, 28, 3, 10, 70, 2, 3)
T5 = t5.T5(CONFIG)
JOINT = heads.JointPreferenceModel(T5, 52, (1001,), (1002,), 1003, 1004)
JUDGE, SUPERVISED = tiny.COMPARED, tiny.SUPERVISED
TRAININGS = {
  'pairs': (tiny.OFFLINE, Policy(T5)),
  'supervised': (SUPERVISED, Policy(T5)),
  'joint': (JUDGE, JOINT),
  'pointwise': (JUDGE, heads.PointwisePreferenceModel(T5)),
  'pooled': (
    JUDGE,
    heads.PointwisePreferenceModel(T5, heads.PooledScore()),
  ),
}


def total(saved, rows=8):
  return saved.fixed + rows * (saved.row + saved.wide)


def of_config(run, **changes):
  config = dataclasses.replace(run.model.language_model.config, **changes)
  model = run.model.with_language_model(t5.T5(config))
  return dataclasses.replace(run, model=model)


@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    *((name, {}) for name in TRAININGS),
    ('pairs', {'dtype': 'bfloat16'}),
    ('joint', {'mlp_activations': ('relu',)}),
  ],
  ids=str,
)
def test_a_gradient_keeps_about_what_jax_says(name, changes):
  run = of_config(tiny.run(*TRAININGS[name]), **changes)
  told = memory.traced(run, PROMPT, LENGTH)
  counted = kept.counted(run, PROMPT, LENGTH)
  assert total(counted) == pytest.approx(total(told), rel=0.06)
  assert counted.fixed == pytest.approx(told.fixed, rel=0.1)
  assert counted.wide == pytest.approx(told.wide, rel=0.02)


@pytest.mark.parametrize('config', ['rloo', 'grpo', 'ppo', 'best_of_four'])
def test_a_group_of_any_size_in_minibatches_keeps_about_what_jax_says(config):
  run = laws.run_of(config)
  run = dataclasses.replace(run, model=run.model.with_language_model(T5))
  counted, told = (
    memory.estimate(run, (1, 1), PROMPT, LENGTH, keeps).update
    for keeps in (kept.counted, memory.traced)
  )
  assert counted == pytest.approx(told, rel=0.06)


def test_an_encoder_layer_is_counted_by_hand():
  run = tiny.run(*TRAININGS['pairs'])
  one, two = (
    kept.counted(of_config(run, num_encoder_layers=n), PROMPT, LENGTH)
    for n in (1, 2)
  )
  # Of 44 tokens: 8 arrays of 70, 5 of 30, and 3 heads of 44 scores; 10 of 28.
  assert two.row - one.row == 4 * 44 * (8 * 70 + 5 * 30 + 3 * 44)
  assert two.wide - one.wide == 4 * 44 * 10 * 28
  # Kernels: attention 4 x 28 x 30, MLP 3 x 28 x 70.
  assert two.fixed - one.fixed == 4 * (4 * 28 * 30 + 3 * 28 * 70)


def test_logits_that_are_computed_again_are_not_kept():
  run = tiny.run(*TRAININGS['pairs'])
  few, many = (
    dataclasses.replace(run, batch_size=rows)
    for rows in (1, 1 + losses.MAX_LOGITS // (2 * LENGTH * 1000))
  )
  rows = [kept.counted(each, PROMPT, LENGTH).row for each in (few, many)]
  assert rows[0] - rows[1] == 4 * 2 * LENGTH * 1000
