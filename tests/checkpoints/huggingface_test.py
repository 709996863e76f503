import dataclasses
import json
import os
import pathlib
import shutil
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import t5x_parity as parity
from etils import epath
from flax import traverse_util

from dap import partitioning
from dap.checkpoints import (
  convert,
  hf_names,
  hf_reader,
  hf_writer,
  layouts,
  load,
  state,
  stored,
)
from dap.data.corpus import EmbeddedCorpus
from dap.data.vocabulary import TrainedSentencePiece
from dap.errors import InputError
from dap.models import t5, t5_layers
from dap.models.policy import Policy

FOLDER = pathlib.Path(__file__).parents[1] / 'fixtures' / 'hf'
FAMILIES = ('t5_1_0', 't5_1_1', 'mt5')
ONE_DEVICE = partitioning.mesh((1, 1))


def logits(config, params, prompts, responses):
  inputs = t5.shift_right(jnp.asarray(responses))
  return parity.logits(
    config, params, jnp.asarray(prompts), inputs, jnp.asarray(responses)
  )


@pytest.mark.parametrize('family', FAMILIES)
def test_logits_are_those_that_transformers_computed(family):
  config = layouts.open_checkpoint(FOLDER / family).t5_config()
  params = load.load_params(Policy(t5.T5(config)), FOLDER / family, ONE_DEVICE)
  with np.load(FOLDER / family / 'outputs.npz') as known:
    ours = logits(config, params, known['prompts'], known['responses'])
    assert np.abs(known['logits']).max() > 0.5
    np.testing.assert_allclose(ours, known['logits'], rtol=0, atol=1e-4)


@pytest.mark.parametrize('family', FAMILIES)
def test_transformers_computes_our_logits_from_what_we_write(family, tmp_path):
  reason = 'needs torch and transformers, the extra [parity]'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  config = layouts.open_checkpoint(FOLDER / family).t5_config()
  params = t5.init_params(config, jax.random.key(1))
  state.save(tmp_path / 'run', 1, params, {}, 'digest')
  convert.convert(str(tmp_path / 'run'), str(tmp_path / 'hf'), 'hf')
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    tmp_path / 'hf'
  ).eval()
  with np.load(FOLDER / family / 'outputs.npz') as known:
    prompts, responses = known['prompts'], known['responses']
  with torch.no_grad():
    theirs = model(
      input_ids=torch.tensor(prompts).long(),
      attention_mask=torch.tensor(prompts > 0).long(),
      decoder_input_ids=torch.tensor(
        np.array(t5.shift_right(jnp.asarray(responses)))
      ).long(),
    ).logits.numpy()
  ours = logits(config, params, prompts, responses)
  assert np.abs(theirs).max() > 0.5
  np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


@pytest.mark.parametrize('family', FAMILIES)
def test_weights_survive_a_round_trip_to_the_bit(family, tmp_path):
  convert.convert(str(FOLDER / family), str(tmp_path / 't5x'), 't5x')
  convert.convert(str(tmp_path / 't5x'), str(tmp_path / 'hf'), 'hf')
  jax.tree.map(
    np.testing.assert_array_equal,
    layouts.read_params(FOLDER / family),
    layouts.read_params(tmp_path / 'hf'),
  )
  written = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  theirs = json.loads((FOLDER / family / 'config.json').read_text())
  # An mT5 is a T5 to transformers too, and the last version says that all are
  # tied.
  other = {'tie_word_embeddings', 'dropout_rate', 'architectures', 'model_type'}
  for key in written.keys() & theirs.keys() - other:
    assert written[key] == theirs[key], key


def test_names_go_there_and_back():
  for family in FAMILIES:
    for name in layouts.open_checkpoint(FOLDER / family).parts:
      assert hf_names.t5x_name(hf_names.hf_name(name)) == name
  for strange in ('encoder.block.0.layer.2.layer_norm.weight', 'lm_head.bias'):
    assert hf_names.t5x_name(strange) is None


