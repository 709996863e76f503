"""Layer 3. T5 under Hugging Face's names and configuration keys.

transformers keeps kernels transposed ([out, in]), the relative-position table
in the first block of each stack, and one embedding under up to three names.
"""

import re
from collections.abc import Mapping

from dap.errors import InputError
from dap.models.t5_stacks import T5Config
from dap.records import END, PADDING

# transformers' feed_forward_proj and T5X's activations.
_ACTIVATIONS = {
  'relu': ('relu',),
  'gated-gelu': ('gelu', 'linear'),
  'gated-silu': ('silu', 'linear'),  # UL2 and Flan-UL2
}
_GATES = {'gated-gelu': 'gelu_new', 'gated-silu': 'silu'}  # dense_act_fn
# feed_forward_proj where none is said, by model_type; ByT5 and Flan are t5 too.
_FAMILIES = {'t5': 'relu', 'mt5': 'gated-gelu'}
_FIXED_VALUES = {
  'relative_attention_num_buckets': 32,
  'relative_attention_max_distance': 128,
  'layer_norm_epsilon': 1e-6,
}
_ATTENTION = {'q': 'query', 'k': 'key', 'v': 'value', 'o': 'out'}
# Stack and number of a layer in its block: the module, and the norm before it.
_CROSS = 'encoder_decoder_attention', 'pre_cross_attention_layer_norm'
_FEED_FORWARD = 'mlp', 'pre_mlp_layer_norm'
_MODULES = {
  ('encoder', 0): ('attention', 'pre_attention_layer_norm'),
  ('encoder', 1): _FEED_FORWARD,
  ('decoder', 0): ('self_attention', 'pre_self_attention_layer_norm'),
  ('decoder', 1): _CROSS,
  ('decoder', 2): _FEED_FORWARD,
}
_BLOCK = re.compile(
  r'^(encoder|decoder)\.block\.(\d+)\.layer\.(\d)\.'
  r'(?:(layer_norm)|(?:SelfAttention|EncDecAttention)\.([qkvo])'
  r'|DenseReluDense\.(wi|wi_0|wi_1|wo))\.weight$'
)
_TABLE = '.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
_FIXED = {
  'shared.weight': 'token_embedder/embedding',
  'encoder.final_layer_norm.weight': 'encoder/encoder_norm/scale',
  'decoder.final_layer_norm.weight': 'decoder/decoder_norm/scale',
  f'encoder{_TABLE}': 'encoder/relpos_bias/rel_embedding',
  f'decoder{_TABLE}': 'decoder/relpos_bias/rel_embedding',
  'lm_head.weight': 'decoder/logits_dense/kernel',
}
# Of the embedding; they must be equal to it.
COPIES = ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight')
# And a table of old T5 1.0 files that nothing reads.
UNUSED = (
  *COPIES,
  'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight',
)


def t5x_name(name: str) -> str | None:
  """T5X's name of a parameter of transformers' T5; None if it has none."""
  if name in _FIXED:
    return _FIXED[name]
  match = _BLOCK.match(name)
  if match is None:
    return None
  stack, block, layer, norm, attention, mlp = match.groups()
  if (stack, int(layer)) not in _MODULES:
    return None
  module, norm_name = _MODULES[stack, int(layer)]
  inside = f'{stack}/layers_{block}'
  if norm:
    return f'{inside}/{norm_name}/scale'
  if (attention is None) != (module == 'mlp'):
    return None
  return f'{inside}/{module}/{_ATTENTION.get(attention, mlp)}/kernel'


def hf_name(name: str) -> str:
  """The inverse of `t5x_name`, for names that T5X's tree has."""
  for theirs, ours in _FIXED.items():
    if name == ours:
      return theirs
  stack, layers, module, *rest = name.split('/')
  inside = f'{stack}.block.{layers.removeprefix("layers_")}.layer.'
  for (of, number), (part, norm) in _MODULES.items():
    if of != stack:
      continue
    if module == norm:
      return f'{inside}{number}.layer_norm.weight'
    if module == part and part == 'mlp':
      return f'{inside}{number}.DenseReluDense.{rest[0]}.weight'
    if module == part:
      letter = next(k for k, v in _ATTENTION.items() if v == rest[0])
      kind = 'EncDecAttention' if 'encoder_decoder' in part else 'SelfAttention'
      return f'{inside}{number}.{kind}.{letter}.weight'
  raise KeyError(name)


def is_transposed(name: str) -> bool:
  """Whether transformers keeps T5X's parameter `name` transposed."""
  return name.endswith(('/kernel', '/rel_embedding'))


