import json

import jax.numpy as jnp
import pytest

from dap import errors
from dap.checkpoints import metadata, state


@pytest.fixture
def saved(tmp_path):
  params = {'scale': jnp.ones(5)}
  return state.save(tmp_path, 3, params, {}, 'digest')


@pytest.mark.parametrize(
  'content', ['', '{"step": 3', '[]', 'null', '{}', '{"crc32": 0}', '3']
)
def test_metadata_that_is_not_ours_is_damage(saved, content):
  (saved / 'metadata.json').write_text(content)
  with pytest.raises(errors.InputError, match='damaged: metadata.json'):
    metadata.read(saved)


def test_an_edited_digest_is_damage(saved):
  path = saved / 'metadata.json'
  edited = {**json.loads(path.read_text()), 'digest': 'another'}
  path.write_text(json.dumps(edited))
  with pytest.raises(errors.InputError, match='metadata.json fails its CRC'):
    metadata.read(saved)


def test_a_folder_that_is_no_checkpoint_says_what_one_is(saved):
  with pytest.raises(errors.InputError, match='A checkpoint is a folder with'):
    metadata.read(saved.parent / 'nothing')


def test_facts_stand_in_the_metadata_and_may_be_absent(tmp_path):
  folder = state.save(tmp_path, 1, {'x': jnp.ones(2)}, {}, '', facts={'a': [1]})
  assert metadata.read(folder)['facts'] == {'a': [1]}
  path = folder / 'metadata.json'
  told = json.loads(path.read_text())
  del told['facts'], told['crc32']  # as version 0.4 wrote it
  told['crc32'] = metadata._crc_of_json(told)
  path.write_text(json.dumps(told))
  assert metadata.read(folder)['facts'] == {}
