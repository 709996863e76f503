"""Layer 2. The configuration of a T5, told from the shapes of its tree."""

import re
from collections.abc import Mapping

from dap.errors import InputError
from dap.models.t5_stacks import T5Config

_LAYER = re.compile(r'^(encoder|decoder)/layers_(\d{1,9})/')
_EMBEDDING = 'token_embedder/embedding'
_TABLE = 'encoder/relpos_bias/rel_embedding'


def config_of(shapes: Mapping[str, tuple[int, ...]]) -> T5Config:
  """The configuration whose parameters have these names and shapes.

  What shapes do not tell is as in the public families: gated feed-forward
  blocks are gelu's (T5 1.1), plain ones relu's (T5 1.0); no dropout, float32.

  Raises:
    InputError: they are not those of a T5.
  """
  try:
    vocab_size, emb_dim = shapes[_EMBEDDING]
    num_heads, _ = shapes[_TABLE]
    _, joined = shapes['encoder/layers_0/attention/query/kernel']
    mlp_dim, _ = shapes['encoder/layers_0/mlp/wo/kernel']
  except (KeyError, ValueError) as error:
    raise InputError(
      'A T5 encoder-decoder has token_embedder, encoder, decoder and their'
      f' layers; this checkpoint lacks {error}, and has'
      f' {", ".join(sorted(shapes)[:3])}, … Give one of the T5 family.'
    ) from error
  sizes = vocab_size, emb_dim, num_heads, joined, mlp_dim
  if min(sizes) < 1 or joined % num_heads:
    raise InputError(
      'A T5 has rows, widths and heads, and heads divide the width of'
      f' attention; this checkpoint has {vocab_size} rows, width {emb_dim},'
      f' {num_heads} heads in {joined} and {mlp_dim} inside. It is damaged.'
    )
  gated = 'encoder/layers_0/mlp/wi_0/kernel' in shapes
  return T5Config(
    vocab_size=vocab_size,
    emb_dim=emb_dim,
    num_heads=num_heads,
    head_dim=joined // num_heads,
    mlp_dim=mlp_dim,
    num_encoder_layers=_num_layers('encoder', shapes),
    num_decoder_layers=_num_layers('decoder', shapes),
    mlp_activations=('gelu', 'linear') if gated else ('relu',),
    logits_via_embedding='decoder/logits_dense/kernel' not in shapes,
  )


def _num_layers(stack: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
  found = (_LAYER.match(name) for name in shapes)
  numbers = {int(m.group(2)) for m in found if m and m.group(1) == stack}
  if numbers != set(range(len(numbers))):
    raise InputError(
      f'The layers of a stack are numbered from 0 without gaps; the {stack} of'
      f' this checkpoint has {len(numbers)}, up to {max(numbers)}. It is'
      ' damaged, or only a part of a model.'
    )
  return len(numbers)
