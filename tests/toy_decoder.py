"""A family without an encoder: one causal attention over prompt and response.

Its memory is the prompt's keys and values, and the state of its last token,
which predicts the first token of every response.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dap.models.counts import Decoding, LayerBytes, Operations


@dataclasses.dataclass(frozen=True)
class Decoder:
  vocab_size: int = 32
  emb_dim: int = 8
  depth = (1,)

  def init(self, key):
    table, *keys = jax.random.split(key, 4)
    shape = (self.emb_dim, self.emb_dim)
    kernels = [jax.random.normal(key, shape) for key in keys]
    params = dict(zip(('query', 'key', 'value'), kernels))
    shape = (self.vocab_size, self.emb_dim)
    return {**params, 'table': jax.random.normal(table, shape)}

  def logical_axes(self):
    square = ('embed', 'embed')
    kernels = dict.fromkeys(('query', 'key', 'value'), square)
    return {**kernels, 'table': ('vocab', 'embed')}

  def encode(self, params, prompts):
    x = params['table'][prompts]
    kept = {name: x @ params[name] for name in ('key', 'value')}
    memory = {**kept, 'mask': prompts > 0}
    last = jnp.maximum(jnp.sum(prompts > 0, axis=1) - 1, 0)
    x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, None]
    first = self.attend(params, memory, x, x[:, :, :0], jnp.ones((1, 0), bool))
    return {**memory, 'first': first}

  def attend(self, params, memory, x, own, mask):
    """States of x, which sees the prompt and what the mask shows of `own`."""
    query, key, value = (
      x @ params['query'],
      own @ params['key'],
      own @ params['value'],
    )
    of_prompt = jnp.einsum('bnle,bpe->bnlp', query, memory['key'])
    of_own = jnp.einsum('bnle,bnme->bnlm', query, key)
    shown = memory['mask'][:, None, None], mask[None, None]
    parts = zip(shown, (of_prompt, of_own))
    logits = [jnp.where(shown, part, -1e9) for shown, part in parts]
    weights = jax.nn.softmax(jnp.concatenate(logits, axis=-1))
    count = memory['key'].shape[1]
    x += jnp.einsum('bnlp,bpe->bnle', weights[..., :count], memory['value'])
    return x + jnp.einsum('bnlm,bnme->bnle', weights[..., count:], value)

  def read(self, params, memory, prompts, inputs):
    x = params['table'][inputs]
    mask = jnp.tri(inputs.shape[-1], dtype=bool)
    return self.attend(params, memory, x, x, mask)

  def decode_hidden(self, params, memory, prompts, responses):
    states = self.read(params, memory, prompts, responses[..., :-1])
    shape = (*responses.shape[:2], 1, self.emb_dim)
    return jnp.concatenate(
      [jnp.broadcast_to(memory['first'], shape), states], 2
    )

  def prefill(self, params, memory, prompts, *, num_samples, length):
    shape = (prompts.shape[0], num_samples, length, self.emb_dim)
    return memory, jnp.zeros(shape)

  def decode_step(self, params, cache, tokens, index):
    memory, own = cache
    x = params['table'][tokens][:, :, None]
    place = jnp.maximum(index - 1, 0)
    own = jax.lax.dynamic_update_slice(own, x, (0, 0, place, 0))
    mask = (jnp.arange(own.shape[2]) <= place)[None]
    states = self.attend(params, memory, x, own, mask)
    first = jnp.broadcast_to(memory['first'], states.shape)
    return jnp.where(index == 0, first, states)[:, :, 0], (memory, own)

  def output_kernel(self, params):
    return params['table'].T

  def operations(self, prompt_length, response_length):
    return Operations(prompt_length, 0, response_length, response_length)

  def decoding(self):
    return Decoding(4 * self.vocab_size * self.emb_dim, 8 * self.emb_dim)

  def layer_bytes(self, length):
    return LayerBytes(4 * length**2, 4 * length * self.emb_dim)

  def kernel_bytes(self):
    return 0

  def with_depth(self, depth):
    assert depth == (1,)
    return self
