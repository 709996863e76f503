import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny

from dap import errors, losses, partitioning, train
from dap.algorithms import algorithm, refresh
from dap.algorithms.objectives import Loss
from dap.checkpoints import load, points
from dap.checkpoints import state as checkpoints
from dap.training import rollouts, stack_programs, stacks, stream
from dap.training.pace import Bounds, Pace

START = tiny.POLICY.init(jax.random.key(1))
PARAMS = train.Params(START, START, tiny.JUDGE.init(jax.random.key(2)))
PAIRS = tiny.pairs()
STALE = dataclasses.replace(tiny.ONLINE, behaviour=refresh.Every(4))
SETTINGS = {'a': (1e-3, 0.1), 'b': (2e-3, 0.1), 'c': (1e-3, 0.7)}
# A reference that follows each member: batches of data get its columns.
MOVING = dataclasses.replace(tiny.OFFLINE, reference=refresh.Ema(0.3))
KINDS = pytest.mark.parametrize(
  'which',
  [tiny.OFFLINE, tiny.ONLINE, STALE, MOVING],
  ids=['off', 'on', 'stale', 'moving'],
)


class Killed(Exception):
  pass


def runs(which, **changes):
  settings = {'num_steps': 8, 'save_steps': (3, 5), 'log_every': 1, **changes}
  return {
    name: tiny.run(
      dataclasses.replace(which, loss=tiny.ipo(beta)),
      **{'learning_rate': rate, **settings},
    )
    for name, (rate, beta) in SETTINGS.items()
  }


def fit(folder, which, mesh=(1, 1), **changes):
  return stacks.fit(
    runs(which, **changes),
    PAIRS,
    PARAMS,
    folder,
    mesh=partitioning.mesh(mesh),
    record_stream=True,
  )


def fit_alone(folder, which, name, **changes):
  run = runs(which, **changes)[name]
  return train.fit(run, PAIRS, PARAMS, folder / name, record_stream=True)


def lines(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def contents(folder):
  """Metrics, streams and parameters of all members."""
  found = {}
  for name in SETTINGS:
    found[name, 'metrics'] = lines(folder / name)
    for step in (3, 5, 8):
      params = params_of(folder / name, step)
      found[name, step] = [leaf.tobytes() for leaf in jax.tree.leaves(params)]
    recorded = folder / name / 'stream' / 'records.bin'
    if recorded.exists():
      found[name, 'stream'] = recorded.read_bytes()
  return found


def params_of(folder, step):
  path = folder / 'checkpoints' / f'checkpoint_{step}'
  mesh = partitioning.mesh((1, 1))
  return jax.device_get(load.load_params(tiny.POLICY, path, mesh))


def close(first, second, atol):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=atol), first, second
  )


@KINDS
def test_a_member_is_its_single_run_to_rounding(tmp_path, which):
  stack = fit(tmp_path / 'group', which)
  for index, name in enumerate(SETTINGS):
    alone = fit_alone(tmp_path, which, name)
    close(stacks.member(stack, index), alone, 3e-6)
    member = tmp_path / 'group' / name
    for step in (3, 5, 8):
      close(params_of(member, step), params_of(tmp_path / name, step), 3e-6)
    for own, other in zip(lines(member), lines(tmp_path / name), strict=True):
      # At the start a margin is 0 but for rounding, which decides its sign.
      assert own.keys() == other.keys()
      own['accuracy'] = other['accuracy']
      assert own == pytest.approx(other, rel=1e-4, abs=1e-5)
    if which.sampler is not None:
      rows = stream.read_rows(member / 'stream')
      others = stream.read_rows(tmp_path / name / 'stream')
      for field in ('prompt_id', 'prompt', 'chosen', 'rejected', 'seed'):
        np.testing.assert_array_equal(rows[field], others[field])


def test_members_of_other_numbers_end_elsewhere(tmp_path):
  stack = fit(tmp_path, tiny.OFFLINE)
  kernels = stack.params['encoder']['layers_0']['mlp']['wi_0']['kernel']
  for first, second in ((0, 1), (0, 2)):
    assert np.max(np.abs(kernels[first] - kernels[second])) > 1e-4
  rates = [lines(tmp_path / name)[-1]['learning_rate'] for name in SETTINGS]
  np.testing.assert_allclose(rates, [1e-3, 2e-3, 1e-3])


