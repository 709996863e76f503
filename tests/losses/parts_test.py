"""Every part of gin/losses: one program serves a grid of its numbers."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import partitioning
from dap.algorithms import objectives
from dap.commands import COMMANDS
from dap.commands import run as commands
from dap.models.policy import Policy
from dap.records import PADDING, Outputs
from dap.training import steps

PARTS = sorted(path.stem for path in pathlib.Path('gin/losses').glob('*.gin'))
OTHERS = {
  'supervised': 'sft',
  'preference_model': 'preference_model',
  'soft_preference_model': 'preference_model',
  'margin_preference_model': 'preference_model',
}
REQUIRED = ('MODEL_DIR', 'INITIAL_CHECKPOINT_PATH')
GIVEN = {'slic': [('LIKELIHOOD_WEIGHT', '0.1')]}


class Table(Policy):
  """A number for each id says all that a model can say: it compiles at once."""

  def init(self, key):
    return {'nats': -jnp.exp(jax.random.normal(key, (tiny.VOCAB,)))}

  def logical_axes(self):
    return {'nats': ('vocab',)}

  def outputs(self, params, prompts, responses):
    tokens = responses.tokens
    nats = jnp.where(tokens == PADDING, 0, params['nats'][tokens])
    return Outputs(nats, nats, jnp.sum(nats, axis=2))


def loss_of(part):
  config = OTHERS.get(part, 'offline_ipo')
  return commands.configure(
    COMMANDS['train'],
    [f'configs/embedded/{config}.gin', f'gin/losses/{part}.gin'],
    [(name, "'nowhere'") for name in REQUIRED] + GIVEN.get(part, []),
    COMMANDS,
  )['run'].algorithm.loss


@pytest.mark.parametrize('part', PARTS)
def test_one_program_serves_a_grid(part):
  loss, mesh, model = loss_of(part), partitioning.mesh((1, 1)), Table(tiny.T5)
  grid = [loss] + [
    loss.with_numbers({name: value * share})
    for name, value in loss.numbers.items()
    for share in (0.5, 0.9)
  ]
  anchor = model.outputs(
    model.init(jax.random.key(1)),
    None,
    tiny.pairs().batch(np.arange(8)).responses,
  )
  batch = tiny.on_device(tiny.pairs().batch(np.arange(8)))
  votes = jnp.tile(jnp.array([[0.75, 0.25]]), (8, 1))
  columns = {
    'reference': anchor.log_probs,
    'shares': votes,
    'desirable': jnp.tile(jnp.array([[1.0, 0.0]]), (8, 1)),
    'anchor': jnp.full((8, 2), 0.1),
    'margins': jnp.full((8, 2), 0.3),
  }
  batch = batch._replace(columns=columns)
  told, programs = [], set()
  for rate in (1e-3, 1e-2):
    for each in grid:
      objective = objectives.LossObjective(model, each.function, each.view)
      update = steps.update_program(objective, tiny.ADAM, mesh)
      programs.add(update)
      learner = jax.device_put(
        steps.new_learner(model.init(jax.random.key(0)), tiny.ADAM),
        steps.learner_sharding(model, tiny.ADAM, mesh),
      )
      numbers = {'learning_rate': rate, **each.numbers}
      scalars = {name: np.float32(value) for name, value in numbers.items()}
      _, metrics = update(learner, batch, scalars)
      told.append(float(metrics['loss']))
  (program,) = programs
  assert program._cache_size() == 1
  # Its numbers are arguments: each gives a loss of its own, a rate does not.
  assert len(set(told[: len(grid)])) == len(grid)
  assert told[: len(grid)] == told[len(grid) :]


@pytest.mark.parametrize(
  'part', sorted(path.stem for path in pathlib.Path('gin/algorithms').glob('*'))
)
def test_every_algorithm_has_its_own_test_of_one_program(part):
  text = pathlib.Path(f'tests/algorithms/{part}_test.py').read_text()
  assert 'laws.one_program_serves(' in text
