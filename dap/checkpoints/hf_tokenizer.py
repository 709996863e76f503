"""Layer 3. A SentencePiece model as a tokenizer.json of transformers.

The ids are those of SentencePiece, and so those that a policy was trained
with, for any text: also what has no piece (bytes), blanks and line feeds, and
special tokens that a text spells, which are text. transformers' own T5Tokenizer
keeps none of these, so another class is named.

In SentencePiece special pieces are no part of any segmentation. Here they are
in the same table as all pieces, so their scores are below whatever spells them
otherwise; and where a character of theirs has no piece, the text is parted
there, which no piece could bridge.
"""

import base64
import enum
import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from dap.data import paths
from dap.errors import InputError

FILES = (
  'spiece.model',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
)
BLANK = '▁'  # what SentencePiece writes for a blank
UNIGRAM, _BPE, _CHAR = 1, 2, 4  # TrainerSpec.model_type
Json = dict[str, Any]


class Piece(enum.IntEnum):
  """What a piece is, ModelProto.SentencePiece.Type."""

  NORMAL = 1
  UNKNOWN = 2
  CONTROL = 3
  USER = 4
  UNUSED = 5
  BYTE = 6


# They stand in no segmentation, whatever a text spells.
SPECIAL = Piece.UNKNOWN, Piece.CONTROL, Piece.BYTE, Piece.UNUSED


class Spec(NamedTuple):
  """What a SentencePiece model says of itself.

  Attributes:
    path: of the model, for messages.
    kind: its algorithm, TrainerSpec.model_type.
    pieces: (piece, score, type) by id.
    charsmap: of its normaliser, empty for identity.
    dummy_prefix: whether a blank is put in front of a text.
    squeezes: whether blanks are cut at both ends, and several made one.
    bytes_: whether what has no piece becomes bytes.
  """

  path: str
  kind: int
  pieces: Sequence[tuple[str, float, int]]
  charsmap: bytes
  dummy_prefix: bool
  squeezes: bool
  bytes_: bool

  def of(self, *kinds: int) -> list[str]:
    """The pieces of these types."""
    return [piece for piece, _, kind in self.pieces if kind in kinds]


@functools.lru_cache(4)
def read(path: str) -> Spec:
  """Reads a model.

  Raises:
    InputError: transformers has no tokenizer that gives its ids.
  """
  from sentencepiece import sentencepiece_model_pb2

  proto = cast(Any, sentencepiece_model_pb2).ModelProto()
  proto.ParseFromString(paths.read(path))
  trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
  spec = Spec(
    path,
    trainer.model_type,
    [(piece.piece, piece.score, piece.type) for piece in proto.pieces],
    normalizer.precompiled_charsmap,
    normalizer.add_dummy_prefix,
    normalizer.remove_extra_whitespaces,
    trainer.byte_fallback,
  )
  fault = _fault(spec)
  if trainer.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
    fault = 'it writes blanks in another way'
  if fault:
    raise InputError(
      f'A tokenizer of transformers must give the ids of {path}, and cannot:'
      f' {fault}. Convert without --vocabulary, and tokenise with'
      ' sentencepiece itself.'
    )
  return spec


def _fault(spec: Spec) -> str:
  if spec.kind not in (UNIGRAM, _BPE, _CHAR):
    return 'it is of words, where unigram, bpe and char can be written'
  if spec.kind != UNIGRAM and spec.of(Piece.USER, Piece.UNUSED):
    return 'it has symbols of its user or unused pieces beside merges'
  if spec.of(Piece.UNKNOWN) != [spec.pieces[2][0]]:
    return 'its unknown word is not piece 2'
  if len({piece for piece, _, _ in spec.pieces}) < len(spec.pieces):
    return 'two of its pieces are alike'
  if spec.kind == UNIGRAM:
    single = {piece for piece in spec.of(Piece.NORMAL) if len(piece) == 1}
    for piece in spec.of(Piece.NORMAL):
      lacking = set(piece) - single
      if lacking and len(piece) > 1:
        return f'its piece {piece!r} has {min(lacking)!r}, which is none itself'
  return ''


def files(path: str, *, prompts_end: bool) -> dict[str, bytes]:
  """Files of the tokenizer, by name, and the model beside them.

  Args:
    path: of the model.
    prompts_end: whether the end is put behind a text, as the policy has read
      its prompts.

  Raises:
    InputError: see `read`.
  """
  content, spec = paths.read(path), read(path)
  pad, end, unknown = (piece for piece, _, _ in spec.pieces[:3])
  special = {'eos_token': end, 'pad_token': pad, 'unk_token': unknown}
  config = {
    **special,
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'split_special_tokens': True,  # what a text spells is text
    'clean_up_tokenization_spaces': False,
    'model_input_names': ['input_ids', 'attention_mask'],
  }
  described = tokenizer(spec, prompts_end=prompts_end), config, special
  texts = [_encoded(each) for each in described]
  return dict(zip(FILES, [content, *texts], strict=True))


def _encoded(value: Json) -> bytes:
  return (json.dumps(value, indent=2, ensure_ascii=False) + '\n').encode()


