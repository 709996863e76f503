"""Layer 2. Preference models: one response scored, or two read together.

Both kinds answer one question, `log_odds(params, prompts, first, second)`: the
logit that the response shown first is preferred, asked in both orders. Golden
and proxy models are this code with other parameters.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from dap.models import dense, packing, protocols, trained
from dap.models.counts import PairReading
from dap.models.protocols import Comparer, LanguageModel, Scorer
from dap.records import END, PADDING, Outputs, Prompts, Responses


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


class Comparing(trained.Whole):
  """What both kinds say to a loss."""

  @property
  def gives(self) -> tuple[str, ...]:
    """The fields of `Outputs` that it fills."""
    return ('log_odds',)

  def outputs(
    self: Comparer,
    params: PyTree,
    prompts: Prompts,
    responses: Responses,
  ) -> Outputs:
    """That each of two responses is preferred when it is shown first."""
    first, second = responses.tokens[:, 0], responses.tokens[:, 1]
    odds = self.log_odds(params, prompts.tokens, first, second)
    return Outputs(log_odds=jnp.stack(odds, axis=1))


class Scoring(Comparing):
  """What a model that scores one response says of two."""

  def log_odds(
    self: Scorer,
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
class PointwisePreferenceModel(Scoring):
  """Scores one response; the logit of a pair is the difference of scores.

  Antisymmetric by construction, so that asking in both orders costs nothing.
  """

  language_model: LanguageModel
  head: ScoreHead = LastTokenScore()

  def init(self, key: Key[Array, '']) -> PyTree:
    """{'transformer': the language model's parameters, 'head': the head's}."""
    body, head = jax.random.split(key)
    return {
      'transformer': self.language_model.init(body),
      'head': self.head.init(head, self.language_model.emb_dim),
    }

  def init_head(self, key: Key[Array, '']) -> PyTree:
    """{'head': initial parameters}, to be put beside a trained transformer."""
    return {'head': self.head.init(key, self.language_model.emb_dim)}

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    return {
      'transformer': self.language_model.logical_axes(),
      'head': self.head.logical_axes(),
    }

  def scores(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n']:
    """The score of each response; the prompt is encoded once for all."""
    model, body = self.language_model, params['transformer']
    memory = model.encode(body, prompts)
    # The model reads the response itself, not what predicts it: a scorer must
    # have read the last token, which tells a finished response from a cut one.
    hidden = model.read(body, memory, prompts, responses)
    mask = (responses > PADDING).astype(jnp.float32)
    return self.head(params['head'], hidden.astype(jnp.float32), mask)

  def packed(self, room: packing.Room) -> 'PointwisePreferenceModel':
    """The same model, of batches with this room."""
    return self.with_language_model(packing.packed(self.language_model, room))

  def with_language_model(
    self, language_model: LanguageModel
  ) -> 'PointwisePreferenceModel':
    """The same model over another language model."""
    return dataclasses.replace(self, language_model=language_model)

  def pair_reading(
    self, prompt_length: int, response_length: int
  ) -> PairReading:
    """The vocabulary is not asked."""
    return PairReading(1, prompt_length, 2, response_length, 0, False)

  def pair_operations(self, prompt_length: int, response_length: int) -> float:
    """Matmul operations of asking which of two responses is preferred.

    The vocabulary's head is not asked, and the order changes nothing.
    """
    one = self.language_model.operations(prompt_length, response_length)
    return float(one.encoder + one.cross + 2 * one.decoder)

  def widest_bytes(
    self, prompt_length: int, response_length: int, num_devices: int
  ) -> float:
    """The largest values of a layer meanwhile."""
    return protocols.widest_of_pair(
      self.language_model, prompt_length, response_length, num_devices
    )


@dataclasses.dataclass(frozen=True)
class JointPreferenceModel(Comparing):
  """Reads the prompt and both responses in one context, text to text.

  The language model's prompt is `prefix prompt first_mark first second_mark
  second`, all as token ids; the first token of its response gives the odds of
  the answer `first_id` against `second_id` (Tang et al. 2024, A.1, https://arxiv.org/abs/2405.08448,
  where the head is not stated; RSO's ranker answers "A" or "B").

  A context that is too long loses the left of its prompt, the same tokens in
  both orders, and never a token of a response.

  Attributes:
    language_model: that reads the context and answers.
    context_length: of its prompt, tokens.
    first_mark: ids that announce the first response.
    second_mark: ids that announce the second.
    first_id: the answer "the first is better".
    second_id: the answer "the second is better".
    prefix: ids in front of the prompt.
  """

  language_model: LanguageModel
  context_length: int
  first_mark: tuple[int, ...]
  second_mark: tuple[int, ...]
  first_id: int
  second_id: int
  prefix: tuple[int, ...] = ()

  def init(self, key: Key[Array, '']) -> PyTree:
    """The language model's parameters; its vocabulary head answers."""
    return self.language_model.init(key)

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    return self.language_model.logical_axes()

  def context(
    self,
    prompts: Int[Array, 'batch prompt_length'],
    first: Int[Array, 'batch length'],
    second: Int[Array, 'batch length'],
  ) -> Int[Array, 'batch context']:
    """What the model is to read, right-padded to `context_length`."""
    rows = prompts.shape[0]
    marks = [self.prefix, self.first_mark, self.second_mark]
    prefix, one, two = (
      jnp.broadcast_to(jnp.asarray(ids, jnp.int32)[None], (rows, len(ids)))
      for ids in marks
    )
    tail = sum(map(len, marks)) + first.shape[1] + second.shape[1]
    # End-of-sequence marks inside the context would be read as its end.
    prompts, first, second = (
      jnp.where(y == END, PADDING, y) for y in (prompts, first, second)
    )
    used = jnp.sum(first > PADDING, 1) + jnp.sum(second > PADDING, 1)
    room = self.context_length - sum(map(len, marks)) - used
    if self.context_length < tail:
      raise ValueError(
        f'A joint preference model needs context_length >= {tail} for its marks'
        f' and two responses, got {self.context_length}: raise it or shorten'
        ' the responses.'
      )
    length = jnp.sum(prompts > PADDING, axis=1)
    position = jnp.arange(prompts.shape[1])[None]
    kept = jnp.where(position >= (length - room)[:, None], prompts, PADDING)
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
    model = self.language_model
    memory = model.encode(params, both)
    answer = jnp.full((2 * rows, 1, 1), self.first_id, jnp.int32)
    # What predicts the first token of a response has read none of it.
    hidden = model.decode_hidden(params, memory, both, answer)[:, 0]
    (logits,) = dense.project(
      hidden.astype(jnp.float32), model.output_kernel(params)
    )
    odds = logits[:, 0, self.first_id] - logits[:, 0, self.second_id]
    return odds[:rows], odds[rows:]

  def with_language_model(
    self, language_model: LanguageModel
  ) -> 'JointPreferenceModel':
    """The same model over another language model."""
    return dataclasses.replace(self, language_model=language_model)

  def pair_reading(
    self, prompt_length: int, response_length: int
  ) -> PairReading:
    """A context in each order, and the first token after it."""
    return PairReading(2, self.context_length, 2, 1, 0, True)

  def pair_operations(self, prompt_length: int, response_length: int) -> float:
    """Matmul operations of reading the context in both orders."""
    del prompt_length, response_length
    return 2 * sum(self.language_model.operations(self.context_length, 1))

  def widest_bytes(
    self, prompt_length: int, response_length: int, num_devices: int
  ) -> float:
    """The largest values of a layer while it reads both orders."""
    del prompt_length, response_length
    return 2 * self.language_model.layer_bytes(self.context_length).on(
      num_devices
    )


def _pack_left(
  tokens: Int[Array, 'batch length'], length: int
) -> Int[Array, 'batch context']:
  """Moves real tokens together, keeping their order; pads on the right."""
  real = tokens > PADDING
  slot = jnp.where(real, jnp.cumsum(real, axis=1) - 1, length)
  rows = jnp.arange(tokens.shape[0])[:, None]
  packed = jnp.full((tokens.shape[0], length), PADDING, tokens.dtype)
  return packed.at[rows, slot].set(tokens, mode='drop')
