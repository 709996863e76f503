"""The programs of configs/paper, lowered and exported for TPUs from shapes.

Full width, two layers of each stack: layers are alike, and all 24 take ten
times as long to lower and show nothing more.
"""

import dataclasses
import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap import costs, memory, optimizers, partitioning
from dap.commands import COMMANDS, run
from dap.evaluation import programs
from dap.models.heads import JointPreferenceModel
from dap.records import RoleParams
from dap.study import design
from dap.study.design import grid
from dap.training import rollouts, steps

MESH = partitioning.mesh((2, 2))
LARGE, XL, XXL = 783_150_080, 2_849_757_184, 11_135_332_352
CONFIGS = sorted(
  (pathlib.Path(__file__).parents[1] / 'configs' / 'paper').glob('*.gin')
)


@functools.cache
def study(name='all', **overrides) -> design.Study:
  """The study of a config, whose files are not there."""
  return run.configure(
    COMMANDS['study'],
    [f'configs/paper/{name}.gin'],
    list(overrides.items()),
    COMMANDS,
    stand_ins=list,
  )['study']


def trainings():
  """All trainings of the study by name."""
  whole = study()
  return {
    'golden': whole.golden,
    'sft': whole.sft,
    'proxy': whole.proxy,
    'golden_policy': whole.golden_policy,
    **{f'sft_{size.name}': size.sft for size in whole.sizes},
    **{name: arm.run for name, arm in whole.arms.items()},
  }


def shallow(model):
  language_model = model.language_model.with_depth((2, 2))
  return dataclasses.replace(model, language_model=language_model)


def shapes(model):
  return jax.eval_shape(model.init, jax.random.key(0))


def exported(program, *arguments):
  """Its export for TPUs; four devices wide, as the mesh is."""
  made = jax.export.export(program, platforms=['tpu'])(*arguments)
  assert made.platforms == ('tpu',) and made.nr_devices == 4
  return made


def texts(rows):
  """(prompts, pairs of responses), shapes of token ids."""
  return (
    jax.ShapeDtypeStruct((rows, 1024), jnp.int32),
    jax.ShapeDtypeStruct((rows, 2, 128), jnp.int32),
  )


UPDATES = (
  'golden', 'sft_xxl', 'online_ipo', 'offline_ipo_xxl', 'offline_best_of_two',
)  # fmt: skip


@pytest.mark.parametrize('name', UPDATES)
def test_updates_are_split_over_the_mesh_and_export_for_tpus(name):
  whole = trainings()[name]
  training = dataclasses.replace(whole, model=shallow(whole.model))
  objective, optimizer = training.objective, training.optimizer
  state = jax.eval_shape(
    lambda tree: steps.new_learner(tree, optimizer), shapes(training.model)
  )
  assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {
    jnp.dtype('float32')
  }
  placed = steps.learner_sharding(training.model, optimizer, MESH)
  jax.tree.map(check_split, state.params, placed.params)
  program = steps.update_program(
    objective, optimizer, MESH, training.num_microbatches
  )
  batch = costs.abstract_batch(training, training.batch_size, 1024, 128)
  made = exported(program, state, batch, training.scalars(0))
  # Matmuls of activations are in bfloat16, the state stays float32.
  assert 'bf16' in made.mlir_module()
  assert jnp.dtype('bfloat16') not in {leaf.dtype for leaf in made.out_avals}


def check_split(leaf, sharding):
  if leaf.size >= 1 << 20:
    assert math.prod(sharding.shard_shape(leaf.shape)) == leaf.size // 2


@pytest.mark.parametrize(
  'name', ['golden_policy', 'online_ipo', 'online_ipo_xl', 'online_ipo_xxl']
)
def test_rollouts_export_for_tpus(name):
  training = trainings()[name]
  slots = training.algorithm
  policy, judge = shallow(training.model), shallow(slots.annotator.model)
  annotator = dataclasses.replace(slots.annotator, model=judge)
  program = rollouts.compile_one(
    rollouts.rollout,
    rollouts.shape_of(policy, dataclasses.replace(slots, annotator=annotator)),
    ('policy', 'reference', 'annotator'),
    ('rows', 'shared', 'shared'),
    MESH,
  )
  rows = training.batch_size
  prompts = costs.abstract_batch(training, rows, 1024, 128).prompts
  params, key = shapes(policy), jax.random.key(0)
  given = RoleParams(params, reference=params, annotator=shapes(judge))
  made = exported(program, given, prompts, key, np.int32(0))
  shapes_of = [leaf.shape for leaf in made.out_avals]
  assert (rows, 2, 128) in shapes_of and (rows, 2) in shapes_of


