"""Every public set gives the same pairs by every route, without a network."""

import dataclasses
import importlib
import json
import pathlib

import numpy as np
import pytest

from dap import main
from dap.data import formats, hub, public_sets, sources, tfds_builder
from dap.data.readers import JsonlFiles
from dap.data.schema import PAIR_KEYS
from dap.data.vocabulary import Bytes
from dap.errors import InputError

RAW = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data' / 'raw'
SETS = list(public_sets.SETS)
PARTS = {
  name: {
    'hh_helpful_base': 'hh',
    'helpsteer2': 'helpsteer',
  }.get(name, name)
  for name in SETS
  if name != 'helpsteer' and (name == 'hh_helpful_base' or name[:2] != 'hh')
}
LENGTHS = ('--gin.PROMPT_LENGTH=200', '--gin.RESPONSE_LENGTH=90')


def local(name):
  return public_sets.local_source(name, str(RAW))


@pytest.fixture
def hub_copy(tmp_path, monkeypatch):
  """A set as the hub has it: Parquet files, a split each; and their splits."""
  datasets = pytest.importorskip('datasets', reason='the extra [huggingface]')
  monkeypatch.setattr('datasets.config.HF_DATASETS_CACHE', tmp_path / 'cache')

  def copy(name):
    reader = local(name).reader
    files = {'train': reader.train, 'test': reader.test}
    # A file has the splits of the hub in its name; one with both is `train`.
    splits = {
      k: pathlib.Path(v).name.partition('.')[0] for k, v in files.items()
    }
    splits |= (
      dict.fromkeys(splits, 'train') if len(set(files.values())) < 2 else {}
    )
    rows = {s: [row for _, row in reader.read(s)] for s in splits}
    every = datasets.Dataset.from_list([*rows['train'], *rows['test']])
    for split, own in splits.items():
      to = tmp_path / name / 'data' / f'{own}-00000-of-00001.parquet'
      to.parent.mkdir(parents=True, exist_ok=True)
      table = datasets.Dataset.from_list(rows[split], features=every.features)
      table.to_parquet(str(to))
    return tmp_path / name, splits

  return copy


@pytest.fixture
def registered(monkeypatch):
  """Our seqio Tasks, which read the fixtures as bytes."""
  pytest.importorskip('seqio', reason='the extra [seqio]')
  mixtures = importlib.import_module('dap.data.mixtures')
  mixtures.register(str(RAW), Bytes())
  yield mixtures
  mixtures.register()


@pytest.mark.parametrize('name', SETS)
def test_files_have_the_one_schema_and_unique_ids(name):
  for split in ('train', 'test'):
    rows = local(name).load(split)
    for row in rows:
      assert list(row) == [*PAIR_KEYS, 'source', 'id']
      assert all(isinstance(value, str) for value in row.values())
    assert len({row['id'] for row in rows}) == len(rows)


@pytest.mark.parametrize('name', SETS)
def test_hugging_face_gives_the_rows_of_the_files(name, hub_copy):
  folder, splits = hub_copy(name)
  files = local(name)
  reader = hub.HuggingFaceRows(str(folder), **splits)
  source = sources.Formatted(reader, files.format, files.group, files.keep)
  for split in ('train', 'test'):
    assert source.load(split) == files.load(split)


@pytest.mark.parametrize('name', SETS)
def test_tfds_gives_the_rows_of_the_files(name, tmp_path):
  pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
  files = local(name)
  builder = tfds_builder.tfds_builder(files, str(tmp_path))
  builder.download_and_prepare()
  reader = hub.TfdsRows(str(builder.data_path))
  source = sources.Formatted(reader, formats.pairs)
  for split in ('train', 'test'):
    assert source.load(split) == files.load(split)


@pytest.mark.parametrize('file_format', ['tfrecord', 'array_record'])
def test_tfds_reads_raw_rows_with_lists_of_objects(
  file_format, tmp_path, capsys
):
  tfds = pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
  text, files = tfds.features.Text(), local('arena')
  dialogue = tfds.features.Sequence({'role': text, 'content': text})
  features = {
    'question_id': text,
    'winner': text,
    'turn': tfds.features.Scalar(np.int64),
  }
  features |= {'conversation_a': dialogue, 'conversation_b': dialogue}
  rows = {
    split: [
      {key: row[key] for key in features} for _, row in files.reader.read(split)
    ]
    for split in ('train', 'test')
  }
  tfds.dataset_builders.store_as_tfds_dataset(
    name='raw_arena',
    version='1.0.0',
    features=tfds.features.FeaturesDict(features),
    split_datasets={k: list(enumerate(v)) for k, v in rows.items()},
    data_dir=tmp_path,
    disable_shuffling=True,
    file_format=file_format,
  )
  reader = hub.TfdsRows('raw_arena:1.0.0', data_dir=str(tmp_path))
  source = sources.Formatted(reader, formats.arena)
  for split in ('train', 'test'):
    assert [row for _, row in reader.read(split)] == rows[split]
    assert source.load(split) == files.load(split)
  words = ('--gin_file=gin/data/readers/tfds_raw.gin',)
  words += (f'--gin.TFDS_DIR={str(tmp_path)!r}',)
  words += (
    "--gin.TFDS_NAME='raw_arena:1.0.0'",
    "--gin.TFDS_TEST='test'",
    '--gin_file=gin/data/bytes.gin',
  )
  assert len(shown(capsys, 'arena', tmp_path / 'cache', *words)) == 4