def test_a_large_model_is_written_in_files_with_an_index(tmp_path):
  contents = layouts.open_checkpoint(FOLDER / 't5_1_1')
  hf_writer.write(
    epath.Path(tmp_path),
    contents.parts,
    contents.t5_config(),
    most_bytes=40_000,
  )
  index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
  files = set(index['weight_map'].values())
  assert len(files) > 2
  assert {p.name for p in tmp_path.glob('*.safetensors')} == files
  jax.tree.map(
    np.testing.assert_array_equal,
    layouts.read_params(FOLDER / 't5_1_1'),
    layouts.read_params(tmp_path),
  )


def test_weights_that_transformers_drops_as_copies_are_found(tmp_path):
  folder = shutil.copytree(FOLDER / 't5_1_0', tmp_path / 'model')
  path = folder / 'model.safetensors'
  weights = safetensors.numpy.load_file(path)
  weights['encoder.embed_tokens.weight'] = weights.pop('shared.weight')
  safetensors.numpy.save_file(weights, path)
  known = layouts.read_params(FOLDER / 't5_1_0')
  jax.tree.map(
    np.testing.assert_array_equal, layouts.read_params(folder), known
  )
  weights['lm_head.weight'] = weights['encoder.embed_tokens.weight']
  safetensors.numpy.save_file(weights, path)
  jax.tree.map(
    np.testing.assert_array_equal, layouts.read_params(folder), known
  )
  weights['lm_head.weight'] = weights['lm_head.weight'] + 1
  safetensors.numpy.save_file(weights, path)
  with pytest.raises(InputError, match='ties the logits.*another array'):
    layouts.read_params(folder)


@pytest.mark.parametrize('copy', hf_names.COPIES)
def test_two_copies_of_one_weight_that_differ_are_refused(tmp_path, copy):
  folder = shutil.copytree(FOLDER / 't5_1_0', tmp_path / 'model')
  path = folder / 'model.safetensors'
  weights = safetensors.numpy.load_file(path)
  weights[copy] = weights['shared.weight'].copy()
  safetensors.numpy.save_file(weights, path)
  layouts.read_params(folder)
  weights[copy][-1, -1] += 1
  safetensors.numpy.save_file(weights, path)
  with pytest.raises(
    InputError, match=f'{copy} and shared.weight, and.*differ'
  ):
    layouts.open_checkpoint(folder)


def test_a_weight_in_two_files_is_one_and_the_same(tmp_path):
  folder = shutil.copytree(FOLDER / 't5_1_1', tmp_path / 'model')
  one, other, *_ = sorted(folder.glob('*.safetensors'))
  weights, more = map(safetensors.numpy.load_file, (one, other))
  name = next(iter(weights))
  more[name] = weights[name].copy()
  safetensors.numpy.save_file(more, other)
  layouts.open_checkpoint(folder)
  more[name] += 1
  safetensors.numpy.save_file(more, other)
  with pytest.raises(InputError, match=f'two different weights {name}'):
    layouts.open_checkpoint(folder)