def t5_config(values: Mapping[str, object], path: object) -> T5Config:
  """The model that a config.json describes.

  Raises:
    InputError: it is no T5, or one that this code does not compute.
  """
  family = values.get('model_type')
  if not isinstance(family, str) or family not in _FAMILIES:
    raise InputError(
      f'{path} must describe a T5 (model_type {" or ".join(_FAMILIES)}), got'
      f' {family!r}. Give a T5 1.0, T5 1.1, Flan, UL2, mT5 or ByT5 model.'
    )
  projection = values.get('feed_forward_proj', _FAMILIES[family])
  if not isinstance(projection, str) or projection not in _ACTIVATIONS:
    raise InputError(
      f'{path} has feed_forward_proj {projection!r}; known are'
      f' {", ".join(_ACTIVATIONS)}.'
    )
  for key, wanted in _FIXED_VALUES.items():
    if values.get(key, wanted) != wanted:
      raise InputError(
        f'{path} has {key} {values[key]}; this model computes {wanted} only.'
      )
  layers = _size(values, 'num_layers', path)
  decoder = values.get('num_decoder_layers') is not None
  return T5Config(
    vocab_size=_size(values, 'vocab_size', path),
    emb_dim=_size(values, 'd_model', path),
    num_heads=_size(values, 'num_heads', path),
    head_dim=_size(values, 'd_kv', path),
    mlp_dim=_size(values, 'd_ff', path),
    num_encoder_layers=layers,
    num_decoder_layers=(
      _size(values, 'num_decoder_layers', path) if decoder else layers
    ),
    mlp_activations=_ACTIVATIONS[projection],
    logits_via_embedding=_is_scaled(values),
  )


def _size(values: Mapping[str, object], key: str, path: object) -> int:
  size = values.get(key)
  if type(size) is not int or not 0 < size < 1 << 31:
    raise InputError(
      f'{path} needs {key}, a whole number above 0; got {size!r}. Copy it'
      ' again.'
    )
  return size


def _is_scaled(values: Mapping[str, object]) -> bool:
  """Whether logits are scaled as T5 1.0's, which ties its embedding, are.

  From version 5 on transformers says so by a key of its own, says of every
  model that its embedding is tied, and tells from the weights whether it is;
  mT5 it does not scale.
  """
  tied = values.get('tie_word_embeddings', True) is not False
  known = tied and values.get('model_type') != 'mt5'
  return bool(values.get('scale_decoder_outputs', known))


def may_share_embedding(values: Mapping[str, object]) -> bool:
  """Whether a model without `lm_head` has the embedding in its place.

  Else the weights are not all there, as in an encoder or a T5 without a head.
  """
  kinds = values.get('architectures') or ['T5ForConditionalGeneration']
  has_head = isinstance(kinds, list) and any(
    str(kind).endswith('ConditionalGeneration') for kind in kinds
  )
  return has_head and values.get('tie_word_embeddings', True) is not False


def hf_config(config: T5Config, dtype: str) -> dict[str, object]:
  """The config.json of a model.

  Raises:
    InputError: transformers' T5 has no such model.
  """
  known = {v: k for k, v in _ACTIVATIONS.items()}
  # T5X names it as flax does, which has both names for one function.
  activations = tuple(
    'silu' if name == 'swish' else name for name in config.mlp_activations
  )
  if activations not in known:
    raise InputError(
      f"transformers' T5 has the activations {list(known)}, not"
      f' {config.mlp_activations}. Write another layout.'
    )
  projection = known[activations]
  gated = projection in _GATES
  return {
    'architectures': ['T5ForConditionalGeneration'],
    'd_ff': config.mlp_dim,
    'd_kv': config.head_dim,
    'd_model': config.emb_dim,
    'decoder_start_token_id': PADDING,
    'dense_act_fn': _GATES.get(projection, projection),
    'dropout_rate': 0.1,
    'eos_token_id': END,
    'feed_forward_proj': projection,
    'initializer_factor': 1.0,
    'is_encoder_decoder': True,
    'is_gated_act': gated,
    'layer_norm_epsilon': 1e-6,
    'model_type': 't5',
    'num_decoder_layers': config.num_decoder_layers,
    'num_heads': config.num_heads,
    'num_layers': config.num_encoder_layers,
    'pad_token_id': PADDING,
    'relative_attention_max_distance': 128,
    'relative_attention_num_buckets': 32,
    'tie_word_embeddings': config.logits_via_embedding,
    'torch_dtype': dtype,
    'use_cache': True,
    'vocab_size': config.vocab_size,
  }
