import logging
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap.data import vocabulary
from dap.data.corpus import EmbeddedCorpus
from dap.data.vocabulary import (
  Bytes,
  SentencePiece,
  TrainedSentencePiece,
  Words,
)
from dap.errors import InputError

LAWS = settings(deadline=None, derandomize=True, max_examples=50)
UNICODE = st.text(st.characters(exclude_categories=['Cs']))


def texts():
  rows = EmbeddedCorpus(num_train=200).load('train')
  return [row[key] for row in rows for key in ('prompt', 'chosen')]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  path = tmp_path_factory.mktemp('vocabulary') / 'trained.model'
  return TrainedSentencePiece(400).train(texts(), str(path))


@LAWS
@given(UNICODE)
def test_any_text_survives_bytes(text):
  ids = Bytes().encode(text)
  assert Bytes().decode(ids) == text
  assert all(3 <= i < 259 for i in ids)


def test_bytes_are_numbered_as_byt5_numbers_them():
  assert Bytes().encode('aä') == [100, 198, 167]  # 97 + 3, 0xc3 + 3, 0xa4 + 3
  assert Bytes().size == 259


@pytest.mark.parametrize(
  'kind', [Bytes(), Words(('a', 'b')), Words(('a',))], ids=repr
)
def test_decoding_stops_at_the_end_and_skips_padding(kind):
  a = kind.encode('a')[0]
  assert kind.decode([0, a, 0, 1, a, a]) == 'a'
  assert kind.decode([]) == ''


def test_decoding_a_character_cut_in_two_gives_a_mark():
  assert Bytes().decode(Bytes().encode('aä')[:-1]) == 'a\ufffd'


def test_words_are_numbered_from_three_and_others_are_unknown():
  words = Words(('big', 'dog'))
  assert words.encode('dog  big cat') == [4, 3, 2]
  assert words.decode([4, 2, 3, 77]) == 'dog <unk> big <unk>'
  assert words.size == 5


@LAWS
@given(st.lists(st.sampled_from(['big', 'dog', 'ran'])))
def test_known_words_survive(words):
  text = ' '.join(words)
  vocabulary = Words(('big', 'dog', 'ran'))
  assert vocabulary.decode(vocabulary.encode(text)) == text


def test_a_trained_vocabulary_has_our_special_ids(trained):
  assert trained.size == 400
  ids = trained.encode('my boss and i argued')
  assert min(ids) > 2
  assert trained.decode([*ids, 1, 0, 0]) == 'my boss and i argued'


def test_an_id_without_a_piece_is_shown_as_unknown(trained):
  ids = trained.encode('my boss')
  unknown = trained.decode([*ids, vocabulary.UNKNOWN_ID, *ids])
  assert unknown != trained.decode([*ids, *ids])
  for wrong in (trained.size, 9999, -1):
    assert trained.decode([*ids, wrong, *ids]) == unknown
  wide = Bytes().encode('tea')
  assert Bytes().decode([*wide, 259, *wide, 2]) == 'tea\ufffdtea\ufffd'


@LAWS
@given(UNICODE.filter(lambda text: '\0' not in text and '\u2581' not in text))
def test_any_text_survives_a_trained_vocabulary(trained, text):
  assert trained.decode(trained.encode(text)) == text


def test_the_same_texts_give_the_same_vocabulary(trained, tmp_path):
  again = TrainedSentencePiece(400).train(texts(), str(tmp_path / 'a.model'))
  assert again.fingerprint() == trained.fingerprint()
  assert again.path != trained.path
  other = TrainedSentencePiece(300).train(texts(), str(tmp_path / 'b.model'))
  assert other.fingerprint() != trained.fingerprint()


def test_texts_too_few_for_the_size_give_fewer_pieces_and_say_so(
  tmp_path, caplog
):
  with caplog.at_level(logging.WARNING):
    few = TrainedSentencePiece(5000).train(['a b', 'c d'], str(tmp_path / 'm'))
  assert few.size < 5000
  assert f'only {few.size}' in caplog.text


@pytest.mark.parametrize(
  ('size', 'content', 'message'),
  [
    (100, ['a b c'], 'at least 260 pieces'),
    (300, [], 'Give more texts'),
    (300, ['\n'], 'Give more texts'),
  ],
)
def test_training_that_cannot_be_is_refused(tmp_path, size, content, message):
  with pytest.raises(InputError, match=message):
    TrainedSentencePiece(size).train(content, str(tmp_path / 'm.model'))
  assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  path = tmp_path / 'file' / 'm.model'
  with pytest.raises(InputError, match='m.model'):
    TrainedSentencePiece(300).train(texts(), str(path))


def test_what_is_no_sentencepiece_model_is_refused(tmp_path):
  path = tmp_path / 'no.model'
  with pytest.raises(InputError, match='Cannot read the SentencePiece model'):
    SentencePiece(str(path)).encode('a')
  path.write_bytes(b'nonsense')
  with pytest.raises(InputError, match='no SentencePiece model'):
    SentencePiece(str(path)).encode('a')


def test_a_model_with_other_special_ids_is_refused(tmp_path):
  import sentencepiece

  prefix = tmp_path / 'other'
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts()),
    model_prefix=str(prefix),
    vocab_size=100,
    minloglevel=2,
  )
  with pytest.raises(InputError, match='padding -1 and end 2'):
    SentencePiece(f'{prefix}.model').encode('a')


def test_a_fingerprint_names_content(trained, tmp_path):
  copy = tmp_path / 'copy.model'
  copy.write_bytes(pathlib.Path(trained.path).read_bytes())
  assert SentencePiece(str(copy)).fingerprint() == trained.fingerprint()
  assert Words(('a', 'b')).fingerprint() != Words(('b', 'a')).fingerprint()


def test_a_vocabulary_larger_than_the_model_is_refused_with_both_numbers():
  vocabulary.fits(Bytes(), 259)
  with pytest.raises(InputError, match='259 ids.* room for 258'):
    vocabulary.fits(Bytes(), 258)


@pytest.mark.parametrize(
  'kind', [Bytes(), Words(('a',)), SentencePiece('a.model')], ids=repr
)
def test_a_vocabulary_is_a_value(kind):
  assert hash(kind) == hash(eval(repr(kind)))
