"""Dropout acts in updates that compare with nothing said before, by a key."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import files, train
from dap.models import heads, t5
from dap.models.actor_critic import ActorCritic
from dap.models.policy import Policy
from dap.records import Batch, Prompts, Responses
from dap.training import steps

LANGUAGE_MODEL = t5.T5(dataclasses.replace(tiny.CONFIG, dropout_rate=0.4))
POLICY = Policy(LANGUAGE_MODEL, tiny.VOCAB)
JUDGE = heads.PointwisePreferenceModel(LANGUAGE_MODEL, heads.PooledScore(8))
MODELS = {
  'supervised': (tiny.SUPERVISED, POLICY),
  'pointwise': (tiny.COMPARED, JUDGE),
}


def batch() -> Batch:
  pairs = tiny.pairs(8)
  tokens = jnp.stack([pairs.chosen, pairs.rejected], axis=1)
  mask = (tokens > 0).astype(jnp.float32)
  return Batch(
    Prompts(jnp.asarray(pairs.prompt_ids), jnp.asarray(pairs.prompts)),
    Responses(tokens, mask, jnp.zeros_like(mask)),
    jnp.zeros((8, 2)),
    jnp.ones(8),
    {'reference': jnp.zeros_like(mask)},
  )


@functools.cache
def program(objective, num_microbatches=1):
  return jax.jit(steps.update_step(objective, tiny.ADAM, num_microbatches))


def updated(run, updates=0, given=None):
  """The learner after an update, and its metrics."""
  params = run.model.init(jax.random.key(1))
  learner = steps.new_learner(params, run.optimizer, updates)
  update = program(run.objective, run.num_microbatches)
  return update(learner, batch() if given is None else given, run.scalars(0))


@pytest.mark.parametrize('name', MODELS)
def test_an_update_drops_by_seed_and_update_and_repeats_itself(name):
  run = tiny.run(*MODELS[name])
  plain = run.model.with_language_model(tiny.T5)
  assert run.drops
  assert not tiny.run(run.algorithm, plain).drops
  (first, said), (again, _) = updated(run), updated(run)
  jax.tree.map(np.testing.assert_array_equal, first, again)
  others = [
    updated(run, updates=1)[1],
    updated(dataclasses.replace(run, seed=1))[1],
    updated(dataclasses.replace(run, model=plain))[1],
  ]
  assert len({float(each['loss']) for each in (said, *others)}) == 4


def test_microbatches_drop_other_values():
  run = tiny.run(*MODELS['supervised'])
  half = jax.tree.map(lambda x: x[:4], batch())
  twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), half)
  alone = updated(run, given=half)[1]
  split = updated(dataclasses.replace(run, num_microbatches=2), given=twice)[1]
  assert abs(alone['loss'] - split['loss']) > 1e-3


@pytest.mark.parametrize('model', [POLICY, ActorCritic(POLICY)])
def test_what_compares_with_a_reference_drops_nothing(model):
  run = tiny.run(tiny.OFFLINE, model)
  plain = dataclasses.replace(run, model=model.with_language_model(tiny.T5))
  assert not run.drops
  assert run.scalars(0) == plain.scalars(0)
  one, other = updated(run)[0], updated(plain)[0]
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_samples_and_scores_outside_updates_drop_nothing():
  pairs = tiny.pairs(8)
  params = JUDGE.init(jax.random.key(0))
  arrays = tiny.on_device((pairs.prompts, pairs.chosen, pairs.rejected))
  plain = JUDGE.with_language_model(tiny.T5)
  np.testing.assert_array_equal(
    JUDGE.log_odds(params, *arrays)[0], plain.log_odds(params, *arrays)[0]
  )


def test_a_training_that_was_stopped_drops_the_same_values(tmp_path):
  run = tiny.run(*MODELS['pointwise'], num_steps=4, log_every=1)
  short = dataclasses.replace(run, num_steps=2)
  params = train.Params(JUDGE.init(jax.random.key(1)))
  whole = train.fit(run, tiny.pairs(), params, tmp_path / 'whole')
  train.fit(short, tiny.pairs(), params, tmp_path / 'parts')
  parts = train.fit(run, tiny.pairs(), params, tmp_path / 'parts')
  jax.tree.map(np.testing.assert_array_equal, whole, parts)
  lines = files.read_json_lines(tmp_path / 'parts' / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [1, 2, 3, 4]
  assert not any('dropout' in line for line in lines)
