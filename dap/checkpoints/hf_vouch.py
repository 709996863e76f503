"""Layer 3. Whether the tokenizer of an export gives SentencePiece's ids.

Held against each other on texts that are made for the vocabulary, where the
library that transformers has for it is installed.
"""

import functools
import json
import random
from collections.abc import Iterator

from dap.checkpoints import hf_tokenizer
from dap.checkpoints.hf_tokenizer import BLANK, Piece, Spec
from dap.data import vocabulary
from dap.errors import InputError

_TRAPS = (
  *('', ' ', 'a', ' a', 'a ', 'a  b', '   a', 'a\nb', '\n\nHuman: hi\n', '\t'),
  *('a\r\nb', '\u3000a', 'é', '😀', '日本語', 'ＡＢＣ ﬁ ①', '\u2581a'),
  *('a\u2581', '{"a": [1]}', '</', '<', '</s', '/s>', '< /s>', '\x00\x01'),
  *('\u200b', '12345'),
)
_NUM_PROBES = 400
_ROUNDING = 1e-2  # of log-likelihoods, beyond what float32 leaves of their sums


@functools.lru_cache(4)
def vouch(path: str) -> str:
  """Holds the tokenizer's ids against SentencePiece's, on texts made for it.

  Returns:
    What was found, for people.

  Raises:
    InputError: they differ, or see `hf_tokenizer.read`.
  """
  spec = hf_tokenizer.read(path)
  try:
    import tokenizers
  except ModuleNotFoundError:
    return (
      'the ids of its tokenizer were not checked: the library tokenizers is not'
      " installed (pip install tokenizers; the extra 'parity' has it)"
    )
  known = vocabulary.SentencePiece(path)
  made = tokenizers.Tokenizer.from_str(
    json.dumps(hf_tokenizer.tokenizer(spec, prompts_end=False))
  )
  made.encode_special_tokens = True
  texts = list(probes(spec))
  ties = 0
  for text in texts:
    theirs, ours = made.encode(text).ids, known.encode(text)
    if theirs == ours:
      continue
    if spec.kind != hf_tokenizer.UNIGRAM or not _is_tie(spec, theirs, ours):
      raise _differs(path, text, theirs, ours)
    ties += 1
  return _found(spec, len(texts), ties)


def probes(spec: Spec) -> Iterator[str]:
  """Texts with traps: the same for the same model."""
  special = spec.of(*hf_tokenizer.SPECIAL, Piece.USER)
  special += ['</s>', '<pad>', '<unk>', '<extra_id_0>', '<0x0A>', '<|im_end|>']
  yield from _TRAPS
  for each in special:
    yield from (each, f'a {each} b', f'é{each}{each}', f'{each[:-1]} {each}')
  chosen = random.Random(0)
  pieces = [piece.replace(BLANK, ' ') for piece, _, _ in spec.pieces]
  for _ in range(_NUM_PROBES):
    yield ''.join(chosen.choices(pieces, k=chosen.randint(1, 12)))


def _is_tie(spec: Spec, one: list[int], other: list[int]) -> bool:
  """Whether both are as likely: then float32's rounding has chosen."""
  plain = all(spec.pieces[i][2] == Piece.NORMAL for i in {*one} ^ {*other})
  sums = [sum(spec.pieces[i][1] for i in ids) for ids in (one, other)]
  return plain and abs(sums[0] - sums[1]) < _ROUNDING


def _differs(
  path: str, text: str, theirs: list[int], ours: list[int]
) -> InputError:
  return InputError(
    f'A tokenizer of transformers must give the ids of {path}; of {text!r} it'
    f' would give {theirs[:12]}, SentencePiece gives {ours[:12]}. Convert'
    ' without --vocabulary, and tokenise with sentencepiece itself.'
  )


def _found(spec: Spec, count: int, ties: int) -> str:
  said = f'the ids of its tokenizer are those of SentencePiece on {count} texts'
  if ties:
    said += (
      f'; of {ties} of them among pieces that are as likely another order was'
      ' chosen, where the rounding of float32 decides'
    )
  if spec.charsmap:
    said += (
      '. Its normaliser drops accents that stand apart from letters with which'
      ' they do not compose: bring texts into NFC'
    )
  return said
