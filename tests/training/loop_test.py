import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny

from dap import errors, losses, partitioning, train
from dap.algorithms import algorithm, refresh, samplers, sources, views
from dap.algorithms.objectives import Loss
from dap.checkpoints import points
from dap.data import arrays
from dap.training import rollouts, steps, stream

START = tiny.POLICY.init(jax.random.key(1))
PARAMS = train.Params(START, START, tiny.JUDGE.init(jax.random.key(2)))
PAIRS = tiny.pairs()


class Killed(Exception):
  pass


def equal(first, second):
  leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
  return all(np.array_equal(a, b) for a, b in leaves)


def lines(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def kill_at(step):
  def hook(done, params):
    if done == step:
      raise Killed

  return hook


STALE = dataclasses.replace(tiny.ONLINE, behaviour=refresh.Every(4))


@pytest.mark.parametrize(
  'which', [tiny.OFFLINE, tiny.ONLINE, STALE], ids=['off', 'on', 'stale']
)
def test_a_killed_run_ends_as_if_it_had_not_been_killed(tmp_path, which):
  run = tiny.run(which, save_steps=(5, 9))
  whole = train.fit(run, PAIRS, PARAMS, tmp_path / 'a', record_stream=True)
  for step in (5, 9):
    with pytest.raises(Killed):
      train.fit(
        run,
        PAIRS,
        PARAMS,
        tmp_path / 'b',
        record_stream=True,
        on_checkpoint=kill_at(step),
      )
    # What a process wrote after its last checkpoint is trained again.
    with open(tmp_path / 'b' / 'metrics.jsonl', 'a') as file:
      file.write('{"step": 999, "loss": 0.0}\n')
    if which.sampler is not None:
      with open(tmp_path / 'b' / 'stream' / 'records.bin', 'ab') as file:
        file.write(b'half a record')
  again = train.fit(run, PAIRS, PARAMS, tmp_path / 'b', record_stream=True)
  assert equal(whole, again)
  assert lines(tmp_path / 'a') == lines(tmp_path / 'b')
  if which.sampler is not None:
    one, other = (tmp_path / x / 'stream' / 'records.bin' for x in 'ab')
    assert one.read_bytes() == other.read_bytes()


def test_offline_training_on_the_unshuffled_stream_repeats_the_online_run(
  tmp_path,
):
  online = tiny.run(tiny.ONLINE, log_every=1)
  first = train.fit(online, PAIRS, PARAMS, tmp_path / 'on', record_stream=True)
  recorded = stream.read(tmp_path / 'on' / 'stream')
  replay = dataclasses.replace(
    tiny.OFFLINE, source=sources.FromDataset(arrays.in_order)
  )
  run = dataclasses.replace(online, algorithm=replay)
  second = train.fit(run, recorded, PARAMS, tmp_path / 'off')
  assert equal(first, second)
  assert lines(tmp_path / 'on') == lines(tmp_path / 'off')
  shuffled = dataclasses.replace(
    replay, source=sources.FromDataset(sources.ShuffledWindows(4))
  )
  run = dataclasses.replace(online, algorithm=shuffled)
  third = train.fit(run, recorded, PARAMS, tmp_path / 'shuffled')
  assert not equal(first, third)


def test_shuffled_windows_hold_the_same_examples():
  order = sources.ShuffledWindows(3)
  rows = np.concatenate([order(40, 5, 7, step) for step in range(8)])
  assert sorted(rows) == list(range(40))
  assert sorted(rows[:15]) == list(range(15))  # a window of 3 batches of 5
  assert list(rows[:15]) != list(range(15))
  odd = [order(37, 5, 7, step) for step in range(37)]  # 5 epochs of 37
  assert {len(batch) for batch in odd} == {5}
  np.testing.assert_array_equal(np.bincount(np.concatenate(odd)), 5)


@pytest.mark.parametrize('change', ['token', 'batch', 'cut'])
def test_a_stream_that_was_changed_is_not_trained_on(tmp_path, change):
  run = tiny.run(tiny.ONLINE, num_steps=3)
  train.fit(run, PAIRS, PARAMS, tmp_path, record_stream=True)
  path = tmp_path / 'stream' / 'records.bin'
  data = path.read_bytes()
  size = len(data) // 3
  changed = {
    'token': data[:40] + bytes([data[40] ^ 1]) + data[41:],
    'batch': data[:size] + data[2 * size :],
    'cut': data[:-5],
  }
  path.write_bytes(changed[change])
  with pytest.raises(errors.InputError, match='batch .* changed, missing'):
    stream.read(tmp_path / 'stream')


def test_a_stream_records_what_the_annotator_said(tmp_path):
  run = tiny.run(tiny.ONLINE, num_steps=3)
  train.fit(run, PAIRS, PARAMS, tmp_path, record_stream=True)
  rows = stream.read_rows(tmp_path / 'stream')
  assert len(rows) == 3 * run.batch_size
  chosen, rejected = rows['scores'].T
  assert np.all(chosen >= rejected) and np.any(chosen > rejected)
  assert {*np.sort(rows['candidates']).reshape(-1).tolist()} == {0, 1}
  np.testing.assert_array_equal(
    rows['sampled_tokens'], np.sum(rows['responses'] > 0, axis=(1, 2))
  )
  # A response ends once, and padding follows its end.
  for tokens in rows['chosen']:
    real = tokens[tokens > 0]
    assert np.sum(real == 1) <= 1
    assert np.all(tokens[len(real) :] == 0)


def test_one_compilation_serves_a_grid_of_rates_and_betas(tmp_path):
  mesh = partitioning.mesh((1, 1))
  for index, (rate, beta) in enumerate([(1e-2, 0.1), (1e-3, 0.7)]):
    chosen = dataclasses.replace(tiny.ONLINE, loss=tiny.ipo(beta))
    for which in (chosen, algorithm.Algorithm(tiny.ipo(beta))):
      name = f'{index}{which.sampler is not None}'
      run = tiny.run(which, learning_rate=rate, num_steps=2)
      train.fit(run, PAIRS, PARAMS, tmp_path / name)
  update = steps.update_program(run.objective, run.optimizer, mesh, 1)
  rollout = rollouts.compile_one(
    rollouts.rollout,
    rollouts.shape_of(tiny.POLICY, tiny.ONLINE),
    ('policy', 'reference', 'annotator'),
    ('rows', 'shared', 'shared'),
    mesh,
  )
  assert update._cache_size() == 1
  assert rollout._cache_size() == 1


def test_training_starts_from_the_loss_at_the_reference(tmp_path):
  run = tiny.run(num_steps=1, log_every=1)
  train.fit(run, PAIRS, PARAMS, tmp_path)
  (line,) = lines(tmp_path)
  assert line['loss'] == pytest.approx(0.25, abs=1e-6)  # form B, margin 0
  assert line['margin'] == pytest.approx(0, abs=1e-5)


def test_microbatches_change_rounding_alone(tmp_path):
  one = train.fit(tiny.run(), PAIRS, PARAMS, tmp_path / '1')
  four = train.fit(tiny.run(num_microbatches=4), PAIRS, PARAMS, tmp_path / '4')
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), one, four
  )


