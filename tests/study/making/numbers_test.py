"""Grids of losses whose numbers have other names than beta."""

import jax
import pytest
import tiny
import tiny_study

from dap import files, losses, main, train
from dap.algorithms import algorithm
from dap.algorithms.objectives import Loss
from dap.commands import COMMANDS, run
from dap.study.design import grid
from dap.study.making import build


def study(loss, settings):
  """The tiny study under another loss."""
  part = f'--gin_file=gin/losses/{loss}.gin'
  words = tiny_study.argv('unused', part, SETTINGS=settings)
  given, overrides = main._take_overrides(words[1:])
  given = [word.removeprefix('--gin_file=') for word in given]
  return run.configure(COMMANDS['study'], given, overrides, COMMANDS)['study']


CASES = {
  'ipo_azar': (
    ((1e-2, 0.1), (1e-2, {'tau': 0.03})),
    ('lr0.01_tau0.1', 'lr0.01_tau0.03'),
  ),
  'cdpo': (
    ((1e-2, 0.1), (1e-2, 0.1, 0.2), (1e-2, {'label_smoothing': 0.3})),
    (
      'lr0.01_beta0.1',
      'lr0.01_beta0.1_label_smoothing0.2',
      'lr0.01_label_smoothing0.3',
    ),
  ),
}


@pytest.mark.parametrize('loss', CASES)
def test_arms_of_any_loss_have_stages_named_by_its_numbers(loss):
  settings, names = CASES[loss]
  tree = build.build(study(loss, settings), seed=3)
  for arm in ('online_ipo', 'offline_ipo'):
    for name in names:
      config = tree[f'run/{arm}_{name}'].config
      assert tree[f'evaluate/{arm}_{name}'].config.run == config.run
      assert config.run.algorithm.loss.function.__name__ == f'{loss}_loss'
    assert not {n for n in tree if n.startswith(f'run/{arm}_lr')} - {
      f'run/{arm}_{name}' for name in names
    }


def test_a_run_is_trained_with_its_own_number(tmp_path):
  which = algorithm.Algorithm(Loss(losses.ipo_azar_loss, {'tau': 1.0}))
  arm = grid.Arm('azar', tiny.run(which, num_steps=2, log_every=1),
                 ((1e-3, 0.1), (1e-3, {'tau': 0.5})))  # fmt: skip
  start = tiny.POLICY.init(jax.random.key(1))
  for each, tau in zip(arm.runs(seed=0), (0.1, 0.5)):
    folder = tmp_path / each.name
    train.fit(each.run, tiny.pairs(), train.Params(start, start), folder)
    first, *_ = files.read_json_lines(folder / 'metrics.jsonl')
    assert first['tau'] == pytest.approx(tau)
    # At the reference the margin is 0, its target 1 / (2 tau).
    assert first['loss'] == pytest.approx((1 / (2 * tau)) ** 2)
