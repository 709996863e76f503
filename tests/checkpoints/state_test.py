import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from dap import errors, files
from dap.checkpoints import layouts, metadata, points, state

PARAMS = {
  'encoder': {'kernel': jnp.arange(12.0).reshape(3, 4)},
  'scale': jnp.ones(5),
}
REST = {'step': jnp.asarray(3), 'moments': jax.tree.map(jnp.square, PARAMS)}


def shapes(tree):
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree
  )


def restored(folder):
  return (
    state.restore_params(folder, shapes(PARAMS)),
    state.restore_rest(folder, shapes(REST)),
  )


def newest(root):
  return points.restartable(root)[0].name


def equal(first, second):
  leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
  return all(np.array_equal(a, b) for a, b in leaves)


def doubled(tree):
  return jax.tree.map(lambda leaf: 2 * leaf, tree)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A whole checkpoint, to be copied."""
  return state.save(tmp_path_factory.mktemp('run'), 3, PARAMS, REST, 'digest')


@pytest.fixture
def copied(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'checkpoint_3')


# Whole


def test_what_was_saved_is_restored(saved):
  assert equal(restored(saved), (PARAMS, REST))
  assert metadata.read(saved)['digest'] == 'digest'
  assert metadata.read(saved)['step'] == 3


def test_names_are_those_of_t5x():
  assert list(state.names(REST['moments'])) == ['encoder/kernel', 'scale']


def test_a_checkpoint_is_found_by_its_folder_or_its_runs(tmp_path):
  root = tmp_path / 'checkpoints'
  for step in (9, 10):
    state.save(root, step, PARAMS, REST, '')
  newest = root / 'checkpoint_10'
  for place in (newest, root, tmp_path):
    assert layouts.find(place) == (epath.Path(newest), 'dap')


def test_only_the_two_newest_checkpoints_can_be_continued(tmp_path):
  for step in (2, 4, 5):
    state.save(tmp_path, step, PARAMS, REST, '')
  older = tmp_path / 'checkpoint_2'
  assert points.steps(tmp_path) == [2, 4, 5]
  assert newest(tmp_path) == 'checkpoint_5'
  assert equal(restored(tmp_path / 'checkpoint_4'), (PARAMS, REST))
  assert equal(state.restore_params(older, shapes(PARAMS)), PARAMS)
  assert not (older / 'rest').exists()
  with pytest.raises(errors.InputError, match='rest/.* is missing'):
    state.restore_rest(older, shapes(REST))


def test_the_same_step_is_replaced_whole(tmp_path):
  state.save(tmp_path, 3, PARAMS, REST, 'one')
  folder = state.save(tmp_path, 3, doubled(PARAMS), REST, 'other')
  assert equal(restored(folder)[0], doubled(PARAMS))
  assert metadata.read(folder)['digest'] == 'other'
  assert [entry.name for entry in tmp_path.iterdir()] == ['checkpoint_3']


# Half-written


def test_a_leftover_of_a_kill_is_ignored_and_replaced(tmp_path):
  folder = state.save(tmp_path, 3, PARAMS, REST, '')
  shutil.copytree(folder, tmp_path / 'checkpoint_7.partial')
  (tmp_path / 'checkpoint_7.partial' / 'metadata.json').unlink()
  (tmp_path / 'checkpoint_7.partial' / 'rest' / 'junk').write_text('junk')
  (folder / 'rest.dropped').mkdir()
  (tmp_path / 'restart_6.partial').mkdir()
  assert points.steps(tmp_path) == [3] and newest(tmp_path) == 'checkpoint_3'
  assert layouts.find(tmp_path)[0] == epath.Path(folder)
  points.sweep(tmp_path)
  seventh = state.save(tmp_path, 7, doubled(PARAMS), REST, '')
  assert equal(restored(seventh)[0], doubled(PARAMS))
  assert not (seventh / 'rest' / 'junk').exists()
  names = sorted(entry.name for entry in tmp_path.iterdir())
  assert names == ['checkpoint_3', 'checkpoint_7']
  names = sorted(entry.name for entry in folder.iterdir())
  assert names == ['metadata.json', 'params', 'rest']  # rest.dropped is gone


class Killed(Exception):
  pass


@pytest.mark.parametrize('place', ['write_json', 'publish_folder'])
def test_a_kill_while_saving_leaves_the_older_one(tmp_path, monkeypatch, place):
  folder = state.save(tmp_path, 3, PARAMS, REST, '')

  def die(*_):
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(files, place, die)
    with pytest.raises(Killed):
      state.save(tmp_path, 5, doubled(PARAMS), REST, '')
  assert newest(tmp_path) == 'checkpoint_3'
  assert equal(restored(folder), (PARAMS, REST))
  state.save(tmp_path, 5, doubled(PARAMS), REST, '')
  assert newest(tmp_path) == 'checkpoint_5'


def test_a_place_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.InputError, match='could not be written.*a folder'):
    state.save(tmp_path / 'file' / 'checkpoints', 3, PARAMS, REST, '')


def test_a_disk_without_room_is_found_before_anything_is_written(
  tmp_path, monkeypatch
):
  folder = state.save(tmp_path, 3, PARAMS, REST, '')
  usage = shutil.disk_usage(tmp_path)
  # Parameters, as much again of moments, and the step.
  needed = 2 * (12 + 5) * 4 + 4
  monkeypatch.setattr(
    shutil, 'disk_usage', lambda _: usage._replace(free=needed - 1)
  )
  with pytest.raises(errors.InputError, match='No space left.*Free some space'):
    state.save(tmp_path, 5, PARAMS, REST, '')
  assert newest(tmp_path) == 'checkpoint_3'
  assert equal(restored(folder)[0], PARAMS)
  monkeypatch.setattr(
    shutil, 'disk_usage', lambda _: usage._replace(free=needed)
  )
  state.save(tmp_path, 5, PARAMS, REST, '')


# Damaged


def test_a_flipped_byte_is_damage_wherever_it_is(copied):
  paths = sorted(path for path in copied.rglob('*') if path.is_file())
  assert len(paths) > 10
  for path in paths:
    whole = path.read_bytes()
    for place in {0, len(whole) // 3, len(whole) - 1}:
      flipped = bytearray(whole)
      flipped[place] ^= 0x11
      path.write_bytes(flipped)
      with pytest.raises(errors.InputError, match='is damaged: .*remove that'):
        restored(copied)
    path.write_bytes(whole)
  assert equal(restored(copied), (PARAMS, REST))


@pytest.mark.parametrize('part', ['params', 'rest'])
def test_a_missing_part_is_damage(copied, part):
  shutil.rmtree(copied / part)
  with pytest.raises(errors.InputError, match=f'damaged: {part}/.* is missing'):
    restored(copied)


# Another configuration


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'scale': jnp.ones(6)}, r'scale is \(5,\), needed \(6,\)'),
    ({'bias': jnp.ones(2)}, 'missing: bias'),
    ({'scale': None}, 'unexpected: scale'),
  ],
)
def test_another_configurations_checkpoint_is_refused_by_name(
  saved, change, words
):
  wanted = shapes({**PARAMS, **change})
  with pytest.raises(errors.InputError, match=f'another model.*{words}'):
    state.restore_params(saved, wanted)
