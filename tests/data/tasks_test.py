import itertools
import os

import numpy as np
import pytest

from dap.data import arrays, seqio_source, sources, tasks
from dap.data.corpus import EmbeddedCorpus
from dap.data.datasets import PairData
from dap.data.seqio_source import SeqioTask, TaskVocabulary
from dap.data.vocabulary import Bytes, SentencePiece, TrainedSentencePiece
from dap.errors import InputError

CORPUS = EmbeddedCorpus(num_train=60, num_stress=20, num_test=10)
ROWS = CORPUS.load('train')
T5 = os.environ.get('DAP_T5_VOCABULARY')
NUMBERS = itertools.count()


@pytest.fixture
def seqio():
  return pytest.importorskip('seqio', reason='the extra [seqio]')


def trained(folder):
  texts = [row[key] for row in ROWS for key in ('prompt', 'chosen')]
  return TrainedSentencePiece(350).train(texts, str(folder / 'corpus.model'))


def t5(folder):
  if T5 is None:
    pytest.skip('DAP_T5_VOCABULARY names no SentencePiece model of T5')
  return SentencePiece(T5)


KINDS = pytest.mark.parametrize(
  ('make_vocabulary', 'prompt_length', 'response_length'),
  [
    (lambda folder: CORPUS.vocabulary(), 40, 22),
    (lambda folder: CORPUS.vocabulary(), 25, 10),
    (lambda folder: Bytes(), 100, 60),
    (trained, 30, 24),  # long enough for all pairs to differ
    (t5, 60, 40),
    (t5, 30, 12),
  ],
  ids=['words', 'cut words', 'bytes', 'sentencepiece', 't5', 'cut t5'],
)


def prepare(source, vocabulary, folder, lengths, split='train'):
  return arrays.prepare(
    source,
    split,
    vocabulary,
    prompt_length=lengths[0],
    response_length=lengths[1],
    cache_dir=str(folder),
  )


def new_name():
  return f'dap_test_{next(NUMBERS)}'


def assert_same_ids(one, other):
  np.testing.assert_array_equal(one.prompts, other.prompts)
  np.testing.assert_array_equal(one.prompt_ids, other.prompt_ids)
  for side in ('chosen', 'rejected'):
    np.testing.assert_array_equal(one.responses[side], other.responses[side])


def seqio_ids(task, lengths, split='train'):
  asked = {'inputs': lengths[0], 'targets': lengths[1], 'rejected': lengths[1]}
  return list(task.get_dataset(asked, split, shuffle=False).as_numpy_iterator())


def assert_ids(prepared, examples):
  columns = {'inputs': prepared.prompts} | {
    'targets': prepared.responses['chosen'],
    'rejected': prepared.responses['rejected'],
  }
  assert len(examples) == len(prepared)
  for i, example in enumerate(examples):
    for key, column in columns.items():
      np.testing.assert_array_equal(example[key], column[i][column[i] > 0])


@KINDS
def test_a_seqio_task_gives_the_ids_of_our_arrays(
  tmp_path, seqio, make_vocabulary, prompt_length, response_length
):
  lengths = prompt_length, response_length
  vocabulary = make_vocabulary(tmp_path)
  prepared = prepare(CORPUS, vocabulary, tmp_path, lengths)
  assert len(prepared) == 60
  task = tasks.add_task(new_name(), CORPUS, vocabulary)
  assert_ids(prepared, seqio_ids(task, lengths))


@KINDS
def test_a_seqio_task_is_prepared_with_its_own_ids(
  tmp_path, seqio, make_vocabulary, prompt_length, response_length
):
  lengths = prompt_length, response_length
  vocabulary = make_vocabulary(tmp_path)
  task = tasks.add_task(new_name(), CORPUS, vocabulary)
  source = SeqioTask(task.name, modules=())
  data = PairData(source, TaskVocabulary(source), *lengths)
  found = data.trained_vocabulary(tmp_path)
  assert found.fingerprint() == vocabulary.fingerprint()
  prepared = data.prepare('train', found, tmp_path)
  assert_ids(prepared, seqio_ids(task, lengths))
  assert_same_ids(prepared, prepare(CORPUS, vocabulary, tmp_path, lengths))
  assert prepared.row(3)['prompt'] == ROWS[3]['prompt']
  assert data.with_seed(3) == data


