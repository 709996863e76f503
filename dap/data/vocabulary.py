"""Layer 3. Vocabularies: text to token ids and back.

Ids: `PADDING`, `END` of a sequence, 2 an unknown word. `encode` adds no
end; `decode` stops before it and skips padding. A vocabulary is a value, and
its `fingerprint` names its content, not where it is kept.
"""

import hashlib
import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Protocol, SupportsInt, runtime_checkable

from dap import files
from dap.data import paths
from dap.errors import InputError
from dap.records import END, PADDING

UNKNOWN_ID = 2
_NO_UTF8 = 0xFF  # a byte that stands in no UTF-8
NUM_SPECIAL = 3


@runtime_checkable
class Vocabulary(Protocol):
  """What `prepare` and the samplers' readers need of a vocabulary."""

  @property
  def size(self) -> int: ...

  def encode(self, text: str) -> list[int]: ...

  def decode(self, ids: Iterable[SupportsInt]) -> str: ...

  def fingerprint(self) -> str: ...


if TYPE_CHECKING:
  UnreadVocabulary = Vocabulary
else:
  UnreadVocabulary = object  # to check its size would be to read its file


def until_end(ids: Iterable[SupportsInt]) -> list[int]:
  """The ids before the first end, without padding."""
  kept = []
  for token in map(int, ids):
    if token == END:
      break
    if token != PADDING:
      kept.append(token)
  return kept


@dataclass(frozen=True)
class Bytes:
  """UTF-8 bytes, as ByT5 numbers them: byte + 3. Any text survives."""

  @property
  def size(self) -> int:
    return 256 + NUM_SPECIAL

  def encode(self, text: str) -> list[int]:
    return [byte + NUM_SPECIAL for byte in text.encode('utf-8')]

  def decode(self, ids: Iterable[SupportsInt]) -> str:
    """Bytes that are no UTF-8 become U+FFFD, as does each id of no byte."""
    low, high = NUM_SPECIAL, self.size
    kept = bytes(
      i - low if low <= i < high else _NO_UTF8 for i in until_end(ids)
    )
    return kept.decode('utf-8', errors='replace')

  def fingerprint(self) -> str:
    return 'bytes'


@dataclass(frozen=True)
class Words:
  """A fixed list of words, parted by blanks in a text."""

  words: tuple[str, ...]

  @property
  def size(self) -> int:
    return NUM_SPECIAL + len(self.words)

  @cached_property
  def _ids(self) -> dict[str, int]:
    return {word: NUM_SPECIAL + i for i, word in enumerate(self.words)}

  def encode(self, text: str) -> list[int]:
    ids = self._ids
    return [ids.get(word, UNKNOWN_ID) for word in text.split()]

  def decode(self, ids: Iterable[SupportsInt]) -> str:
    """Ids beyond the list read `<unk>`, as the unknown word itself does."""
    return ' '.join(
      self.words[i - NUM_SPECIAL] if NUM_SPECIAL <= i < self.size else '<unk>'
      for i in until_end(ids)
    )

  def fingerprint(self) -> str:
    content = '\n'.join(self.words).encode('utf-8')
    return f'words-{hashlib.sha256(content).hexdigest()}'


@runtime_checkable
class _Processor(Protocol):
  """What is used of sentencepiece's own, which has no types."""

  def get_piece_size(self) -> int: ...

  def encode(self, text: str, /) -> list[int]: ...

  def decode(self, ids: list[int], /) -> str: ...


@dataclass(frozen=True)
class SentencePiece:
  """A SentencePiece model, such as T5's: padding 0, end 1.

  Attributes:
    path: of the .model file, local or of a protocol that `dap/data/paths.py`
      opens.
  """

  path: str

  @property
  def _processor(self) -> _Processor:
    return _load_processor(self.path)

  @property
  def size(self) -> int:
    return self._processor.get_piece_size()

  def encode(self, text: str) -> list[int]:
    return self._processor.encode(text)

  def decode(self, ids: Iterable[SupportsInt]) -> str:
    """Ids that have no piece read as the unknown piece does."""
    size = self.size
    return self._processor.decode(
      [i if 0 <= i < size else UNKNOWN_ID for i in until_end(ids)]
    )

  def fingerprint(self) -> str:
    content = _read_model(self.path)
    return f'sentencepiece-{hashlib.sha256(content).hexdigest()}'