def test_a_gated_silu_is_computed_by_hand(tmp_path):
  config = dataclasses.replace(
    parity.CONFIG, mlp_activations=('silu', 'linear')
  )
  params = t5.init_params(config, jax.random.key(2))
  state.save(tmp_path / 'run', 1, params, {}, '')
  mlp = t5_layers.MLP(
    config.emb_dim, config.mlp_dim, config.mlp_activations, 0.0
  )
  own = params['encoder']['layers_0']['mlp']
  x = jax.random.normal(jax.random.key(3), (1, 5, config.emb_dim))
  gate, linear = (x @ own[f'wi_{i}']['kernel'] for i in (0, 1))
  by_hand = (gate / (1 + jnp.exp(-gate)) * linear) @ own['wo']['kernel']
  np.testing.assert_allclose(
    mlp.apply({'params': own}, x), by_hand, rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize('name', ['silu', 'swish'])
def test_ul2s_gate_goes_to_transformers_and_back(tmp_path, name):
  config = dataclasses.replace(parity.CONFIG, mlp_activations=(name, 'linear'))
  written = hf_names.hf_config(config, 'float32')
  assert written['feed_forward_proj'] == 'gated-silu'
  assert written['dense_act_fn'] == 'silu' and written['is_gated_act'] is True
  back = hf_names.t5_config(written, 'config.json')
  assert back.mlp_activations == ('silu', 'linear')
  torch = pytest.importorskip('torch', reason='needs the extra [parity]')
  transformers = pytest.importorskip('transformers', reason='the same')
  params = t5.init_params(config, jax.random.key(1))
  named = state.names(params)
  hf_writer.write(
    epath.Path(tmp_path),
    {
      n: stored.whole(
        stored.Stored(n, x.shape, x.dtype, lambda box, x=x: np.asarray(x)[box])
      )
      for n, x in named.items()
    },
    config,
  )
  model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path)
  prompts, inputs, responses = parity.batch()
  with torch.no_grad():
    theirs = model.eval()(
      input_ids=torch.tensor(np.array(prompts)).long(),
      attention_mask=torch.tensor(np.array(prompts) > 0).long(),
      decoder_input_ids=torch.tensor(np.array(inputs)).long(),
    ).logits.numpy()
  ours = parity.logits(config, params, prompts, inputs, responses)
  real = np.asarray(responses) > 0  # states on padding mean nothing
  assert np.abs(theirs).max() > 0.5
  np.testing.assert_allclose(theirs[real], ours[real], rtol=0, atol=1e-4)


def with_config(folder, **values):
  path = folder / 'config.json'
  config = json.loads(path.read_text()) | values
  kept = {key: value for key, value in config.items() if value is not None}
  path.write_text(json.dumps(kept))
  return folder


def configured(tmp_path, family='t5_1_0', **values):
  folder = shutil.copytree(FOLDER / family, tmp_path / 'model')
  return layouts.open_checkpoint(with_config(folder, **values))


@pytest.mark.parametrize(
  ('family', 'values', 'tied'),
  [
    ('t5_1_0', {}, True),
    ('t5_1_0', {'tie_word_embeddings': None}, True),
    # transformers 5 says that all are tied, and which are scaled.
    ('t5_1_0', {'scale_decoder_outputs': False}, False),
    ('t5_1_1', {'tie_word_embeddings': False}, False),
    # Of mT5 it says nothing more, and scales none.
    ('t5_1_1', {'model_type': 'mt5', 'scale_decoder_outputs': None}, False),
    ('t5_1_0', {'model_type': 'mt5', 'scale_decoder_outputs': None}, False),
  ],
)
def test_scaled_logits_are_those_of_a_tied_embedding(
  tmp_path, family, values, tied
):
  contents = configured(tmp_path, family, **values)
  assert contents.t5_config().logits_via_embedding is tied
  assert ('decoder/logits_dense/kernel' in contents.parts) is not tied
  shared = contents.parts['token_embedder/embedding'].stored
  if not tied and family == 't5_1_0':  # one array for both
    assert contents.parts['decoder/logits_dense/kernel'].stored is shared


@pytest.mark.parametrize(
  'values',
  [
    {'tie_word_embeddings': False, 'scale_decoder_outputs': None},
    {'architectures': ['T5Model'], 'scale_decoder_outputs': False},
  ],
)
def test_a_head_that_is_missing_is_not_made_up(tmp_path, values):
  contents = configured(tmp_path, **values)
  assert 'decoder/logits_dense/kernel' not in contents.parts


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'model_type': 'bart'}, "model_type t5 or mt5.*got 'bart'"),
    ({'feed_forward_proj': 'gated-tanh'}, 'feed_forward_proj .gated-tanh'),
    ({'relative_attention_num_buckets': 64}, 'num_buckets 64.*computes 32'),
    ({'d_model': None}, 'needs d_model, a whole number above 0; got None'),
    ({'d_model': '32'}, 'needs d_model, a whole number above 0'),
    ({'num_heads': 0}, 'needs num_heads, .*got 0'),
    ({'vocab_size': 1e30}, 'needs vocab_size'),
    ({'num_layers': -1}, 'needs num_layers'),
    ({'num_layers': 10**9}, 'encoder has 1000000000 layers, the weights are'),
    ({'feed_forward_proj': ['relu']}, 'feed_forward_proj'),
  ],
)
def test_a_model_that_is_computed_otherwise_is_refused(
  tmp_path, values, message
):
  with pytest.raises(InputError, match=message):
    configured(tmp_path, **values)


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path):
  shutil.copy(FOLDER / 't5_1_0' / 'config.json', tmp_path)
  (tmp_path / 'pytorch_model.bin').write_bytes(b'\x80\x02cos\nsystem\n.')
  with pytest.raises(InputError, match='a pickle can run .*save_pretrained'):
    layouts.open_checkpoint(tmp_path)