@KINDS
def test_prepared_arrays_are_a_task_that_is_prepared_again(
  tmp_path, seqio, make_vocabulary, prompt_length, response_length
):
  lengths = prompt_length, response_length
  vocabulary = make_vocabulary(tmp_path)
  splits = {
    split: prepare(CORPUS, vocabulary, tmp_path, lengths, split)
    for split in ('train', 'test')
  }
  task = tasks.add_prepared_task(new_name(), splits, vocabulary)
  assert task.num_input_examples('test') == 10
  assert_ids(splits['train'], seqio_ids(task, lengths))
  source = SeqioTask(task.name, modules=())
  for split, ours in splits.items():
    again = prepare(source, source.vocabulary(), tmp_path, lengths, split)
    assert_same_ids(again, ours)
  shorter = (prompt_length // 2, response_length // 2)
  direct = prepare(CORPUS, vocabulary, tmp_path, shorter)
  assert_ids(direct, seqio_ids(task, shorter))  # cut twice is cut once


@pytest.mark.parametrize('pack', [False, True])
def test_the_names_of_a_pair_do_not_disturb_t5x(seqio, pack):
  task = tasks.add_task(new_name(), CORPUS, Bytes())
  lengths = {'inputs': 60, 'targets': 50}
  dataset = task.get_dataset(lengths, 'train', shuffle=False)
  assert dataset.element_spec['id'] == dataset.element_spec['source']
  converted = seqio.EncDecFeatureConverter(pack)(dataset, lengths)
  batch = next(iter(converted.as_numpy_iterator()))
  assert batch['decoder_target_tokens'].shape == (50,)
  assert all(value.dtype == np.int32 for value in batch.values())


def test_targets_are_no_pairs_for_a_task(tmp_path, seqio):
  both = sources.BothResponses(CORPUS)
  prepared = prepare(both, Bytes(), tmp_path, (9, 9))
  with pytest.raises(InputError, match='the split train has response'):
    tasks.add_prepared_task(new_name(), {'train': prepared}, Bytes())


def test_a_wrapped_vocabulary_is_ours_for_seqio(seqio):
  ours = CORPUS.vocabulary()
  wrapped = tasks.seqio_vocabulary(ours)
  text = 'my boss and i argued'
  ids = ours.encode(text)
  assert (wrapped.vocab_size, wrapped.eos_id) == (ours.size, 1)
  assert list(wrapped.encode(text)) == ids
  assert wrapped.decode(ids) == text
  np.testing.assert_array_equal(wrapped.encode_tf(text), ids)
  assert wrapped.decode_tf(np.array(ids)).numpy().decode() == text
  assert wrapped == tasks.seqio_vocabulary(ours)


# Tasks that are not ours


def foreign_task(
  seqio, rows, features=('prompt', 'chosen', 'rejected'), **kinds
):
  """A Task that somebody else registered, of token ids as they are."""
  import tensorflow as tf

  def dataset(split, shuffle_files=False, seed=None):
    return tf.data.Dataset.from_generator(
      lambda: iter(rows),
      output_signature={f: tf.TensorSpec([None], tf.int32) for f in features},
    )

  vocabulary = kinds.get('vocabulary', seqio.ByteVocabulary(extra_ids=0))
  others = kinds.get('others', {})
  return seqio.TaskRegistry.add(
    new_name(),
    source=seqio.FunctionDataSource(dataset, splits=('train', 'validation')),
    preprocessors=[],
    output_features={
      f: seqio.Feature(others.get(f, vocabulary), add_eos=True)
      for f in features
    },
  )


def own_names(task, **others):
  names = {'prompt': 'prompt', 'chosen': 'chosen', 'rejected': 'rejected'}
  given = {'modules': (), 'test': 'validation', **names, **others}
  return SeqioTask(task.name, **given)


def test_a_foreign_task_keeps_its_ids_without_a_second_end(tmp_path, seqio):
  row = {'prompt': [104, 105, 1], 'chosen': [100, 1], 'rejected': [101]}
  other = row | {'rejected': [102, 1]}
  source = own_names(foreign_task(seqio, [row, other]))
  prepared = prepare(source, source.vocabulary(), tmp_path, (4, 3))
  np.testing.assert_array_equal(prepared.prompts, [[104, 105, 1, 0]] * 2)
  np.testing.assert_array_equal(prepared.responses['chosen'][0], [100, 1, 0])
  np.testing.assert_array_equal(prepared.responses['rejected'][0], [101, 0, 0])
  assert prepared.counts['no_end'] == 1
  assert '1 of 4 responses (25.0 %) have no end and are not cut' in (
    prepared.report
  )
  assert source.load('test')[0]['prompt'] == 'ef'
  assert source.vocabulary() == Bytes()
  assert source.load('stress') == []


def test_what_seqio_cuts_is_not_counted_and_has_no_other_rule(tmp_path, seqio):
  long = [100] * 9
  row = {'prompt': [104, 105, 1], 'chosen': long, 'rejected': [101, 1]}
  source = own_names(foreign_task(seqio, [row]))
  prepared = prepare(source, source.vocabulary(), tmp_path, (4, 3))
  assert prepared.report == (
    '1 examples, whose ids seqio had cut already. 1 of 2 responses (50.0 %)'
    ' fill their 3 tokens without an end: cut, or without one from the start.'
    ' 0 of 1 prompts (0.0 %) fill their 4 tokens: at most these lost something.'
  )
  for rule in (arrays.drop, arrays.refuse):
    data = PairData(source, source.vocabulary(), 4, 3, rule)
    with pytest.raises(InputError, match=f'is trim; got {rule.__name__}. Ch'):
      data.prepare('train', source.vocabulary(), tmp_path)


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ({'chosen': []}, 'example 1: chosen has no token in this vocabulary'),
    ({'chosen': [5, 0, 6]}, 'chosen needs ids from 1 to 258.* got 0 to 6'),
    ({'rejected': [259]}, 'rejected needs ids from 1 to 258.* got 259 to 259'),
  ],
)
def test_ids_that_cannot_be_kept_are_refused(tmp_path, seqio, row, message):
  good = {'prompt': [5], 'chosen': [6, 1], 'rejected': [7, 1]}
  source = own_names(foreign_task(seqio, [good | row]))
  with pytest.raises(InputError, match=message):
    prepare(source, source.vocabulary(), tmp_path, (4, 3))


