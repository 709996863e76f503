import dataclasses

import jax
import numpy as np
import pytest
import tiny

from dap import costs, memory, optimizers, partitioning
from dap.algorithms import algorithm, refresh, samplers
from dap.annotators import models
from dap.errors import InputError
from dap.models import heads, t5
from dap.models.policy import Policy
from dap.records import RoleParams
from dap.training import rollouts, steps

PROMPT, LENGTH = 64, 32
# Wide enough that kernels and activations, not small change, take the room.
CONFIG = t5.T5Config(1024, 128, 2, 64, 256, 2, 1)
T5 = t5.T5(CONFIG)
POLICY = Policy(T5, 1000)
JUDGE = heads.JointPreferenceModel(T5, 128, (1001,), (1002,), 1003, 1004)
ONLINE = algorithm.Algorithm(
  tiny.ipo(0.1),
  sampler=samplers.FromPolicy(LENGTH),
  annotator=models.PreferenceAnnotator(JUDGE),
)


def run(which=ONLINE, model=POLICY, **changes):
  made = tiny.run(which, model, batch_size=16, **changes)
  return dataclasses.replace(made, optimizer=optimizers.Adafactor())


def estimate(training, mesh=(1, 1)):
  return memory.estimate(training, mesh, PROMPT, LENGTH)


def size(tree):
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(('mesh', 'parts'), [((1, 1), 1), ((2, 2), 2)])
def test_the_update_needs_about_what_xla_says(mesh, parts):
  training = run(num_microbatches=parts)
  compiled = costs.compiled_update(
    training, partitioning.mesh(mesh), PROMPT, LENGTH
  )
  found, told = estimate(training, mesh), compiled.memory_analysis()
  assert told.temp_size_in_bytes * 0.6 < found.update
  assert found.update < told.temp_size_in_bytes * 2
  assert found.state == pytest.approx(told.argument_size_in_bytes, rel=0.05)


def test_the_rollout_needs_about_what_xla_says():
  params, judge = (
    jax.eval_shape(model.init, jax.random.key(0)) for model in (POLICY, JUDGE)
  )
  program = rollouts.compile_one(
    rollouts.rollout,
    rollouts.shape_of(POLICY, ONLINE),
    ('policy', 'reference', 'annotator'),
    ('rows', 'shared', 'shared'),
    partitioning.mesh((1, 1)),
  )
  prompts = costs.abstract_batch(run(), 16, PROMPT, LENGTH).prompts
  given = RoleParams(params, reference=params, annotator=judge)
  told = (
    program.lower(given, prompts, jax.random.key(0), np.int32(0))
    .compile()
    .memory_analysis()
    .temp_size_in_bytes
  )
  assert told * 0.4 < estimate(run()).rollout < told * 2.5


def test_state_and_held_parameters_are_counted_by_hand():
  found = estimate(run())
  params = jax.eval_shape(POLICY.init, jax.random.key(0))
  judge = jax.eval_shape(JUDGE.init, jax.random.key(0))
  state = jax.eval_shape(
    lambda tree: steps.new_learner(tree, optimizers.Adafactor()), params
  )
  assert found.state == size(state)
  assert found.held == size(params) + size(judge)
  assert found.total == found.state + found.held + max(
    found.update, found.rollout
  )


def test_a_model_axis_splits_parameters_and_a_data_axis_rows():
  whole, rows, widths = (estimate(run(), m) for m in ((1, 1), (4, 1), (1, 2)))
  assert rows.state == whole.state
  assert widths.state == pytest.approx(whole.state / 2, rel=0.02)
  assert whole.rollout / 4 <= rows.rollout < whole.rollout / 2
  assert whole.update / 4 < rows.update < whole.update / 2


def test_deeper_models_keep_what_each_layer_keeps():
  def kept(**layers):
    model = t5.T5(dataclasses.replace(CONFIG, **layers))
    return np.array(memory.saved(run(model=Policy(model)), PROMPT, LENGTH))

  three, four, five = (kept(num_encoder_layers=n) for n in (3, 4, 5))
  np.testing.assert_allclose(five - four, four - three)
  # And so jax says of a whole model.
  deep = run(model=Policy(T5.with_depth((2, 3))))
  whole = memory._saved_at(deep, (2, 3), PROMPT, LENGTH)
  np.testing.assert_allclose(memory.saved(deep, PROMPT, LENGTH), whole)


def test_a_policy_that_answers_for_many_steps_is_held_beside():
  stale = dataclasses.replace(ONLINE, behaviour=refresh.Every(10))
  params = size(jax.eval_shape(POLICY.init, jax.random.key(0)))
  assert estimate(run(stale)).held - estimate(run()).held == params


def test_a_mesh_that_does_not_divide_a_model_is_refused():
  with pytest.raises(InputError, match='divisible by the 5 devices'):
    estimate(run(), (1, 5))