def test_a_pipe_in_place_of_a_file_is_no_checkpoint(tmp_path):
  shutil.copy(FOLDER / 't5_1_0' / 'config.json', tmp_path)
  os.mkfifo(tmp_path / 'model.safetensors')
  with pytest.raises(InputError, match='is no checkpoint'):
    layouts.open_checkpoint(tmp_path)


@pytest.mark.parametrize(
  'text', ['[' * 200_000, '{"d_ff": 1' + '0' * 5000 + '}']
)
def test_a_configuration_too_deep_or_long_is_refused(tmp_path, text):
  folder = shutil.copytree(FOLDER / 't5_1_0', tmp_path / 'model')
  (folder / 'config.json').write_text(text)
  with pytest.raises(InputError, match='config.json'):
    layouts.open_checkpoint(folder)


def with_index(tmp_path, file):
  folder = shutil.copytree(FOLDER / 't5_1_1', tmp_path / 'model')
  path = folder / 'model.safetensors.index.json'
  index = json.loads(path.read_text())
  names = index['weight_map']
  name = next(n for n in names if names[n].startswith('model-00001'))
  index['weight_map'][name] = file
  path.write_text(json.dumps(index))
  return folder


@pytest.mark.parametrize(
  ('file', 'message'),
  [
    ('../../../etc/passwd', 'files of its own folder only'),
    ('/etc/passwd', 'files of its own folder only'),
    ('..\\secrets.safetensors', 'files of its own folder only'),
    (7, 'files of its own folder only'),
    ('pytorch_model-00001.bin', 'a pickle can run'),
    ('absent.safetensors', 'names absent.safetensors, which is not there'),
    ('model-00002-of-00005.safetensors', 'has .*, and it has not'),
  ],
)
def test_an_index_that_lies_is_refused(tmp_path, file, message):
  with pytest.raises(InputError, match=message):
    layouts.open_checkpoint(with_index(tmp_path, file))


def header(shape, dtype='F32'):
  declared = {'shared.weight': {
    'dtype': dtype, 'shape': shape, 'data_offsets': [0, 4 * shape[0] * shape[1]]
  }}  # fmt: skip
  text = json.dumps(declared).encode()
  return struct.pack('<Q', len(text)) + text


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'\x00' * 4,
    struct.pack('<Q', 10**10) + b'{}',
    header((50_000, 50_000)),
    header((50_000, 50_000)) + b'\x00' * 100,
  ],
  ids=['empty', 'short', 'a header of 10 GB', 'an array of 10 GB', 'truncated'],
)
def test_a_damaged_file_is_refused_without_taking_memory(tmp_path, content):
  shutil.copy(FOLDER / 't5_1_0' / 'config.json', tmp_path)
  (tmp_path / 'model.safetensors').write_bytes(content)
  with pytest.raises(InputError, match='model.safetensors of .*cannot be read'):
    layouts.open_checkpoint(tmp_path)


