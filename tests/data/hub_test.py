import json
import pathlib
from unittest import mock

import numpy as np
import pytest

from dap.data import formats, hub, tfds_builder
from dap.data.corpus import EmbeddedCorpus
from dap.data.hub import HuggingFaceRows, TfdsRows
from dap.data.readers import JsonlFiles
from dap.data.sources import Formatted
from dap.errors import InputError

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data'
PAIRS = Formatted(JsonlFiles(str(FIXTURES / 'pairs.jsonl')), formats.pairs)
CORPUS = EmbeddedCorpus(num_train=60, num_stress=20, num_test=10)
ROWS = CORPUS.load('train')


def question_pairs(row, where):
  return formats.pairs(row, where, prompt='question')


def test_what_is_not_installed_is_named_with_the_way_to_install_it():
  with pytest.raises(InputError, match=r"pip install 'dap\[seqio\]'"):
    hub.optional('no_such_module')


# TFDS


def written(folder):
  pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
  builder = tfds_builder.tfds_builder(CORPUS, str(folder), name='small')
  builder.download_and_prepare()
  return builder


def test_the_corpus_survives_tfds(tmp_path):
  builder = written(tmp_path)
  assert builder.info.splits['stress'].num_examples == 20
  assert str(builder.data_path).endswith('dap_pairs/small/1.0.0')
  reader = TfdsRows(str(builder.data_path))
  rows = [row for _, row in reader.read('train')]
  for row, ours in zip(rows, ROWS, strict=True):
    assert row == pytest.approx(ours)  # utilities too, in 32 bits
  texts = Formatted(reader, formats.pairs).load('train')
  assert [row['chosen'] for row in texts] == [row['chosen'] for row in ROWS]


def test_a_tfds_name_and_a_part_of_a_split_are_read(tmp_path):
  builder = written(tmp_path)
  reader = TfdsRows(
    'dap_pairs/small', data_dir=str(tmp_path), train='stress[:25%]', test=None
  )
  stress = [row['prompt'] for row in CORPUS.load('stress')[:5]]
  assert [row['prompt'] for _, row in reader.read('train')] == stress
  with pytest.raises(InputError, match=r'has none: give TfdsRows\(test=SPLIT'):
    reader.read('test')
  assert reader.fingerprint() != TfdsRows(str(builder.data_path)).fingerprint()


def completion(number):
  """A completion whose objects, lists and numbers are all its own."""
  return {
    'response': f'answer {number}',
    'overall_score': float(number),
    'annotations': {
      'helpfulness': {'Rating': str(number), 'Type': ['a'] * number},
      'honesty': {'Rating': f'{number}!'},
    },
    'sources': [{'name': f'{number}-{i}'} for i in range(number % 3)],
  }


def test_lists_of_objects_with_objects_in_them_stay_whole(tmp_path):
  tfds = pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
  features = tfds.features
  text = features.Text()
  rated = {'Rating': text, 'Type': features.Sequence(text)}
  of_completion = {
    'response': text,
    'overall_score': features.Scalar(np.float64),
    'annotations': {'helpfulness': rated, 'honesty': {'Rating': text}},
    'sources': features.Sequence({'name': text}),
  }
  of_row = features.FeaturesDict(
    {'instruction': text, 'completions': features.Sequence(of_completion)}
  )
  rows = [
    {
      'instruction': f'Count to {count}.',
      'completions': [completion(number) for number in range(count)],
    }
    for count in (5, 0, 2)
  ]
  tfds.dataset_builders.store_as_tfds_dataset(
    name='nested',
    version='1.0.0',
    features=of_row,
    split_datasets={'train': list(enumerate(rows))},
    data_dir=tmp_path,
    disable_shuffling=True,
  )
  reader = TfdsRows('nested:1.0.0', data_dir=str(tmp_path), test=None)
  assert [row for _, row in reader.read('train')] == rows
  pairs = Formatted(reader, formats.ultrafeedback).load('train')
  assert [row['chosen'] for row in pairs] == ['answer 4', 'answer 1']


def test_a_tfds_data_set_that_does_not_fit_is_refused(tmp_path):
  folder = str(written(tmp_path).data_path)
  with pytest.raises(InputError, match='train row 1: .*question is missing'):
    Formatted(TfdsRows(folder), question_pairs).load('train')
  with pytest.raises(InputError, match='the split dev .* has train, test,'):
    TfdsRows(folder, train='dev').read('train')
  with pytest.raises(InputError, match='no prepared TFDS data set'):
    TfdsRows(str(tmp_path / 'none')).read('train')