@KINDS
def test_a_kill_between_checkpoints_of_members_changes_nothing(
  tmp_path, which, monkeypatch
):
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  fit(whole, which)
  save = checkpoints.save
  # At each of three steps: one for each of three members, then one to restart.
  for allowed in (1, 4, 3, 5, 3):
    left = iter(range(allowed))

    def save_or_die(*args, left=left, **named):
      if next(left, None) is None:
        raise Killed
      return save(*args, **named)

    monkeypatch.setattr(checkpoints, 'save', save_or_die)
    with pytest.raises(Killed):
      fit(cut, which)
    # What a process wrote after its last checkpoint is trained again.
    with open(cut / 'b' / 'metrics.jsonl', 'a') as file:
      file.write('{"step": 999, "loss": 0.0}\n')
    if which.sampler is not None:
      with open(cut / 'c' / 'stream' / 'records.bin', 'ab') as file:
        file.write(b'half a record')
  monkeypatch.setattr(checkpoints, 'save', save)
  assert points.restartable(cut / 'restart')[0].name == 'checkpoint_5'
  fit(cut, which)
  assert contents(cut) == contents(whole)
  assert points.steps(cut / 'a' / 'checkpoints') == [3, 5, 8]


def test_a_stack_goes_on_from_a_restart_point(tmp_path, monkeypatch):
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  fit(whole, tiny.ONLINE)
  save, kinds = checkpoints.save, []

  def save_or_die(*args, **named):
    if args[1] == 7:  # after the restart point of step 6
      raise Killed
    kinds.append((args[0].name, args[1], named['kind']))
    return save(*args, **named)

  monkeypatch.setattr(checkpoints, 'save', save_or_die)
  often = Pace(Bounds(0.0, 0.0, 0.0))
  with pytest.raises(Killed):
    stacks.fit(
      runs(tiny.ONLINE), PAIRS, PARAMS, cut, record_stream=True, pace=often
    )
  monkeypatch.setattr(checkpoints, 'save', save)
  assert ('restart', 6, points.RESTART) in kinds
  of_members = [step for name, step, _ in kinds if name == 'checkpoints']
  assert of_members == [3, 3, 3, 5, 5, 5]
  assert points.restartable(cut / 'restart')[0].name == 'restart_6'
  fit(cut, tiny.ONLINE)
  assert contents(cut) == contents(whole)
  assert not list((cut / 'restart').glob('restart_*'))


def test_one_compilation_serves_groups_of_one_shape(tmp_path):
  mesh = partitioning.mesh((1, 1))
  # Stacks of other sizes were there before.
  stack_programs.update_program.cache_clear()
  stack_programs._compiled.cache_clear()
  for name, which in (('off', tiny.OFFLINE), ('on', tiny.ONLINE)):
    fit(tmp_path / name, which, num_steps=3, save_steps=())
    others = runs(which, num_steps=2, save_steps=(), learning_rate=0.02)
    stacks.fit(others, PAIRS, PARAMS, tmp_path / f'{name}2', mesh=mesh)
    objective = others['a'].objective
    axes = stack_programs.SAMPLED if which.sampler is not None else None
    update = stack_programs.update_program(objective, tiny.ADAM, mesh, 1, axes)
    assert update._cache_size() == 1
  rollout = stack_programs._compiled(
    frozenset({'policy', 'behaviour'}),
    rollouts.rollout,
    rollouts.shape_of(tiny.POLICY, tiny.ONLINE),
    ('policy', 'reference', 'annotator'),
    ('rows', 'shared', 'shared'),
    mesh,
  )
  assert rollout._cache_size() == 1


def test_a_mesh_changes_rounding_alone(tmp_path):
  one = fit(tmp_path / 'one', tiny.ONLINE)
  many = fit(tmp_path / 'many', tiny.ONLINE, (2, 2))
  kernel = many.params['encoder']['layers_0']['mlp']['wi_0']['kernel']
  part = kernel.addressable_shards[0].data.shape
  assert part == (3, 16, 32 // 2)  # all members, each split over `model`
  close(one.params, jax.device_get(many.params), 1e-4)


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'batch_size': 4}, 'a and b differ in batch_size'),
    ({'seed': 3, 'num_steps': 4}, 'differ in num_steps, seed'),
    ({'which': tiny.ONLINE}, 'differ in algorithm'),
    (
      {'which': algorithm.Algorithm(Loss(losses.best_of_two_loss))},
      'differ in algorithm',
    ),
  ],
)
def test_runs_that_differ_in_more_than_numbers_are_refused(
  tmp_path, change, words
):
  two = {'a': tiny.run(), 'b': tiny.run(**change)}
  with pytest.raises(errors.InputError, match=words):
    stacks.fit(two, PAIRS, PARAMS, tmp_path)
  assert not list(tmp_path.iterdir())


def test_the_group_of_another_configuration_is_refused(tmp_path):
  three = runs(tiny.OFFLINE, num_steps=2, save_steps=())
  stacks.fit(three, PAIRS, PARAMS, tmp_path, digest='one')
  with pytest.raises(errors.InputError, match='another configuration'):
    stacks.fit(three, PAIRS, PARAMS, tmp_path, digest='other')


def test_a_member_without_a_finite_loss_is_named(tmp_path):
  three = runs(tiny.OFFLINE)
  three['c'] = dataclasses.replace(three['c'], learning_rate=1e30)
  with pytest.raises(errors.InputError, match='c: Training needs finite'):
    stacks.fit(three, PAIRS, PARAMS, tmp_path)