def test_rows_of_weight_0_do_not_count(tmp_path):
  weight = np.tile([1.0, 0.0], 32).astype(np.float32)
  junk = tiny.pairs(seed=5)
  mixed = dataclasses.replace(
    PAIRS,
    chosen=np.where(weight[:, None] > 0, PAIRS.chosen, junk.chosen),
    weight=weight,
  )
  clean = dataclasses.replace(PAIRS, weight=weight)
  run = tiny.run(num_steps=3)
  first = train.fit(run, mixed, PARAMS, tmp_path / 'mixed')
  second = train.fit(run, clean, PARAMS, tmp_path / 'clean')
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    first.params,
    second.params,
  )


@pytest.mark.parametrize('shape', [(4, 1), (2, 2)])
def test_a_mesh_changes_rounding_alone(tmp_path, shape):
  mesh = partitioning.mesh(shape)
  run = tiny.run(num_steps=20, learning_rate=1e-3)
  one = train.fit(run, PAIRS, PARAMS, tmp_path / 'one')
  many = train.fit(run, PAIRS, PARAMS, tmp_path / 'many', mesh=mesh)
  kernel = many.params['encoder']['layers_0']['mlp']['wi_0']['kernel']
  assert kernel.addressable_shards[0].data.shape == (16, 32 // shape[1])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    one.params,
    jax.device_get(many.params),
  )


