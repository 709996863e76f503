"""No training of any configuration that is shipped can lose much of its work.

How long a training takes depends on the machine; what may be lost of it is held
for every length from a second to a fortnight.
"""

import functools
import pathlib

import pytest

from dap.commands import COMMANDS, run
from dap.training.pace import Bounds, Pace

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = [
  path
  for folder in ('embedded', 'studies', 'paper')
  for path in sorted((ROOT / 'configs' / folder).glob('*.gin'))
]
GIVEN = ('MODEL_DIR', 'INITIAL_CHECKPOINT_PATH', 'ANNOTATOR_CHECKPOINT_PATH')
NUM_GIVEN = {'sft': 1, 'preference_model': 1}
LENGTHS = (1.0, 30.0, 600.0, 3600.0, 86400.0, 14 * 86400.0)  # seconds


def trainings(path):
  """All runs of a configuration by their names."""
  if path.parent.name == 'embedded':
    asks = 'annotators/' in path.read_text() or path.stem == 'online_ipo'
    given = GIVEN[: NUM_GIVEN.get(path.stem, 3 if asks else 2)]
    macros = [(name, "'nowhere'") for name in given]
    given = run.configure(COMMANDS['train'], [str(path)], macros, COMMANDS)
    return {path.stem: given['run']}
  study = run.configure(
    COMMANDS['study'], [str(path)], [], COMMANDS, stand_ins=list
  )['study']
  return {
    'golden': study.golden,
    'sft': study.sft,
    'proxy': study.proxy,
    'golden_policy': study.golden_policy,
    **{f'sft_{size.name}': size.sft for size in study.sizes},
    **{name: arm.run for name, arm in study.arms.items()},
  }


@functools.cache
def most_lost(num_steps, save_steps, whole):
  """Seconds of the longest work that no point holds, of `whole` in all."""
  each, now, kept, worst = whole / num_steps, 0.0, 0.0, 0.0
  pace = Pace(Bounds(), lambda: now)
  for done in range(1, num_steps + 1):
    now = done * each
    worst = max(worst, now - kept)
    if done in save_steps or pace.due(done, num_steps):
      pace.begin(done)
      kept = now
  return worst


@pytest.mark.parametrize(
  'path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}'
)
def test_a_kill_loses_a_twentieth_or_a_minute_and_never_ten(path):
  shapes = {(r.num_steps, r.save_steps) for r in trainings(path).values()}
  assert shapes
  for num_steps, save_steps in shapes:
    for whole in LENGTHS:
      lost = most_lost(num_steps, save_steps, whole)
      step = whole / num_steps
      assert lost <= max(600.0, step) * (1 + 1e-9)
      assert lost <= max(60.0, whole / 20, step) * (1 + 1e-9)
