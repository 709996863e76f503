import json
import pathlib

import pytest

from dap.data import hub, tasks
from dap.data.corpus import EmbeddedCorpus
from dap.data.hub import HuggingFacePairs, TfdsPairs
from dap.data.sources import JsonlPairs
from dap.errors import InputError

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data'
CORPUS = EmbeddedCorpus(num_train=60, num_stress=20, num_test=10)
ROWS = CORPUS.load('train')


def test_the_corpus_survives_tfds(tmp_path):
  pytest.importorskip('tensorflow_datasets')
  builder = tasks.tfds_builder(CORPUS, str(tmp_path))
  builder.download_and_prepare()
  assert builder.info.splits['stress'].num_examples == 20
  source = TfdsPairs(str(builder.data_path))
  keys = ('prompt', 'chosen', 'rejected')
  assert source.load('train') == [{k: row[k] for k in keys} for row in ROWS]
  swapped = TfdsPairs(source.folder, chosen='rejected', rejected='chosen')
  assert swapped.load('test')[0]['chosen'] == source.load('test')[0]['rejected']
  assert swapped.fingerprint() != source.fingerprint()


def test_a_tfds_data_set_that_does_not_fit_is_refused(tmp_path):
  pytest.importorskip('tensorflow_datasets')
  builder = tasks.tfds_builder(CORPUS, str(tmp_path))
  builder.download_and_prepare()
  folder = str(builder.data_path)
  with pytest.raises(InputError, match='prompt is missing'):
    TfdsPairs(folder, prompt='question').load('train')
  with pytest.raises(InputError, match='the dev split is needed'):
    TfdsPairs(folder).load('dev')
  with pytest.raises(InputError, match='no prepared TFDS data set'):
    TfdsPairs(str(tmp_path / 'none')).load('train')


def test_what_is_not_installed_is_named_with_the_way_to_install_it():
  with pytest.raises(InputError, match=r"pip install 'dap\[seqio\]'"):
    hub.optional('no_such_module')


def hugging_face_folder(folder):
  for split in ('train', 'test'):
    rows = JsonlPairs(str(FIXTURES / 'pairs.jsonl')).load('train')
    lines = [json.dumps(row) for row in rows]
    (folder / f'{split}.jsonl').write_text('\n'.join(lines))
  return str(folder)


def test_a_folder_for_hugging_face_gives_its_rows(tmp_path, monkeypatch):
  pytest.importorskip('datasets')
  monkeypatch.setattr('datasets.config.HF_DATASETS_CACHE', tmp_path / 'cache')
  (tmp_path / 'data').mkdir()
  source = HuggingFacePairs(hugging_face_folder(tmp_path / 'data'))
  assert [row['rejected'] for row in source.load('test')] == [
    'A stone.',
    'No.',
    'Fruit.',
    'Lost',
  ]
  assert source.load('stress') == []
  with pytest.raises(InputError, match='train example 1: .*prompt is missing'):
    HuggingFacePairs(source.name, prompt='question').load('train')
  with pytest.raises(InputError, match='has the splits .*; the dev split'):
    source.load('dev')


def test_a_hugging_face_fingerprint_names_the_rows(tmp_path, monkeypatch):
  pytest.importorskip('datasets')
  monkeypatch.setattr('datasets.config.HF_DATASETS_CACHE', tmp_path / 'cache')
  for name in ('one', 'two'):
    (tmp_path / name).mkdir()
    hugging_face_folder(tmp_path / name)
  one, two = (HuggingFacePairs(str(tmp_path / n)) for n in ('one', 'two'))
  assert one.fingerprint() == two.fingerprint()
  swapped = HuggingFacePairs(one.name, chosen='rejected', rejected='chosen')
  assert swapped.fingerprint() != one.fingerprint()


def test_a_data_set_that_cannot_be_loaded_is_named(tmp_path):
  pytest.importorskip('datasets')
  with pytest.raises(InputError, match=f'{tmp_path} cannot be loaded'):
    HuggingFacePairs(str(tmp_path)).load('train')