def test_array_records_are_read_in_parts_and_refused_by_their_splits(tmp_path):
  pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
  files = local('summaries')
  builder = tfds_builder.tfds_builder(files, str(tmp_path))
  builder.download_and_prepare(file_format='array_record')
  reader = hub.TfdsRows(str(builder.data_path), train='train[:1]', test='dev')
  source = sources.Formatted(reader, formats.pairs)
  assert source.load('train') == files.load('train')[:1]
  with pytest.raises(InputError, match='dev cannot be read.* has train, test'):
    source.load('test')


def raw_arena(count):
  """Raw rows of the arena; every question is asked twice."""

  def talk(question, answer):
    roles = ('user', 'assistant')
    return [
      {'role': role, 'content': text}
      for role, text in zip(roles, (question, answer))
    ]

  return [
    {
      'question_id': f'q{i}',
      'winner': 'model_a',
      'conversation_a': talk(f'What is {i // 2}?', f'Good {i}'),
      'conversation_b': talk(f'What is {i // 2}?', f'Bad {i}'),
    }
    for i in range(count)
  ]


def without_test_split(folder):
  """The arena's source from one file, and its rows."""
  rows = raw_arena(400)
  to = folder / 'raw' / 'chatbot_arena_conversations'
  to.mkdir(parents=True)
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (to / 'train.jsonl').write_text(lines)
  return public_sets.local_source('arena', str(folder / 'raw')), rows


def assert_same_splits(source, files):
  for split in ('train', 'test'):
    assert source.load(split) == files.load(split)


def test_a_set_without_a_test_split_holds_out_a_twentieth(tmp_path):
  files, rows = without_test_split(tmp_path)
  train, test = (files.load(split) for split in ('train', 'test'))
  assert len(train) + len(test) == len(rows)
  assert len(test) == pytest.approx(20, abs=10)  # 5 % of 400
  assert not {r['prompt'] for r in train} & {r['prompt'] for r in test}
  assert [int(r['id'][1:]) for r in test[:4]] == [0, 1, 4, 5]


def test_a_twentieth_is_the_same_by_seqio(tmp_path, registered):
  files, _ = without_test_split(tmp_path)
  registered.register(str(tmp_path / 'raw'), Bytes())
  from dap.data.seqio_source import SeqioTask

  assert_same_splits(SeqioTask('dap_arena'), files)


def test_a_twentieth_is_the_same_by_hugging_face(tmp_path, monkeypatch):
  datasets = pytest.importorskip('datasets', reason='the extra [huggingface]')
  monkeypatch.setattr('datasets.config.HF_DATASETS_CACHE', tmp_path / 'cache')
  files, rows = without_test_split(tmp_path)
  (tmp_path / 'hub').mkdir()
  to = tmp_path / 'hub' / 'train-00000-of-00001.parquet'
  datasets.Dataset.from_list(rows).to_parquet(str(to))
  reader = hub.HuggingFaceRows(str(tmp_path / 'hub'), test=None)
  assert_same_splits(dataclasses.replace(files, reader=reader), files)


def test_a_twentieth_is_the_same_by_tfds(tmp_path):
  tfds = pytest.importorskip('tensorflow_datasets', reason='the extra [seqio]')
  files, rows = without_test_split(tmp_path)
  text = tfds.features.Text()
  dialogue = tfds.features.Sequence({'role': text, 'content': text})
  tfds.dataset_builders.store_as_tfds_dataset(
    name='one_split',
    version='1.0.0',
    features=tfds.features.FeaturesDict(
      {key: text for key in ('question_id', 'winner')}
      | {key: dialogue for key in ('conversation_a', 'conversation_b')}
    ),
    split_datasets={'train': list(enumerate(rows))},
    data_dir=tmp_path,
  )  # in TFDS's own order
  reader = hub.TfdsRows('one_split:1.0.0', data_dir=str(tmp_path), test=None)
  source = dataclasses.replace(files, reader=reader)
  for split in ('train', 'test'):
    found = sorted(source.load(split), key=str)
    assert found == sorted(files.load(split), key=str)