def test_a_task_that_does_not_fit_is_refused(tmp_path, seqio):
  good = {'prompt': [5], 'chosen': [6, 1], 'rejected': [7, 1]}
  task = foreign_task(seqio, [good])
  with pytest.raises(InputError, match='seqio knows no Task.*modules'):
    SeqioTask('no_such_task', modules=()).load('train')
  with pytest.raises(InputError, match='needs the output features inputs, tar'):
    SeqioTask(task.name, modules=()).load('train')
  with pytest.raises(InputError, match='has train, validation. Give SeqioTask'):
    own_names(task, test='test').load('test')
  with pytest.raises(InputError, match='at least 1, got 0'):
    own_names(task, num_examples=0).load('train')
  with pytest.raises(InputError, match='ids of its own vocabulary, bytes of 2'):
    prepare(own_names(task), CORPUS.vocabulary(), tmp_path, (4, 3))


def test_a_module_of_tasks_that_is_not_there_is_named(
  seqio, tmp_path, monkeypatch
):
  for module in ('no_such_tasks', 'dap.data.no_such_tasks'):
    with pytest.raises(InputError, match=f'no module {module} .*PYTHONPATH'):
      SeqioTask('any', modules=(module,)).load('train')
  (tmp_path / 'lacking_tasks.py').write_text('import no_such_library')
  monkeypatch.syspath_prepend(str(tmp_path))
  with pytest.raises(
    InputError, match='lacking_tasks of .* no_such_library, w'
  ):
    SeqioTask('any', modules=('lacking_tasks',)).load('train')


def test_vocabularies_that_do_not_fit_are_refused(seqio):
  wide = seqio.ByteVocabulary(extra_ids=10)
  several = foreign_task(seqio, [], others={'chosen': wide})
  with pytest.raises(InputError, match='must have one vocabulary for prompt'):
    own_names(several).vocabulary()
  other_end = seqio.PassThroughVocabulary(50, eos_id=7)
  with pytest.raises(InputError, match='padding 0 and end 1; .* has 0 and 7'):
    own_names(foreign_task(seqio, [], vocabulary=other_end)).vocabulary()


def test_other_vocabularies_of_seqio_become_ours(seqio):
  own = seqio_source.OfSeqio(seqio.ByteVocabulary(extra_ids=10))
  ids = own.encode('tea')
  assert ids == Bytes().encode('tea')
  assert own.decode([*ids, 0, 1, 5]) == 'tea'
  assert own.size == 269


def test_a_fingerprint_names_the_ids(seqio):
  good = {'prompt': [5], 'chosen': [6, 1], 'rejected': [7, 1]}
  task = foreign_task(seqio, [good])
  once = own_names(task).fingerprint()
  seqio_source._ids_hash.cache_clear()
  assert own_names(task).fingerprint() == once
  other = foreign_task(seqio, [good | {'chosen': [8, 1]}])
  assert own_names(other).fingerprint() != once
