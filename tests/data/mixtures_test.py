import importlib
import os
import pathlib
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tiny_commands

from dap import files, main
from dap.data import arrays, formats, public_sets, sources
from dap.data.corpus import EmbeddedCorpus
from dap.data.datasets import PairData
from dap.data.readers import JsonlFiles
from dap.data.schema import PAIR_KEYS
from dap.data.seqio_source import SeqioTask, TaskVocabulary
from dap.data.vocabulary import Bytes, SentencePiece, TrainedSentencePiece
from dap.errors import InputError

RAW = pathlib.Path(__file__).parents[1] / 'fixtures' / 'data' / 'raw'
T5 = os.environ.get('DAP_T5_VOCABULARY')
OF_EACH_FORMAT = (
  'summaries',
  'hh_helpful_base',
  'arena',
  'ultrafeedback_binarized',
  'helpsteer2',
)
CORPUS = EmbeddedCorpus(num_train=64, num_stress=0, num_test=16)


@pytest.fixture
def mixtures(monkeypatch):
  pytest.importorskip('seqio', reason='the extra [seqio]')
  monkeypatch.delenv('DAP_RAW_DATA', raising=False)
  found = importlib.import_module('dap.data.mixtures')
  yield found
  monkeypatch.undo()
  found.register()


def texts(rows):
  return [tuple(row[key] for key in PAIR_KEYS) for row in rows]


