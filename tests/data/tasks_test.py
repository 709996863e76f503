import numpy as np
import pytest

from dap.data import arrays, tasks
from dap.data.corpus import EmbeddedCorpus
from dap.data.vocabulary import Bytes, TrainedSentencePiece

CORPUS = EmbeddedCorpus(num_train=60, num_stress=20, num_test=10)
ROWS = CORPUS.load('train')


def trained(folder):
  texts = [row[key] for row in ROWS for key in ('prompt', 'chosen')]
  return TrainedSentencePiece(350).train(texts, str(folder / 'corpus.model'))


@pytest.mark.parametrize(
  ('make_vocabulary', 'prompt_length', 'response_length'),
  [
    (lambda folder: CORPUS.vocabulary(), 40, 22),
    (lambda folder: CORPUS.vocabulary(), 25, 10),
    (lambda folder: Bytes(), 100, 60),
    (trained, 30, 20),
  ],
  ids=['words', 'short words', 'bytes', 'sentencepiece'],
)
def test_a_seqio_task_gives_the_ids_of_our_arrays(
  tmp_path, request, make_vocabulary, prompt_length, response_length
):
  pytest.importorskip('seqio')
  vocabulary = make_vocabulary(tmp_path)
  prepared = arrays.prepare(
    CORPUS,
    'train',
    vocabulary,
    prompt_length=prompt_length,
    response_length=response_length,
    cache_dir=str(tmp_path),
  )
  name = 'dap_' + request.node.callspec.id.replace(' ', '_')
  task = tasks.add_task(name, CORPUS, vocabulary)
  lengths = {'inputs': prompt_length} | dict.fromkeys(
    ('targets', 'rejected'), response_length
  )
  dataset = task.get_dataset(lengths, 'train', shuffle=False)
  columns = {'inputs': prepared.prompts} | {
    'targets': prepared.responses['chosen'],
    'rejected': prepared.responses['rejected'],
  }
  examples = list(dataset.as_numpy_iterator())
  assert len(examples) == len(prepared) == 60
  for i, example in enumerate(examples):
    for key, column in columns.items():
      np.testing.assert_array_equal(example[key], column[i][column[i] > 0])


def test_a_wrapped_vocabulary_is_ours_for_seqio():
  pytest.importorskip('seqio')
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