def test_quantised_and_strange_weights_are_refused(tmp_path):
  folder = shutil.copytree(FOLDER / 't5_1_0', tmp_path / 'model')
  path = folder / 'model.safetensors'
  weights = safetensors.numpy.load_file(path)
  strange = weights | {'shared.weight': np.zeros((96, 32), np.int8)}
  safetensors.numpy.save_file(strange, path)
  with pytest.raises(InputError, match='shared.weight .* is I8'):
    layouts.open_checkpoint(folder)
  safetensors.numpy.save_file(weights | {'classifier': np.zeros(2)}, path)
  with pytest.raises(InputError, match='T5 has not: classifier'):
    layouts.open_checkpoint(folder)


def test_a_hub_that_refuses_is_explained(monkeypatch):
  hub = pytest.importorskip(
    'huggingface_hub', reason='needs the extra [huggingface]'
  )

  def refuse(*args, **kwargs):
    raise OSError('401 Client Error: Access to model is restricted.\nmore')

  monkeypatch.setattr(hub, 'snapshot_download', refuse)
  with pytest.raises(InputError, match='401 Client Error.*hf auth login'):
    layouts.open_checkpoint('hf://some/gated')
  asked = []
  monkeypatch.setattr(
    hub,
    'snapshot_download',
    lambda name, **kw: asked.append((name, kw)) or str(FOLDER / 't5_1_0'),
  )
  assert layouts.open_checkpoint('hf://some/model@v2').layout == 'hf'
  assert asked[0][0] == 'some/model' and asked[0][1]['revision'] == 'v2'
  assert '*.bin' not in asked[0][1]['allow_patterns']


def test_a_repository_of_pickles_is_refused_with_the_way_to_convert_it(
  monkeypatch, tmp_path
):
  hub = pytest.importorskip(
    'huggingface_hub', reason='needs the extra [huggingface]'
  )
  monkeypatch.setattr(hub, 'snapshot_download', lambda *a, **k: str(tmp_path))
  with pytest.raises(InputError, match="from_pretrained.'some/old'"):
    layouts.open_checkpoint('hf://some/old')


def test_a_tokenizer_of_a_sentencepiece_model_is_loaded(tmp_path, trained):
  reason = 'needs transformers, the extra [parity]'
  transformers = pytest.importorskip('transformers', reason=reason)
  config = t5.T5Config(400, 8, 2, 4, 8, 1, 1)
  params = t5.init_params(config, jax.random.key(0))
  state.save(tmp_path / 'run', 1, params, {}, 'digest')
  target = convert.Target(vocabulary=trained.path)
  convert.convert(str(tmp_path / 'run'), str(tmp_path / 'hf'), 'hf', target)
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / 'hf')
  text = 'my boss and i argued'
  assert tokenizer(text).input_ids == [*trained.encode(text), 1]
  # No sentinel: the policy was trained without, and a text may spell one.
  assert len(tokenizer) == trained.size


def test_a_vocabulary_must_fit_the_embedding(tmp_path, trained):
  target = convert.Target(vocabulary=trained.path)
  with pytest.raises(InputError, match='and the embedding of .*only 96 rows'):
    convert.convert(str(FOLDER / 't5_1_0'), str(tmp_path / 'hf'), 'hf', target)
  target = convert.Target(vocabulary=str(tmp_path / 'absent.model'))
  with pytest.raises(InputError, match='Cannot read .*absent.model'):
    convert.convert(str(FOLDER / 't5_1_0'), str(tmp_path / 'hf'), 'hf', target)
  assert not list(tmp_path.iterdir())


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  rows = EmbeddedCorpus(num_train=60, num_stress=20, num_test=10).load('train')
  path = tmp_path_factory.mktemp('vocabulary') / 'corpus.model'
  return TrainedSentencePiece(350).train(
    (row['prompt'] for row in rows), str(path)
  )


def test_names_of_all_parameters_are_known():
  flat = traverse_util.flatten_dict(
    layouts.read_params(FOLDER / 't5_1_1'), sep='/'
  )
  assert {hf_names.hf_name(name) for name in flat} == set(
    json.loads((FOLDER / 't5_1_1' / hf_reader.INDEX).read_text())['weight_map']
  )
