"""What version 0.3.0 left: read, or refused with what to do.

The fixtures were recorded with that version, before anything moved: a run that
was cut off after 6 of 12 steps, its stream, and a gin file of a user.
"""

import dataclasses
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny

from dap import errors, main, partitioning, train
from dap.algorithms import refresh, sources
from dap.checkpoints import load
from dap.commands import bindings, moved
from dap.data import arrays
from dap.training import stream

OLD = pathlib.Path(__file__).parent / 'fixtures' / 'v0_3_0'
START = tiny.POLICY.init(jax.random.key(1))
PARAMS = train.Params(START, START, tiny.JUDGE.init(jax.random.key(2)))
STALE = dataclasses.replace(tiny.ONLINE, behaviour=refresh.Every(4))


def test_parameters_of_an_old_checkpoint_are_read(tmp_path):
  mesh = partitioning.mesh((1, 1))
  read = load.load_params(tiny.POLICY, OLD / 'run', mesh)
  # They are those that this version has after as many steps of that run.
  train.fit(
    tiny.run(STALE, num_steps=6), tiny.pairs(), PARAMS, tmp_path,
    record_stream=True,
  )  # fmt: skip
  again = load.load_params(tiny.POLICY, tmp_path, mesh)
  for old, new in zip(
    jax.tree.leaves(read), jax.tree.leaves(again), strict=True
  ):
    np.testing.assert_allclose(old, new, atol=1e-5)


def test_an_old_training_is_not_continued(tmp_path):
  shutil.copytree(OLD / 'run', tmp_path / 'run')
  before = (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
  with pytest.raises(
    errors.InputError, match='version 0.3.*INITIAL_CHECKPOINT'
  ):
    train.fit(
      tiny.run(STALE), tiny.pairs(), PARAMS, tmp_path / 'run', digest='0.3.0'
    )
  assert (tmp_path / 'run' / 'metrics.jsonl').read_bytes() == before


def test_an_old_stream_is_read_under_the_new_names(tmp_path):
  rows = stream.read_rows(OLD / 'run' / 'stream')
  assert len(rows) == 6 * 8
  chosen, rejected = rows['scores'].T
  assert np.all(chosen >= rejected)
  assert np.all(np.isnan(rows['log_probs']))  # which it did not keep
  for field in ('prompt_id', 'prompt', 'chosen', 'rejected'):
    assert field in rows.dtype.names
  run = tiny.run(STALE, num_steps=6)
  train.fit(run, tiny.pairs(), PARAMS, tmp_path, record_stream=True)
  new = stream.read_rows(tmp_path / 'stream')
  for field in ('prompt_id', 'chosen', 'rejected', 'candidates', 'weight'):
    np.testing.assert_array_equal(rows[field], new[field])
  np.testing.assert_allclose(rows['scores'], new['scores'], atol=1e-5)


def test_an_old_stream_is_trained_on(tmp_path):
  offline = dataclasses.replace(
    tiny.OFFLINE, source=sources.FromDataset(arrays.in_order)
  )
  run = tiny.run(offline, num_steps=6)
  recorded = stream.read(OLD / 'run' / 'stream')
  learner = train.fit(run, recorded, PARAMS, tmp_path)
  old = load.load_params(tiny.POLICY, OLD / 'run', partitioning.mesh((1, 1)))
  for first, second in zip(
    jax.tree.leaves(old), jax.tree.leaves(learner.params), strict=True
  ):
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_an_old_gin_file_is_refused_with_what_to_write(capsys):
  words = [
    'train', f'--gin_file={OLD / "user.gin"}', '--gin.MODEL_DIR="out"',
    '--gin.INITIAL_CHECKPOINT_PATH="a"', '--gin.ANNOTATOR_CHECKPOINT_PATH="b"',
    '--dry_run',
  ]  # fmt: skip
  with pytest.raises(SystemExit) as stopped:
    main.main(words)
  said = capsys.readouterr().err
  assert stopped.value.code == 2
  assert 'objectives has no `cdpo`' in said
  assert 'cdpo/objectives.Loss.function = @losses.cdpo_loss' in said


@pytest.mark.parametrize('name', moved._BUILDERS)
def test_what_is_said_of_a_builder_is_what_its_part_binds(name):
  read = bindings.read([f'gin/losses/{name}.gin'])
  bound = {
    binding.name: binding.value for binding in read if not binding.is_macro
  }
  (function,) = (v for k, v in bound.items() if k.endswith('Loss.function'))
  (scalars,) = (v for k, v in bound.items() if k.endswith('Loss.scalars'))
  assert function.target.__name__ == f'{name}_loss'
  assert tuple(scalars) == moved._BUILDERS[name]
  words = moved.words(f'dap.algorithms.objectives.{name}')
  assert f'@losses.{name}_loss' in words