def tokenizer(spec: Spec, *, prompts_end: bool) -> Json:
  """What is in tokenizer.json; see `files`."""
  special = list(enumerate(piece for piece, _, _ in spec.pieces[:3]))
  first = int(spec.dummy_prefix)
  plain = dict.fromkeys(
    ('single_word', 'lstrip', 'rstrip', 'normalized'), False
  )
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': [
      {'id': index, 'content': piece, **plain, 'special': True}
      for index, piece in special
    ],
    'normalizer': {'type': 'Sequence', 'normalizers': list(_normalizers(spec))},
    'pre_tokenizer': _parting(spec),
    'post_processor': _ending(special[1][1] if prompts_end else ''),
    'decoder': {
      'type': 'Sequence',
      'decoders': [
        _replace({'String': BLANK}, ' '),
        {'type': 'ByteFallback'},
        {'type': 'Fuse'},
        {'type': 'Strip', 'content': ' ', 'start': first, 'stop': 0},
      ],
    },
    'model': _unigram(spec) if spec.kind == UNIGRAM else _merging(spec),
  }


def _replace(pattern: dict[str, str], content: str) -> Json:
  return {'type': 'Replace', 'pattern': pattern, 'content': content}


def _normalizers(spec: Spec) -> Iterator[Json]:
  if spec.charsmap:
    charsmap = base64.b64encode(spec.charsmap).decode()
    yield {'type': 'Precompiled', 'precompiled_charsmap': charsmap}
  if spec.squeezes:
    yield _replace({'Regex': r'\A +'}, '')
    yield _replace({'Regex': ' {2,}'}, ' ')
  yield _replace({'String': ' '}, BLANK)
  if spec.dummy_prefix:
    yield {'type': 'Prepend', 'prepend': BLANK}
  if spec.squeezes:
    yield _replace({'Regex': f'{BLANK}+\\z'}, '')


def _parting(spec: Spec) -> Json | None:
  """Parts texts inside of spelt special pieces that unknown characters have."""
  single = {
    piece for piece in spec.of(Piece.NORMAL, Piece.USER) if len(piece) == 1
  }
  heads: dict[str, list[str]] = {}
  if spec.kind != UNIGRAM:  # merges make no special piece
    return None
  for piece in spec.of(*SPECIAL):
    known = [character in single for character in piece]
    ends = [i for i in range(1, len(known)) if known[i - 1] != known[i]]
    if spec.bytes_:  # else unknown characters side by side are one
      ends = [i for i in range(1, len(known)) if not all(known[i - 1 : i + 1])]
    if ends:
      end = ends[0]
      heads.setdefault(piece[:end], []).append(re.escape(piece[end:]))
  if not heads:
    return None
  pattern = '|'.join(
    f'{re.escape(head)}(?={"|".join(tails)})' for head, tails in heads.items()
  )
  return {
    'type': 'Split',
    'pattern': {'Regex': pattern},
    'behavior': 'MergedWithPrevious',
    'invert': False,
  }


def _ending(end: str) -> Json:
  one, other = ({'Sequence': {'id': x, 'type_id': 0}} for x in 'AB')
  last = [{'SpecialToken': {'id': end, 'type_id': 0}}] if end else []
  return {
    'type': 'TemplateProcessing',
    'single': [one, *last],
    'pair': [one, *last, other, *last],
    'special_tokens': {end: {'id': end, 'ids': [1], 'tokens': [end]}}
    if end
    else {},
  }


def _unigram(spec: Spec) -> Json:
  normal = [score for _, score, kind in spec.pieces if kind == Piece.NORMAL]
  least, most = min(normal), max(normal)
  special = spec.of(*SPECIAL)
  never = 2 * min(least, -1.0) * max(map(len, special)) - 100

  def scored(piece: str, score: float, kind: int) -> float:
    if (
      kind == Piece.USER
    ):  # SentencePiece's own, with which it is always chosen
      return len(piece.encode()) * most - 0.1
    return score if kind == Piece.NORMAL else never

  return {
    'type': 'Unigram',
    'unk_id': 2,
    'vocab': [[each[0], scored(*each)] for each in spec.pieces],
    'byte_fallback': spec.bytes_,
  }


def _merging(spec: Spec) -> Json:
  ids = {piece: index for index, (piece, _, _) in enumerate(spec.pieces)}
  normal = set(spec.of(Piece.NORMAL))
  merges = []
  if spec.kind == _BPE:
    best_first = sorted(spec.pieces, key=lambda each: -each[1])
    merges = [
      [piece[:cut], piece[cut:]]
      for piece, _, kind in best_first
      if kind == Piece.NORMAL
      for cut in range(1, len(piece))
      if piece[:cut] in normal and piece[cut:] in normal
    ]
  return {
    'type': 'BPE',
    'dropout': None,
    'unk_token': spec.pieces[2][0],
    'continuing_subword_prefix': None,
    'end_of_word_suffix': None,
    'fuse_unk': True,
    'byte_fallback': spec.bytes_,
    'ignore_merges': False,
    'vocab': ids,
    'merges': merges,
  }