_CURE = (
  'Give the path of a .model file (to the seqio Tasks of dap.data.mixtures by'
  ' the environment variable DAP_VOCABULARY), or train one on your texts with'
  ' TrainedSentencePiece.'
)


def _read_model(path: str) -> bytes:
  try:
    return paths.read(path)
  except (OSError, InputError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise InputError(
      f'Cannot read the SentencePiece model {path}: {reason}. {_CURE}'
    ) from error


@lru_cache(8)
def _load_processor(path: str) -> _Processor:
  import sentencepiece

  processor = sentencepiece.SentencePieceProcessor()
  try:
    processor.LoadFromSerializedProto(_read_model(path))
  except (RuntimeError, OSError) as error:
    raise InputError(
      f'{path} is no SentencePiece model: {error}. {_CURE}'
    ) from error
  if (processor.pad_id(), processor.eos_id()) != (PADDING, END):
    raise InputError(
      f'A vocabulary needs padding {PADDING} and end {END}; {path} has padding'
      f' {processor.pad_id()} and end {processor.eos_id()}. Train one with'
      f' pad_id={PADDING}, eos_id={END}, unk_id={UNKNOWN_ID}, bos_id=-1, as'
      ' TrainedSentencePiece does.'
    )
  return processor


@dataclass(frozen=True)
class TrainedSentencePiece:
  """How to train a vocabulary; `train` gives the same one for the same texts.

  White space is kept as it is and characters that no piece has become bytes,
  so that any text survives a round trip.
  """

  size: int
  model_type: str = 'unigram'
  character_coverage: float = 0.9995

  def train(self, texts: Iterable[str], path: str) -> SentencePiece:
    """Train on `texts` and keep the model at `path`, whole or not at all.

    Too few texts for `size` give a smaller vocabulary, and a warning.

    Raises:
      InputError: no texts, a size too small for its bytes, or no place.
    """
    if self.size < NUM_SPECIAL + 256 + 1:
      raise InputError(
        'A SentencePiece vocabulary needs at least 260 pieces (3 special, 256'
        f' bytes and one more), got size {self.size}. Ask for more, or use'
        ' Bytes().'
      )
    files.write_atomically(path, self._train(texts))
    _load_processor.cache_clear()
    trained = SentencePiece(str(path))
    if trained.size < self.size:
      logging.getLogger(__name__).warning(
        'Asked for %d pieces, but the texts give only %d: %s has those.',
        self.size,
        trained.size,
        path,
      )
    return trained

  def _train(self, texts: Iterable[str]) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentences = (line for text in texts for line in text.split('\n') if line)
    try:
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=model,
        vocab_size=self.size,
        model_type=self.model_type,
        character_coverage=self.character_coverage,
        pad_id=PADDING,
        eos_id=END,
        unk_id=UNKNOWN_ID,
        bos_id=-1,
        byte_fallback=True,
        hard_vocab_limit=False,
        num_threads=1,
        normalization_rule_name='identity',
        remove_extra_whitespaces=False,
        max_sentence_length=1 << 20,
        minloglevel=2,
      )
    except RuntimeError as error:
      raise InputError(
        f'Cannot train a vocabulary of {self.size} pieces on these texts:'
        f' {error}. Give more texts or ask for another size.'
      ) from error
    return model.getvalue()


def fits(vocabulary: Vocabulary, model_vocabulary_size: int) -> None:
  """Refuse a vocabulary with more ids than the model has rows for.

  A model may have more rows, as T5's has: what a policy says and scores are
  the vocabulary's ids alone (`Policy.vocabulary_size`).

  Raises:
    InputError: it has more.
  """
  if vocabulary.size > model_vocabulary_size:
    raise InputError(
      f'The vocabulary has {vocabulary.size} ids, but the model has room for'
      f' {model_vocabulary_size}. Give a model with vocab_size >='
      f' {vocabulary.size}, or a vocabulary of at most'
      f' {model_vocabulary_size} ids.'
    )