@pytest.mark.parametrize('name', ['sft', 'sft_xl', 'sft_xxl'])
def test_scores_answers_and_kl_of_policies_export_for_tpus(name):
  policy, rows = shallow(trainings()[name].model), 8
  params, tokens, responses = shapes(policy), *texts(rows)
  exported(steps.log_probs_program(policy, MESH), params, tokens, responses)
  one = jax.ShapeDtypeStruct((rows, 128), jnp.int32)
  exported(programs.kl_program(policy, MESH), params, params, tokens, one)
  settings = study().evaluation
  answer = programs.answer_program(policy, 128, settings.choose, MESH)
  ids = jax.ShapeDtypeStruct((rows,), jnp.int32)
  made = exported(answer, params, tokens, ids, ids, jax.random.key(0))
  assert made.out_avals[0].shape == (rows, 128)


@pytest.mark.parametrize('name', ['golden', 'proxy'])
def test_preference_models_export_for_tpus(name):
  model = shallow(trainings()[name].model)
  assert isinstance(model, JointPreferenceModel)
  one = jax.ShapeDtypeStruct((8, 128), jnp.int32)
  tokens, _ = texts(8)
  exported(programs.judge_program(model, MESH), shapes(model), tokens, one, one)


def test_sizes_and_numbers_are_the_papers():
  whole, found = study(), trainings()
  sizes = {name: costs.num_parameters(each.model) for name, each in
           found.items()}  # fmt: skip
  assert sizes['golden'] == sizes['sft_xxl'] == XXL
  assert sizes['sft_xl'] == sizes['online_ipo_xl'] == XL
  assert {sizes[n] for n in ('sft', 'proxy', 'online_ipo')} == {LARGE}
  numbers = {
    name: (each.num_steps, each.batch_size, each.learning_rate)
    for name, each in found.items()
    if name in ('sft', 'sft_xl', 'sft_xxl', 'golden_policy')
  }
  # Batches of 128, 16 and 8 targets: two to a pair.
  assert numbers == {
    'sft': (4000, 64, 3e-5),
    'sft_xl': (8000, 8, 1e-5),
    'sft_xxl': (8000, 4, 1e-5),
    'golden_policy': (4000, 32, 1e-5),
  }
  assert (found['golden'].batch_size, found['proxy'].batch_size) == (16, 32)
  for name in ('golden', 'proxy'):
    assert found[name].learning_rate == 1e-4
    assert found[name].schedule == optimizers.Constant(1000)
  online, offline = (whole.arms[f'{name}_ipo'] for name in
                     ('online', 'offline'))  # fmt: skip
  assert online.settings == ((1e-5, 0.1),)
  assert (online.run.num_steps, online.run.batch_size) == (4000, 32)
  assert set(offline.settings) == {
    (rate, beta) for rate in (3e-6, 1e-5, 3e-5) for beta in (0.1, 0.5, 1.0)
  }
  assert offline.run.num_steps == 20000 and 4000 in offline.run.save_steps
  assert (whole.data.prompt_length, whole.data.response_length) == (1024, 128)
  assert whole.evaluation.num_prompts == 2048
  assert whole.evaluation.num_kl_prompts == 256
  orders = {
    name: arm.run.algorithm.source.order
    for name, arm in whole.arms.items()
    if name.startswith(('window', 'batches'))
  }
  assert {name: order.batches for name, order in orders.items()} == {
    'window_4_ipo': 4, 'window_500_ipo': 500, 'batches_500_ipo': 500,
  }  # fmt: skip
  early = whole.arms['sft_early_ipo'].pairs
  assert isinstance(early, grid.SampledPairs) and early.second.step == 800


@pytest.mark.parametrize('name', ['golden', 'online_ipo', 'online_ipo_xxl'])
def test_the_largest_trainings_fit_eight_devices_of_80_gb(name):
  needed = memory.estimate(trainings()[name], (1, 8), 1024, 128)
  assert 5e9 < needed.total < 70e9


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_short_and_resolves(path):
  assert len(path.read_text().splitlines()) <= 25
  found = study(path.stem, MESH='(1, 8)')
  assert found.mesh == (1, 8)
  for start in (found.golden_start, found.sft_start, found.proxy_start):
    assert start is not None and start.path.startswith('<')