def test_a_part_without_a_test_split_needs_the_training_file_alone(
  tmp_path, capsys
):
  files, rows = without_test_split(tmp_path)
  words = (
    '--gin_file=gin/data/bytes.gin',
    f'--gin.TRAIN_FILE={files.reader.train!r}',
  )
  assert len(shown(capsys, 'arena', tmp_path / 'cache', *words)) == 6
  folder = tmp_path / 'raw' / 'UltraFeedback'
  folder.mkdir()
  rows = [
    {
      'instruction': f'Count to {i}.',
      'completions': [
        {'response': r, 'overall_score': s} for r, s in (('1', 2.0), ('2', 1.0))
      ],
    }
    for i in range(100)
  ]
  path = folder / 'train.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  words = ('--gin_file=gin/data/bytes.gin', f'--gin.TRAIN_FILE={str(path)!r}')
  by_part = shown(capsys, 'ultrafeedback', tmp_path / 'cache', *words)
  source = public_sets.local_source('ultrafeedback', str(tmp_path / 'raw'))
  for row, found in zip(source.load('test'), by_part[3:], strict=False):
    assert row['prompt'].strip() in found


def test_training_rows_need_no_file_of_test_rows(tmp_path):
  to = tmp_path / 'HelpSteer'
  to.mkdir()
  train = pathlib.Path(local('helpsteer').reader.train)
  (to / 'train.jsonl').write_bytes(train.read_bytes())
  source = public_sets.local_source('helpsteer', str(tmp_path))
  assert source.load('train') == local('helpsteer').load('train')
  with pytest.raises(InputError, match='HelpSteer/validation.jsonl.gz: no suc'):
    source.load('test')


@pytest.mark.parametrize('name', SETS)
def test_seqio_gives_the_rows_of_the_files(name, registered):
  del registered
  from dap.data.seqio_source import SeqioTask

  for split in ('train', 'test'):
    assert SeqioTask(f'dap_{name}').load(split) == local(name).load(split)


def shown(capsys, part, cache, *words):
  """The examples that `dap data` prints for a part, without reports."""
  capsys.readouterr()
  main.main([
    'data',
    f'--gin_file=gin/data/{part}.gin',
    *words,
    *LENGTHS,
    f'--gin.data.prepare_data.cache_dir={str(cache)!r}',
  ])  # fmt: skip
  printed = capsys.readouterr().out.partition('Downloading and prep')[0]
  return [
    example.split('\ntest:')[0] for example in printed.split('  prompt:   ')[1:]
  ]


@pytest.mark.parametrize('name', PARTS)
def test_dap_data_shows_the_same_examples_by_every_route(
  name, hub_copy, registered, tmp_path, capsys
):
  del registered
  files, part = local(name), PARTS[name]
  paths = {'TRAIN_FILE': files.reader.train, 'TEST_FILE': files.reader.test}
  folder, splits = hub_copy(name)
  on_hub = {'HUB_NAME': str(folder), 'HUB_FOLDER': None}
  on_hub |= {'HUB_REVISION': None}
  on_hub |= {'HUB_TRAIN': splits['train'], 'HUB_TEST': splits['test']}
  tfds_dir = tmp_path / 'tfds'
  and_tfds = {'data.prepare_data.tfds_dir': str(tfds_dir)}
  routes = {
    'jsonl': paths | and_tfds,  # writes what the third route reads
    'huggingface': on_hub,
    'tfds': {},
    'seqio': {},
  }
  examples = {}
  for route, given in routes.items():
    if route == 'tfds':
      (folder,) = tfds_dir.glob('dap_pairs/*/1.0.0')
      given = {'TFDS_NAME': str(folder)}
    words = [f'--gin_file=gin/data/readers/{route}.gin']
    if route != 'seqio':
      words.append('--gin_file=gin/data/bytes.gin')
    words += [f'--gin.{key}={value!r}' for key, value in given.items()]
    examples[route] = shown(capsys, part, tmp_path / route, *words)
  assert len(examples['jsonl']) == sum(
    min(3, len(files.load(split))) for split in ('train', 'test')
  )
  for route in routes:
    assert examples[route] == examples['jsonl'], route


def test_a_reader_is_a_value():
  for kind in (
    JsonlFiles('a'),
    hub.HuggingFaceRows('a', folder='b'),
    hub.TfdsRows('a'),
  ):
    assert hash(kind) == hash(eval(repr(kind), {**vars(hub), **globals()}))
