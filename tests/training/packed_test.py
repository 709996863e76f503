import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import errors, partitioning, train
from dap.algorithms import rooms, samplers, sources
from dap.data import arrays
from dap.models import packing
from dap.records import Pair, RoleParams
from dap.training import packed, rollouts, stacks, steps, stream

START = tiny.POLICY.init(jax.random.key(1))
PARAMS = train.Params(START, START, tiny.JUDGE.init(jax.random.key(2)))
MESH = partitioning.mesh((1, 1))


def pairs():
  """As `tiny.pairs`, with prompts of 2 or 3 tokens of 6."""
  found = tiny.pairs()
  lengths = 2 + np.arange(len(found)) % 2
  prompts = np.where(np.arange(6) < lengths[:, None], found.prompts, 0)
  return dataclasses.replace(found, prompts=prompts.astype(np.int32))


PAIRS = pairs()
# A response in three ends before its last position: some batches are packed.
ONLINE = dataclasses.replace(tiny.ONLINE, sampler=samplers.FromPolicy(12))


class Neighbours:
  """Of three responses the first two and the last two, whatever they score."""

  reads_scores = False

  def __call__(self, responses, scores, keys):
    rows = jnp.broadcast_to(jnp.array([[0, 1], [1, 2]]), (len(scores), 2, 2))
    return rows, jnp.ones((len(scores), 2))


def fit(folder, which, examples=PAIRS, **changes):
  settings = {'rooms': rooms.Packed(4), 'log_every': 1, 'num_steps': 6}
  run = tiny.run(which, **settings | changes)
  return train.fit(run, examples, PARAMS, folder, record_stream=True)


def close(one, other, atol=2e-4):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, other
  )


def equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def lines(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A packed online run: its folder, and what it ends with."""
  folder = tmp_path_factory.mktemp('packed') / 'on'
  return folder, fit(folder, ONLINE)


def test_packing_changes_rounding_alone_offline(tmp_path):
  changes = {'num_steps': 4, 'num_microbatches': 2}
  packed = fit(tmp_path / 'packed', tiny.OFFLINE, **changes)
  padding = changes | {'rooms': rooms.Padded()}
  padded = fit(tmp_path / 'padded', tiny.OFFLINE, **padding)
  close(packed.params, padded.params)


def test_packing_changes_rounding_alone_online(whole, tmp_path):
  padded = fit(tmp_path / 'padded', ONLINE, rooms=rooms.Padded())
  close(whole[1].params, padded.params)


def test_a_packed_stream_repeats_its_run(whole, tmp_path):
  folder, first = whole
  replay = dataclasses.replace(
    tiny.OFFLINE, source=sources.FromDataset(arrays.in_order)
  )
  recorded = stream.read(folder / 'stream')
  second = fit(tmp_path / 'off', replay, recorded)
  equal(first, second)
  assert lines(folder) == lines(tmp_path / 'off')


def test_a_packed_run_that_was_cut_off_ends_as_if_it_had_not_been(
  whole, tmp_path
):
  folder, ended = whole
  fit(tmp_path / 'cut', ONLINE, num_steps=3)
  equal(ended, fit(tmp_path / 'cut', ONLINE))
  assert lines(folder) == lines(tmp_path / 'cut')


def test_prompts_that_have_several_examples_are_rolled_out_padded():
  run, made = tiny.run(ONLINE, rooms=rooms.Packed(4)), []

  def place(function, shape, given, arguments, mesh):
    made.append(packing.room_of(shape.model.language_model).prompts)
    return lambda *arguments: None

  one = rollouts.shape_of(run.model, run.algorithm)
  several = one._replace(
    sampler=samplers.FromPolicy(12, num_samples=3), pairing=Neighbours()
  )
  prompts = PAIRS.batch(np.arange(8)).prompts
  for shape in (one, several):
    program = packed.place(run, place)(rollouts.rollout, shape, (), (), MESH)
    program(RoleParams(None), prompts)
  assert made == [24, None]  # 20 tokens of 48 are real


def test_a_stack_is_packed_by_the_member_that_has_most(tmp_path):
  runs = {
    name: tiny.run(
      ONLINE, num_steps=3, learning_rate=rate, rooms=rooms.Packed(4)
    )
    for name, rate in (('a', 1e-3), ('b', 3e-2))
  }
  both = stacks.fit(runs, PAIRS, PARAMS, tmp_path / 'stack')
  for index, (name, run) in enumerate(runs.items()):
    alone = train.fit(run, PAIRS, PARAMS, tmp_path / name)
    close(stacks.member(both.params, index), alone.params)


def test_every_room_is_compiled_once_and_no_other(tmp_path):
  run, made = tiny.run(rooms=rooms.Packed(4)), []
  nothing = np.zeros((len(PAIRS), tiny.LENGTH), np.float32)
  known = PAIRS.with_reference(Pair(nothing, nothing))

  def make(objective):
    made.append(objective.model.language_model.room)
    return steps.update_program(objective, run.optimizer, MESH)

  update = packed.update(run, MESH, make)
  learner = steps.new_learner(START, run.optimizer)
  sharding = steps.learner_sharding(run.model, run.optimizer, MESH)
  learner = jax.device_put(jax.tree.map(np.array, learner), sharding)
  for start in (0, 8, 16, 0):
    batch = known.batch(np.arange(start, start + 8))
    learner, _ = update(learner, batch, run.scalars(0))
  # Of 48 positions of prompts 20 are real, of 80 of responses about 61.
  assert {room.prompts for room in made} == {24}
  assert {room.responses for room in made} == {60, None}
  assert len(made) == len({*made})
  for room in made:
    one = dataclasses.replace(run, model=tiny.POLICY.packed(room))
    program = steps.update_program(one.objective, run.optimizer, MESH)
    assert program._cache_size() == 1


def test_rows_that_lie_on_several_devices_are_not_packed(tmp_path):
  run = tiny.run(rooms=rooms.Packed(4))
  mesh = partitioning.mesh((2, 1))
  with pytest.raises(errors.InputError, match=r'padded\.gin'):
    train.fit(run, PAIRS, PARAMS, tmp_path, mesh=mesh)
