import pathlib
import shutil

import jax
import numpy as np
import pytest
import t5x_parity
import tiny
import tiny_study

from dap import errors, losses, main
from dap.algorithms import algorithm, views
from dap.algorithms.objectives import Loss
from dap.checkpoints import layouts, state
from dap.checkpoints.load import Checkpoint
from dap.commands import COMMANDS, run
from dap.models.policy import Policy
from dap.stages import artefacts
from dap.study.making import stage_folders, trainings

HERE = artefacts.runtime()
NATIVE = Policy(t5x_parity.T5)
SFT = algorithm.Algorithm(Loss(losses.supervised_loss, view=views.Tokens()))


def read_pairs(config, inputs, work):
  """A stage of data, as `prepare` leaves them."""
  tiny.pairs().save(work / 'train.npz')


def trained(root, training, **settings):
  """The checkpoint's parameters of a supervised stage."""
  data = artefacts.Stage('data', read_pairs)
  config = trainings.Training(training, **settings)
  made = artefacts.Stage('sft', trainings.supervised, config, {'data': data})
  folder = artefacts.run_stage(made, root, where=HERE)
  return stage_folders.load_params(training.model, folder, mesh=config.mesh)


def stage_name(start):
  config = trainings.Training(tiny.run(SFT), start=start)
  made = artefacts.Stage('sft', trainings.supervised, config)
  return artefacts.folder(made, pathlib.Path('study'), HERE)


def test_a_training_starts_from_a_t5x_checkpoint(tmp_path):
  training = tiny.run(SFT, NATIVE, num_steps=1, learning_rate=1e-9)
  found = trained(tmp_path, training, start=Checkpoint(str(t5x_parity.NATIVE)))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-7),
    found,
    layouts.read_params(t5x_parity.NATIVE),
  )


def test_a_training_starts_from_a_checkpoint_of_dap(tmp_path):
  start = tiny.POLICY.init(jax.random.key(7))
  place = state.save(tmp_path / 'first', 1, start, {}, '')
  training = tiny.run(SFT, num_steps=1, learning_rate=1e-9)
  found = trained(tmp_path, training, start=Checkpoint(str(place)))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-7), found, start
  )


def test_a_start_is_named_by_its_content_and_not_by_its_place(tmp_path):
  copied = shutil.copytree(t5x_parity.NATIVE, tmp_path / 'copied')
  there = stage_name(Checkpoint(str(t5x_parity.NATIVE)))
  assert stage_name(Checkpoint(str(copied))) == there
  assert stage_name(None) != there
  array = next(copied.glob('target*kernel/0*'))
  content = array.read_bytes()
  array.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  assert stage_name(Checkpoint(str(copied))) != there


def test_a_start_of_another_size_is_refused(tmp_path):
  start = Checkpoint(str(t5x_parity.NATIVE))
  with pytest.raises(errors.InputError, match='checkpoint of another model'):
    trained(tmp_path, tiny.run(SFT), start=start)


def test_a_mesh_changes_where_a_stage_computes_and_not_what(tmp_path):
  training = tiny.run(SFT, num_steps=3)
  one = trained(tmp_path, training)
  four = trained(tmp_path, training, mesh=(2, 2))
  kernel = four['encoder']['layers_0']['mlp']['wi_0']['kernel']
  assert kernel.addressable_shards[0].data.shape == (16, 16)  # 32 / 2
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3), one, four
  )


def test_a_batch_that_the_mesh_cannot_split_is_refused():
  words = tiny_study.argv('study', MESH=(3, 1))
  given, overrides = main._take_overrides(words[1:])
  given = [word.removeprefix('--gin_file=') for word in given]
  with pytest.raises(errors.InputError, match='divisible by the 3 devices'):
    run.configure(COMMANDS['study'], given, overrides, COMMANDS)