def test_a_builder_needs_rows(tmp_path):
  pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
  empty = EmbeddedCorpus(num_train=1, num_stress=0, num_test=1)
  with pytest.raises(InputError, match='None of the splits stress has rows'):
    tfds_builder.tfds_builder(empty, str(tmp_path), ('stress',))


# Hugging Face


@pytest.fixture
def datasets(monkeypatch, tmp_path):
  found = pytest.importorskip('datasets', reason='the extra [huggingface]')
  monkeypatch.setattr('datasets.config.HF_DATASETS_CACHE', tmp_path / 'cache')
  return found


def folder_of_files(folder):
  folder.mkdir()
  lines = [json.dumps(row) for row in PAIRS.load('train')]
  for split in ('train', 'test'):
    (folder / f'{split}.jsonl').write_text('\n'.join(lines))
  return str(folder)


def test_a_folder_for_hugging_face_gives_its_rows(datasets, tmp_path):
  name = folder_of_files(tmp_path / 'data')
  source = Formatted(HuggingFaceRows(name), formats.pairs)
  assert source.load('test') == PAIRS.load('train')
  assert source.load('stress') == []
  half = Formatted(HuggingFaceRows(name, test='train[:50%]'), formats.pairs)
  assert half.load('test') == PAIRS.load('train')[:2]
  with pytest.raises(InputError, match='train row 1: .*question is missing'):
    Formatted(HuggingFaceRows(name), question_pairs).load('train')
  with pytest.raises(InputError, match='split dev: Unknown split "dev"'):
    Formatted(HuggingFaceRows(name, train='dev'), formats.pairs).load('train')
  with pytest.raises(InputError, match='needed, but .*SPLIT'):
    Formatted(HuggingFaceRows(name, test=None), formats.pairs).load('test')


def test_a_hugging_face_fingerprint_names_the_rows(datasets, tmp_path):
  names = [folder_of_files(tmp_path / name) for name in ('one', 'two')]
  one, two = (HuggingFaceRows(name) for name in names)
  assert one.fingerprint() == two.fingerprint()
  part = HuggingFaceRows(names[0], train='train[1:]')
  assert part.fingerprint() != one.fingerprint()
  no_test = HuggingFaceRows(names[0], test=None)
  assert no_test.fingerprint() != one.fingerprint()


def test_rows_are_read_once_for_a_fingerprint(datasets, tmp_path, monkeypatch):
  reader = HuggingFaceRows(folder_of_files(tmp_path / 'data'))
  once = reader.fingerprint()
  monkeypatch.setattr(HuggingFaceRows, 'read', None)
  assert HuggingFaceRows(reader.name).fingerprint() == once


def test_a_data_set_that_cannot_be_loaded_is_named(datasets, tmp_path):
  with pytest.raises(InputError, match=f'{tmp_path} cannot be loaded'):
    HuggingFaceRows(str(tmp_path)).read('train')


def no_network(*args, **kwargs):
  raise ConnectionError("Couldn't reach the Hub (LocalEntryNotFoundError)")


def test_a_missing_network_is_called_so(monkeypatch):
  pytest.importorskip('datasets', reason='the extra [huggingface]')
  tfds = pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
  monkeypatch.setattr('datasets.load_dataset', no_network)
  monkeypatch.setattr(tfds, 'builder', no_network)
  for reader in (HuggingFaceRows('a/b'), TfdsRows('huggingface:a__b')):
    with pytest.raises(InputError, match='a/?_*b is not .* network is missing'):
      reader.read('train')


def test_a_part_of_a_set_has_no_hugging_face_name_in_tfds():
  for asked in ({'hub_folder': 'helpful-base'}, {'hub_revision': 'v2'}):
    reader = TfdsRows('huggingface:anthropic__hh_rlhf', **asked)
    (what,) = asked.values()
    with pytest.raises(InputError, match=f'cannot ask the hub for {what}'):
      reader.read('train')


def test_a_gated_set_says_how_to_log_in(datasets, monkeypatch):
  from huggingface_hub import errors

  name = 'lmsys/chatbot_arena_conversations'

  def refuse(*args, **kwargs):
    gated = errors.GatedRepoError('401', response=mock.MagicMock())
    raise datasets.exceptions.DatasetNotFoundError('no access') from gated

  monkeypatch.setattr(datasets, 'load_dataset', refuse)
  with pytest.raises(InputError) as caught:
    HuggingFaceRows(name).read('train')
  said = str(caught.value)
  assert f'https://huggingface.co/datasets/{name}' in said
  assert 'hf auth login' in said and 'HF_TOKEN' in said
  assert '--gin_file=gin/data/readers/jsonl.gin' in said
