"""What T5X itself computed, for tests of parity; see fixtures/t5x/README.md."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from dap.checkpoints import layouts
from dap.models import t5

FOLDER = pathlib.Path(__file__).parent / 'fixtures' / 't5x'
NATIVE = FOLDER / 'native' / 'checkpoint_3'
TREE = json.loads((FOLDER / 'tree.json').read_text())
CONFIG = t5.T5Config(
  **{
    **TREE['config'],
    'mlp_activations': tuple(TREE['config']['mlp_activations']),
  }
)

T5 = t5.T5(CONFIG)


@functools.cache
def params():
  return jax.tree.map(jnp.asarray, layouts.read_params(NATIVE))


@functools.cache
def outputs():
  with np.load(FOLDER / 'outputs.npz') as arrays:
    return dict(arrays)


@functools.cache
def gradients():
  with np.load(FOLDER / 'grads.npz') as arrays:
    return {name.removeprefix('grad/'): x for name, x in arrays.items()}


def batch(prefix='batch'):
  names = ['encoder_input_tokens', 'decoder_input_tokens']
  names += ['decoder_target_tokens']
  if prefix == 'packed':
    names += ['encoder_segment_ids', 'decoder_segment_ids']
    names += ['encoder_positions', 'decoder_positions']
  return [jnp.asarray(outputs()[f'{prefix}/{name}']) for name in names]


def logits(config, parameters, *arrays):
  model = t5.Transformer(config)
  return jax.jit(lambda p, *a: model.apply({'params': p}, *a))(
    parameters, *arrays
  )


def loss(logits, targets, weights, *, z_loss, label_smoothing=0.0):
  """T5X's weighted sum of cross entropies, with its z-loss and smoothing."""
  vocab = logits.shape[-1]
  low = label_smoothing / (vocab - 1)
  confidence = 1 - label_smoothing
  log_normalizer = jax.nn.logsumexp(logits, axis=-1)
  soft = jnp.where(jax.nn.one_hot(targets, vocab) > 0, confidence, low)
  log_probs = logits - log_normalizer[..., None]
  entropy = -confidence * np.log(confidence)
  if low:
    entropy -= (vocab - 1) * low * np.log(low + 1e-20)
  each = -jnp.sum(soft * log_probs, axis=-1) - entropy
  each += z_loss * jnp.square(log_normalizer)
  return jnp.sum(each * weights)