def test_importing_registers_and_reads_nothing(tmp_path):
  pytest.importorskip('seqio', reason='the extra [seqio]')
  program = (
    'import seqio, dap.data.mixtures\n'
    'found = seqio.get_mixture_or_task("dap_preferences")\n'
    'print(sorted(found.output_features), len(found.tasks))'
  )
  nowhere = str(tmp_path / 'nowhere')
  names = {'DAP_RAW_DATA': nowhere, 'DAP_VOCABULARY': nowhere}
  done = subprocess.run(
    [sys.executable, '-c', program],
    env=os.environ | names,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == "['inputs', 'rejected', 'targets'] 6\n"


def test_a_mixture_gives_pairs_of_all_its_sets(mixtures):
  mixtures.register(str(RAW), Bytes())
  rows = SeqioTask('dap_preferences', num_examples=300).load('train')
  expected = [
    row
    for names in public_sets.PAPER.values()
    for name in names
    for row in public_sets.local_source(name, str(RAW)).load('train')
  ]
  assert len(rows) == 300 and {*texts(rows)} == {*texts(expected)}
  arena = texts(public_sets.local_source('arena', str(RAW)).load('train'))
  of_arena = sum(pair in arena for pair in texts(rows))
  assert of_arena == pytest.approx(300 / 4, abs=30)  # a task of four
  epoch = SeqioTask('dap_preferences').load('train')
  assert 0 < len(epoch) <= len(expected)
  assert texts(SeqioTask('dap_preferences').load('train')) == texts(epoch)
  other = SeqioTask('dap_preferences', mixing_seed=1).load('train')
  assert texts(other) != texts(epoch)


def test_the_raw_files_and_the_vocabulary_are_named_when_they_are_missing(
  mixtures, monkeypatch, tmp_path
):
  mixtures.register(vocabulary=Bytes())
  with pytest.raises(InputError, match='dap_arena .* set DAP_RAW_DATA'):
    SeqioTask('dap_arena').load('train')
  monkeypatch.setenv('DAP_RAW_DATA', str(tmp_path))
  with pytest.raises(InputError, match='conversations/train.jsonl.gz: no such'):
    SeqioTask('dap_arena').load('train')
  monkeypatch.setenv('DAP_VOCABULARY', str(tmp_path / 'absent.model'))
  mixtures.register(str(RAW))
  with pytest.raises(InputError, match='SentencePiece model .*absent.model'):
    SeqioTask('dap_arena').load('train')
  with pytest.raises(InputError, match='SentencePiece model .*absent.model'):
    TaskVocabulary(SeqioTask('dap_arena')).encode('tea')
  (tmp_path / 'no.model').write_text('none')
  for name in ('absent.model', 'no.model'):
    monkeypatch.setenv('DAP_VOCABULARY', str(tmp_path / name))
    mixtures.register(str(RAW))
    with pytest.raises(InputError, match=f'{name}.* variable DAP_VOCABULARY'):
      SeqioTask('dap_arena').load('train')


def trained(folder):
  rows = public_sets.local_source('arena', str(RAW)).load('train')
  every = [text for row in texts(rows) for text in row]
  return TrainedSentencePiece(300).train(every, str(folder / 'small.model'))


def t5(folder):
  if T5 is None:
    pytest.skip('DAP_T5_VOCABULARY names no SentencePiece model of T5')
  return SentencePiece(T5)


@pytest.mark.parametrize('make_vocabulary', [trained, t5])
@pytest.mark.parametrize('lengths', [(300, 120), (12, 4)], ids=['whole', 'cut'])
@pytest.mark.parametrize('name', OF_EACH_FORMAT)
def test_token_ids_are_those_of_seqio(
  mixtures, tmp_path, name, lengths, make_vocabulary
):
  vocabulary = make_vocabulary(tmp_path)
  mixtures.register(str(RAW), vocabulary)
  task = SeqioTask(f'dap_{name}')
  from_seqio = PairData(task, TaskVocabulary(task), *lengths)
  files_of_set = public_sets.local_source(name, str(RAW))
  from_files = PairData(files_of_set, vocabulary, *lengths)
  for split in ('train', 'test'):
    one, other = (
      data.prepare(split, data.trained_vocabulary(tmp_path), tmp_path / kind)
      for kind, data in (('seqio', from_seqio), ('files', from_files))
    )
    np.testing.assert_array_equal(one.prompts, other.prompts)
    for side in ('chosen', 'rejected'):
      np.testing.assert_array_equal(one.responses[side], other.responses[side])


def test_names_survive_a_mixture_that_repeats_rows(mixtures):
  mixtures.register(str(RAW), Bytes())
  rows = SeqioTask('dap_preferences', num_examples=300).load('train')
  assert len({row['id'] for row in rows}) == len(rows)
  arena = public_sets.local_source('arena', str(RAW)).load('train')
  found = [row for row in rows if row['source'] == 'chatbot_arena']
  assert found[: len(arena)] == arena
  assert found[len(arena)] == arena[0] | {'id': f'{arena[0]["id"]}-2'}
  prepared = {row['source'] for row in rows}
  assert len(prepared) == 6 and 'hh-rlhf/helpful-online' in prepared


def test_a_task_has_the_ids_that_python_gives(mixtures, monkeypatch, tmp_path):
  vocabulary = trained(tmp_path)
  mixtures.register(str(RAW), vocabulary)

  def encode(self, text):
    return [7, 8, 9 + zlib.crc32(text.encode()) % 250]

  monkeypatch.setattr(SentencePiece, 'encode', encode)
  task = mixtures.tasks.add_task('dap_test_python', CORPUS, vocabulary)
  for name in ('dap_arena', task.name):
    source = SeqioTask(name)
    data = PairData(source, vocabulary, 10, 10)
    prepared = data.prepare('train', vocabulary, tmp_path / name)
    row = prepared.row(0)
    np.testing.assert_array_equal(
      prepared.prompts[0, :4], [*encode(None, row['prompt']), 0]
    )
    np.testing.assert_array_equal(
      prepared.responses['rejected'][0, :5],
      [*encode(None, row['rejected']), 1, 0],
    )


def test_texts_with_several_best_cuts_have_the_same_ids(mixtures, tmp_path):
  vocabulary = t5(tmp_path)
  rows = [
    {'prompt': f'Fill in {run}', 'chosen': run * 3, 'rejected': f'a{run}b'}
    for mark in '_*-=#.'
    for run in (mark * n for n in range(2, 23))
  ]
  path = tmp_path / 'runs.jsonl'
  files.append_json_lines(path, rows)
  source = sources.Formatted(JsonlFiles(str(path)), formats.pairs)
  name = f'dap_test_{tmp_path.name}'
  mixtures.tasks.add_task(name, source, vocabulary)
  one, other = (
    PairData(each, vocabulary, 40, 60).prepare('train', vocabulary, tmp_path)
    for each in (source, SeqioTask(name, test=None))
  )
  assert len(one) == len(rows)
  np.testing.assert_array_equal(one.prompts, other.prompts)
  for side in ('chosen', 'rejected'):
    np.testing.assert_array_equal(one.responses[side], other.responses[side])


def test_a_policy_trains_on_a_seqio_task_as_on_the_files(
  mixtures, tmp_path, monkeypatch
):
  folder = tmp_path / 'raw' / 'hh-rlhf' / 'helpful-base'
  for split in ('train', 'test'):
    start = '\n\nHuman: {}\n\nAssistant: {}'
    rows = [
      {k: start.format(row['prompt'], row[k]) for k in ('chosen', 'rejected')}
      for row in CORPUS.load(split)
    ]
    files.append_json_lines(folder / f'{split}.jsonl', rows)
  mixtures.register(str(tmp_path / 'raw'), Bytes())
  paths = [
    f'--gin.{split.upper()}_FILE={str(folder / f"{split}.jsonl")!r}'
    for split in ('train', 'test')
  ]
  routes = {
    'files': ['--gin_file=gin/data/bytes.gin', *paths],
    'seqio': ['--gin_file=gin/data/readers/seqio.gin'],
  }
  corpus = [name for name in tiny_commands.SIZES if 'Corpus' in name]
  for route, words in routes.items():
    out = tmp_path / route
    main.main(
      tiny_commands.argv(
        'train', 'sft', out, '--gin_file=gin/data/hh.gin', *words,
        '--gin.VOCABULARY_SIZE=259', without=corpus,
      )
    )  # fmt: skip
  losses = [
    [
      line['loss']
      for line in files.read_json_lines(tmp_path / r / 'metrics.jsonl')
    ]
    for r in routes
  ]
  assert losses[0] == losses[1] and len(losses[0]) == 10


def test_a_prepared_set_is_a_source_of_ids_alone(mixtures, tmp_path):
  mixtures.register(str(RAW), Bytes())
  source = SeqioTask('dap_arena')
  assert isinstance(source, arrays.EncodedSource)
  assert not isinstance(CORPUS, arrays.EncodedSource)
