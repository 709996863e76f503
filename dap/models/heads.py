"""Layer 2. Preference models: one response scored, or two read together.

Both kinds answer one question, `log_odds(params, prompts, first, second)`: the
logit that the response shown first is preferred, asked in both orders. Golden
and proxy models are this code with other parameters.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from dap.models import t5, trained
from dap.records import Outputs, Prompts, Responses


@runtime_checkable
class ScoreHead(Protocol):
  """Decoder states of a response to one number."""

  def init(self, key: Key[Array, ''], emb_dim: int) -> PyTree:
    """Parameters of the head."""
    ...

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    ...

  def __call__(
    self,
    params: PyTree,
    hidden: Float[Array, 'batch n length emb'],
    mask: Float[Array, 'batch n length'],
  ) -> Float[Array, 'batch n']:
    """The score of each response."""
    ...


@dataclasses.dataclass(frozen=True)
class LastTokenScore:
  """A linear read-out of the state that has read the last real token.

  The score of a reward model (spec 2.18; Ouyang et al. 2022, sec. 3.5,
  https://arxiv.org/abs/2203.02155), at the scale of T5's initial values.
  """

  def init(self, key: Key[Array, ''], emb_dim: int) -> PyTree:
    """A kernel of standard deviation 1 / sqrt(emb_dim)."""
    return {'kernel': jax.random.normal(key, (emb_dim, 1)) * emb_dim**-0.5}

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    return {'kernel': ('embed', None)}

  def __call__(self, params, hidden, mask):
    """Masks are runs of ones from the left: their sum is the length."""
    last = jnp.maximum(jnp.sum(mask, axis=-1).astype(jnp.int32) - 1, 0)
    state = jnp.take_along_axis(hidden, last[..., None, None], axis=2)
    return (state[:, :, 0] @ params['kernel'])[..., 0]


@dataclasses.dataclass(frozen=True)
class PooledScore:
  """A small network on the sum and the mean of the decoder's states.

  The embedded study's head: a model trained from nothing learns to count facts
  and faults from a pool sooner than from its last state. It differs from T5X
  and from spec 2.18, therefore a choice by name.
  """

  width: int = 64
  sum_scale: float = 0.1

  def init(self, key: Key[Array, ''], emb_dim: int) -> PyTree:
    """Normal kernels of variance 1 / fan in."""
    inner, outer = jax.random.split(key)
    fan_in = 2 * emb_dim
    return {
      'hidden': {
        'kernel': jax.random.normal(inner, (fan_in, self.width)) * fan_in**-0.5,
        'bias': jnp.zeros(self.width),
      },
      'out': {
        'kernel': jax.random.normal(outer, (self.width, 1)) * self.width**-0.5
      },
    }

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    return {
      'hidden': {'kernel': ('embed', 'mlp'), 'bias': ('mlp',)},
      'out': {'kernel': ('mlp', None)},
    }

  def __call__(self, params, hidden, mask):
    """[sum_scale * sum, mean] of the states on real tokens, one layer, out."""
    total = jnp.sum(jnp.where(mask[..., None] > 0, hidden, 0.0), axis=2)
    count = jnp.maximum(jnp.sum(mask, axis=-1), 1.0)[..., None]
    pooled = jnp.concatenate([total * self.sum_scale, total / count], axis=-1)
    inner = pooled @ params['hidden']['kernel']
    inner = jax.nn.gelu(inner + params['hidden']['bias'][None, None])
    return (inner @ params['out']['kernel'])[..., 0]


class _Comparing(trained.Whole):
  """What both kinds say to a loss."""

  @property
  def gives(self) -> tuple[str, ...]:
    """The fields of `Outputs` that it fills."""
    return ('log_odds',)

  def outputs(
    self: 'trained.Comparer',
    params: PyTree,
    prompts: Prompts,
    responses: Responses,
  ) -> Outputs:
    """That each of two responses is preferred when it is shown first."""
    first, second = responses.tokens[:, 0], responses.tokens[:, 1]
    odds = self.log_odds(params, prompts.tokens, first, second)
    return Outputs(log_odds=jnp.stack(odds, axis=1))


@dataclasses.dataclass(frozen=True)
class PointwisePreferenceModel(_Comparing):
  """Scores one response; the logit of a pair is the difference of scores.

  Antisymmetric by construction, so that asking in both orders costs nothing.
  """

  config: t5.T5Config
  head: Any = LastTokenScore()

  def init(self, key: Key[Array, '']) -> PyTree:
    """{'transformer': T5's parameters, 'head': the head's}."""
    body, head = jax.random.split(key)
    return {
      'transformer': t5.init_params(self.config, body),
      'head': self.head.init(head, self.config.emb_dim),
    }

  def init_head(self, key: Key[Array, '']) -> PyTree:
    """{'head': initial parameters}, to be put beside a trained transformer."""
    return {'head': self.head.init(key, self.config.emb_dim)}

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    return {
      'transformer': t5.logical_axes(self.config),
      'head': self.head.logical_axes(),
    }

  def scores(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n']:
    """The score of each response; the prompt is encoded once for all."""
    transformer = t5.Transformer(self.config)
    variables = {'params': params['transformer']}
    encoded = transformer.apply(variables, prompts, method='encode')
    # The decoder reads the response itself, not its right shift: a scorer must
    # have read the last token, which tells a finished response from a cut one.
    hidden: Any = transformer.apply(
      variables, encoded, prompts, responses, method='read'
    )
    mask = (responses > 0).astype(jnp.float32)
    return self.head(params['head'], hidden.astype(jnp.float32), mask)

  def log_odds(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    first: Int[Array, 'batch length'],
    second: Int[Array, 'batch length'],
  ) -> tuple[Float[Array, ' batch'], Float[Array, ' batch']]:
    """Logits that the one shown first is preferred, in both orders."""
    scores = self.scores(params, prompts, jnp.stack([first, second], axis=1))
    margin = scores[:, 0] - scores[:, 1]
    return margin, -margin


@dataclasses.dataclass(frozen=True)
class JointPreferenceModel(_Comparing):
  """Reads the prompt and both responses in one context, text to text.

  The encoder sees `prefix prompt first_mark first second_mark second`, all as
  token ids; the decoder's first step gives the odds of the answer `first_id`
  against `second_id` (Tang et al. 2024, A.1, https://arxiv.org/abs/2405.08448,
  where the head is not stated; RSO's ranker answers "A" or "B").

  A context that is too long loses the left of its prompt, the same tokens in
  both orders, and never a token of a response.

  Attributes:
    config: of the T5 model.
    context_length: of the encoder's input, tokens.
    first_mark: ids that announce the first response.
    second_mark: ids that announce the second.
    first_id: the answer "the first is better".
    second_id: the answer "the second is better".
    prefix: ids in front of the prompt.
  """

  config: t5.T5Config
  context_length: int
  first_mark: tuple[int, ...]
  second_mark: tuple[int, ...]
  first_id: int
  second_id: int
  prefix: tuple[int, ...] = ()

  def init(self, key: Key[Array, '']) -> PyTree:
    """T5's parameters; the vocabulary head answers."""
    return t5.init_params(self.config, key)

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    return t5.logical_axes(self.config)

  def context(
    self,
    prompts: Int[Array, 'batch prompt_length'],
    first: Int[Array, 'batch length'],
    second: Int[Array, 'batch length'],
  ) -> Int[Array, 'batch context']:
    """The encoder's input, right-padded to `context_length`."""
    rows = prompts.shape[0]
    marks = [self.prefix, self.first_mark, self.second_mark]
    prefix, one, two = (
      jnp.broadcast_to(jnp.asarray(ids, jnp.int32)[None], (rows, len(ids)))
      for ids in marks
    )
    tail = sum(map(len, marks)) + first.shape[1] + second.shape[1]
    # End-of-sequence marks inside the context would be read as its end.
    first, second = (jnp.where(y == 1, 0, y) for y in (first, second))
    used = jnp.sum(first > 0, 1) + jnp.sum(second > 0, 1)
    room = self.context_length - sum(map(len, marks)) - used
    if self.context_length < tail:
      raise ValueError(
        f'A joint preference model needs context_length >= {tail} for its marks'
        f' and two responses, got {self.context_length}: raise it or shorten'
        ' the responses.'
      )
    length = jnp.sum(prompts > 0, axis=1)
    position = jnp.arange(prompts.shape[1])[None]
    kept = jnp.where(position >= (length - room)[:, None], prompts, 0)
    parts = jnp.concatenate([prefix, kept, one, first, two, second], axis=1)
    return _pack_left(parts, self.context_length)

  def log_odds(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    first: Int[Array, 'batch length'],
    second: Int[Array, 'batch length'],
  ) -> tuple[Float[Array, ' batch'], Float[Array, ' batch']]:
    """Logits that the one shown first is preferred, in both orders."""
    rows = prompts.shape[0]
    both = jnp.concatenate(
      [
        self.context(prompts, first, second),
        self.context(prompts, second, first),
      ]
    )
    start = jnp.zeros((2 * rows, 1), jnp.int32)
    logits: Any = t5.Transformer(self.config).apply(
      {'params': params}, both, start, jnp.ones_like(start)
    )
    odds = logits[:, 0, self.first_id] - logits[:, 0, self.second_id]
    return odds[:rows], odds[rows:]


def _pack_left(
  tokens: Int[Array, 'batch length'], length: int
) -> Int[Array, 'batch context']:
  """Moves real tokens together, keeping their order; pads on the right."""
  real = tokens > 0
  slot = jnp.where(real, jnp.cumsum(real, axis=1) - 1, length)
  rows = jnp.arange(tokens.shape[0])[:, None]
  packed = jnp.zeros((tokens.shape[0], length), tokens.dtype)
  return packed.at[rows, slot].set(tokens, mode='drop')
