import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5x_parity as parity
import tiny

from dap import errors, partitioning
from dap.checkpoints import load, state
from dap.models import heads
from dap.models.policy import Policy

NATIVE = pathlib.Path(__file__).parents[1] / 'fixtures' / 't5x' / 'native'
ONE_DEVICE = partitioning.mesh((1, 1))
PARAMS = tiny.POLICY.init(jax.random.key(0))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  state.save(folder / 'checkpoints', 4, PARAMS, {}, 'digest')
  return folder


def test_a_run_or_its_checkpoint_gives_the_parameters(run):
  for path in (run, run / 'checkpoints' / 'checkpoint_4'):
    found = load.load_params(tiny.POLICY, path, ONE_DEVICE)
    jax.tree.map(np.testing.assert_array_equal, found, PARAMS)


def test_parameters_lie_on_the_mesh_as_the_model_says(run):
  mesh = partitioning.mesh((2, 2))
  found = load.load_params(tiny.POLICY, run, mesh)
  kernel = found['encoder']['layers_0']['mlp']['wi_0']['kernel']
  assert kernel.addressable_shards[0].data.shape == (16, 16)  # 32 / 2
  np.testing.assert_array_equal(
    kernel, PARAMS['encoder']['layers_0']['mlp']['wi_0']['kernel']
  )


def test_a_t5x_checkpoint_of_another_size_is_refused():
  with pytest.raises(errors.InputError, match='checkpoint of another model'):
    load.load_params(tiny.POLICY, NATIVE / 'checkpoint_3', ONE_DEVICE)


def test_a_fingerprint_names_content_and_no_place(run, tmp_path):
  copied = shutil.copytree(run, tmp_path / 'copied')
  assert load.fingerprint(str(run)) == load.fingerprint(str(copied))
  assert load.fingerprint('') == ''
  params = jax.tree.map(lambda leaf: leaf + 1, PARAMS)
  state.save(copied / 'checkpoints', 4, params, {}, 'digest')
  assert load.fingerprint(str(run)) != load.fingerprint(str(copied))
  assert load.fingerprint(str(NATIVE / 'checkpoint_3'))


def test_a_path_that_is_not_given_is_asked_for():
  assert load.require('out/sft', 'a judge', 'PATH') == 'out/sft'
  with pytest.raises(errors.InputError, match='a judge.*--gin.PATH=\'"path"\''):
    load.require('', 'a judge', 'PATH')


def scored(language_model):
  return heads.PointwisePreferenceModel(language_model)


def test_a_preference_model_takes_its_body_from_a_bare_t5(run):
  model = scored(tiny.T5)
  found = load.start_params(model, run, ONE_DEVICE, seed=3)
  jax.tree.map(np.testing.assert_array_equal, found['transformer'], PARAMS)
  drawn = model.init_head(jax.random.key(3))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
    found['head'],
    drawn['head'],
  )
  other = load.start_params(model, run, ONE_DEVICE, seed=4)
  assert not np.array_equal(other['head']['kernel'], found['head']['kernel'])


def test_a_preference_model_of_its_own_checkpoint_keeps_its_head(tmp_path):
  model = scored(tiny.T5)
  params = model.init(jax.random.key(1))
  state.save(tmp_path, 1, params, {}, 'digest')
  found = load.load_params(model, tmp_path, ONE_DEVICE)
  jax.tree.map(np.testing.assert_array_equal, found, params)
  del params['head']
  state.save(tmp_path, 2, params, {}, 'digest')
  with pytest.raises(errors.InputError, match='1 missing: head/kernel'):
    load.load_params(model, tmp_path, ONE_DEVICE)


@pytest.mark.parametrize('head', [heads.LastTokenScore(), heads.PooledScore()])
def test_a_judge_is_never_made_of_a_policy(run, head):
  model = heads.PointwisePreferenceModel(tiny.T5, head)
  for path in (run, NATIVE / 'checkpoint_3'):
    with pytest.raises(
      errors.InputError, match='a policy or a bare T5'
    ) as told:
      load.load_params(model, path, ONE_DEVICE)
    assert 'configs/embedded/preference_model.gin' in str(told.value)


def test_a_checkpoint_that_says_what_it_is_serves_as_nothing_else(tmp_path):
  judge = heads.JointPreferenceModel(tiny.T5, 32, (3,), (4,), 5, 6)
  known = {'policy': tiny.POLICY, 'judge': judge}
  for name, model in known.items():  # their arrays are of one tree
    facts = {'gives': list(model.gives)}
    state.save(tmp_path / name, 1, PARAMS, {}, '', facts=facts)
    load.load_params(model, tmp_path / name, ONE_DEVICE)
  with pytest.raises(
    errors.InputError, match='A preference model.*is a policy'
  ):
    load.load_params(judge, tmp_path / 'policy', ONE_DEVICE)
  with pytest.raises(
    errors.InputError, match='A policy.*is a preference model'
  ):
    load.load_params(tiny.POLICY, tmp_path / 'judge', ONE_DEVICE)
  load.start_params(judge, tmp_path / 'policy', ONE_DEVICE)  # to be trained


def test_a_text_to_text_preference_model_is_the_whole_t5():
  model = heads.JointPreferenceModel(
    parity.T5, 32, (120,), (121,), first_id=122, second_id=123
  )
  found = load.load_params(model, NATIVE / 'checkpoint_3', ONE_DEVICE)
  jax.tree.map(np.testing.assert_array_equal, found, parity.params())
  prompts, _, responses = parity.batch()
  ab, ba = model.log_odds(found, prompts, responses[:, :8], responses[::-1, :8])
  context = model.context(prompts, responses[:, :8], responses[::-1, :8])
  answers = Policy(parity.T5).log_probs(
    found, context, jnp.asarray([[[122], [123]]] * 4)
  )[..., 0]
  np.testing.assert_allclose(ab, answers[:, 0] - answers[:, 1], atol=1e-4)
  assert ab.shape == ba.shape == (4,)


def test_a_configuration_is_told_by_a_checkpoint():
  path = str(NATIVE / 'checkpoint_3')
  assert load.t5_config(path, dtype='float32') == parity.CONFIG
  assert load.t5_config(path).dtype == 'bfloat16'
  with pytest.raises(errors.InputError, match='INITIAL_CHECKPOINT_PATH'):
    load.t5_config('')