@pytest.mark.parametrize('shape', [(4, 1), (2, 2)])
def test_the_first_rollout_does_not_depend_on_the_mesh(tmp_path, shape):
  run = tiny.run(tiny.ONLINE, num_steps=1)
  rows = {}
  for name, mesh in (('one', (1, 1)), ('many', shape)):
    folder = tmp_path / name
    train.fit(
      run,
      PAIRS,
      PARAMS,
      folder,
      mesh=partitioning.mesh(mesh),
      record_stream=True,
    )
    rows[name] = stream.read_rows(folder / 'stream')
  for field in ('prompt', 'chosen', 'rejected'):
    np.testing.assert_array_equal(rows['one'][field], rows['many'][field])


def test_a_batch_that_the_mesh_cannot_split_is_refused(tmp_path):
  run = tiny.run(batch_size=6)
  with pytest.raises(errors.InputError, match='divisible by the 4 devices'):
    train.fit(run, PAIRS, PARAMS, tmp_path, mesh=partitioning.mesh((4, 1)))
  assert not list(tmp_path.iterdir())


def test_more_rows_than_examples_are_refused(tmp_path):
  with pytest.raises(errors.InputError, match='data set has 64'):
    train.fit(tiny.run(batch_size=65), PAIRS, PARAMS, tmp_path)


def test_the_checkpoint_of_another_configuration_is_refused(tmp_path):
  run = tiny.run(num_steps=2)
  train.fit(run, PAIRS, PARAMS, tmp_path, digest='one')
  with pytest.raises(errors.InputError, match='another configuration'):
    train.fit(run, PAIRS, PARAMS, tmp_path, digest='other')


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
  broken = jax.tree.map(lambda leaf: leaf * np.nan, START)
  with pytest.raises(errors.InputError, match='finite numbers; at step 2'):
    train.fit(tiny.run(), PAIRS, train.Params(broken, START), tmp_path)


def test_a_loss_without_its_reference_is_refused(tmp_path):
  with pytest.raises(errors.InputError, match='needs a reference policy'):
    train.fit(tiny.run(), PAIRS, train.Params(START), tmp_path)


def test_older_checkpoints_keep_their_parameters_alone(tmp_path):
  train.fit(tiny.run(save_steps=(3, 6)), PAIRS, PARAMS, tmp_path)
  root = tmp_path / 'checkpoints'
  assert points.steps(root) == [3, 6, 12]
  assert points.restartable(root)[0].name == 'checkpoint_12'
  assert not (root / 'checkpoint_3' / 'rest').exists()
  assert (root / 'checkpoint_3' / 'params').is_dir()


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'num_steps': 0}, 'num_steps >= 1'),
    ({'learning_rate': 0.0}, 'learning_rate > 0'),
    ({'num_microbatches': 3}, 'divisible'),
  ],
)
def test_a_run_refuses_numbers_out_of_range(change, words):
  with pytest.raises(errors.InputError, match=words):
    tiny.run(**change)


def test_sampling_without_an_annotator_is_refused():
  with pytest.raises(errors.InputError, match='needs an annotator'):
    algorithm.Algorithm(tiny.ipo(0.1), sampler=samplers.FromPolicy(4))


def test_supervised_training_learns_a_constant_answer(tmp_path):
  answer = np.tile([5, 9, 1, 0, 0], (64, 1)).astype(np.int32)
  same = dataclasses.replace(PAIRS, chosen=answer, rejected=answer)
  which = algorithm.Algorithm(Loss(losses.supervised_loss, view=views.Tokens()))
  run = tiny.run(which, num_steps=150, log_every=150)
  train.fit(run, same, train.Params(START), tmp_path)
  assert lines(tmp_path)[-1]['loss'] < 0.1


def test_a_preference_model_learns_a_token_that_decides(tmp_path):
  marked = PAIRS.chosen.copy()
  marked[:, 0] = 4
  pairs = dataclasses.replace(
    PAIRS,
    chosen=marked,
    rejected=np.where(PAIRS.rejected == 4, 5, PAIRS.rejected),
  )
  which = algorithm.Algorithm(
    Loss(losses.pairwise_preference_loss, view=views.comparisons)
  )
  run = tiny.run(which, tiny.JUDGE, num_steps=150, log_every=150)
  train.fit(run, pairs, train.Params(PARAMS.annotator), tmp_path)
  assert lines(tmp_path)[-1]['accuracy'] > 0.95
