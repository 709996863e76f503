"""Layer 2. A language model as the losses see it: log-probs, KL and samples."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar, cast

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dap.errors import InputError
from dap.losses import heads
from dap.models import packing, protocols, trained
from dap.models.counts import PairReading
from dap.models.protocols import LanguageModel
from dap.records import PADDING, Outputs, Pair, Prompts, Responses
from dap.sampling import decode

T = TypeVar('T')
# (states, output kernel, targets, ids that can be generated) to numbers of each
# target, such as `heads.head_log_probs`.
Head = Callable[
  [
    Float[Array, 'rows emb'],
    Float[Array, 'emb vocab'],
    Int[Array, ' rows'],
    Bool[Array, ' vocab'] | None,
  ],
  Float[Array, 'rows *rest'],
]


@dataclasses.dataclass(frozen=True)
class Policy(trained.Whole):
  """A language model that answers prompts; it has no parameters beside it.

  Token ids from `vocabulary_size` on, and padding, have no probability: in
  samples, log-probs and KL alike. None allows every id, as T5X does; commands
  and studies fill in how many the data's vocabulary has (`with_num_ids`), which
  may be fewer than the rows of the model.
  """

  language_model: LanguageModel
  vocabulary_size: int | None = None

  @property
  def allowed(self) -> Bool[Array, ' vocab'] | None:
    """Ids that can be generated; None for all."""
    if self.vocabulary_size is None:
      return None
    ids = jnp.arange(self.language_model.vocab_size)
    return (ids > PADDING) & (ids < self.vocabulary_size)

  @property
  def gives(self) -> tuple[str, ...]:
    """The fields of `Outputs` that it fills."""
    return ('log_probs',)

  def outputs(
    self, params: PyTree, prompts: Prompts, responses: Responses
  ) -> Outputs:
    """Log-probs of the responses."""
    return Outputs(self.log_probs(params, prompts.tokens, responses.tokens))

  def init(self, key: Key[Array, '']) -> PyTree[Array]:
    """Initial parameters of the language model."""
    return self.language_model.init(key)

  def logical_axes(self) -> PyTree:
    """Logical axis names of each parameter."""
    return self.language_model.logical_axes()

  def log_probs(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length']:
    """Nats of each token of n responses to each prompt; 0 on padding."""
    return self.hidden_and_log_probs(params, prompts, responses)[1]

  def hidden_and_log_probs(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> tuple[
    Float[Array, 'batch n length emb'], Float[Array, 'batch n length']
  ]:
    """The states that predict each token, and its `log_probs`: one pass."""
    return self.hidden_and_scores(
      heads.head_log_probs, params, prompts, responses
    )

  def hidden_and_scores(
    self,
    head: Head,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> tuple[
    Float[Array, 'batch n length emb'], Float[Array, 'batch n length *rest']
  ]:
    """The same states, and what a head says of each token; 0 on padding."""
    hidden = self._hidden(params, prompts, responses)
    tokens = responses.reshape(-1, responses.shape[-1])
    room = packing.room_of(self.language_model).responses
    layout = packing.layout(tokens > PADDING, room)
    states = layout.pack(hidden.reshape(*tokens.shape, -1))
    targets = layout.pack(tokens)
    scores = head(
      states.reshape(-1, hidden.shape[-1]),
      self.language_model.output_kernel(params),
      targets.reshape(-1),
      self.allowed,
    )
    rest = scores.shape[1:]
    scores = layout.spread(scores.reshape(*targets.shape, *rest))
    real = (responses > PADDING).reshape(*responses.shape, *(1 for _ in rest))
    scores = jnp.where(real, scores.reshape(*responses.shape, *rest), 0)
    return hidden, scores

  def pair_log_probs(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    pair: Pair[Int[Array, 'batch length']],
  ) -> Pair[Float[Array, 'batch length']]:
    """`log_probs` of the chosen and the rejected response, encoding once."""
    both = jnp.stack(pair, axis=1)
    both = self.log_probs(params, prompts, both)
    return Pair(both[:, 0], both[:, 1])

  def kl(
    self,
    params: PyTree,
    reference_params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length']:
    """Exact KL to the reference at each token of the responses, nats.

    Of the distributions that predict the token; 0 on padding.
    """
    hidden = self._hidden(params, prompts, responses)
    reference = self._hidden(reference_params, prompts, responses)
    kl = heads.head_kl(
      hidden.reshape(-1, hidden.shape[-1]),
      self.language_model.output_kernel(params),
      reference.reshape(-1, hidden.shape[-1]),
      self.language_model.output_kernel(reference_params),
      self.allowed,
    )
    return jnp.where(responses > PADDING, kl.reshape(responses.shape), 0)

  def sample(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    keys: Key[Array, ' batch'],
    *,
    num_samples: int,
    length: int,
    choose: decode.Choose,
  ) -> Responses:
    """Responses to each prompt, drawn as `choose` does, one key a prompt."""
    model = self.language_model
    memory = model.encode(params, prompts)
    cache = model.prefill(
      params, memory, prompts, num_samples=num_samples, length=length
    )
    kernel = model.output_kernel(params)

    def step(cache, tokens, index):
      hidden, cache = model.decode_step(params, cache, tokens, index)
      rows = hidden.reshape(-1, hidden.shape[-1])
      logits = heads.head_logits(rows, kernel, self.allowed)
      return logits.reshape(*tokens.shape, -1), cache

    return decode.sample(
      step,
      cache,
      keys,
      num_samples=num_samples,
      length=length,
      choose=choose,
    )

  def packed(self, room: packing.Room) -> 'Policy':
    """The same policy, of batches with this room."""
    return self.with_language_model(packing.packed(self.language_model, room))

  def with_language_model(self, language_model: LanguageModel) -> 'Policy':
    """The same model over another language model."""
    return dataclasses.replace(self, language_model=language_model)

  def pair_reading(
    self, prompt_length: int, response_length: int
  ) -> PairReading:
    """Both responses are scored."""
    return PairReading(
      1, prompt_length, 2, response_length, 2 * response_length, True
    )

  def pair_operations(self, prompt_length: int, response_length: int) -> float:
    """Matmul operations of scoring two responses to a prompt."""
    one = self.language_model.operations(prompt_length, response_length)
    return one.encoder + one.cross + 2 * (one.decoder + one.head)

  def answer_operations(
    self, prompt_length: int, response_length: int
  ) -> float:
    """Matmul operations of writing or scoring one response to a prompt."""
    return sum(self.language_model.operations(prompt_length, response_length))

  def widest_bytes(
    self, prompt_length: int, response_length: int, num_devices: int
  ) -> float:
    """The largest values of a layer while a pair is scored."""
    return protocols.widest_of_pair(
      self.language_model, prompt_length, response_length, num_devices
    )

  def _hidden(self, params, prompts, responses):
    model = self.language_model
    memory = model.encode(params, prompts)
    return model.decode_hidden(params, memory, prompts, responses)


def with_num_ids(value: T, num_ids: int) -> T:
  """The same value, every policy in it saying the ids below `num_ids` alone.

  Looks into dataclasses, tuples, lists and dictionaries: a run, a study. A
  policy that names fewer ids itself keeps them.

  Raises:
    InputError: one names more: those have no piece, and no text has them.
  """
  changed = _with_num_ids(value, num_ids)
  return cast('T', changed)


def _with_num_ids(value: object, num_ids: int) -> object:
  if isinstance(value, Policy):
    return _limited(value, num_ids)
  if isinstance(value, dict):
    return {k: _with_num_ids(each, num_ids) for k, each in value.items()}
  if isinstance(value, tuple | list):
    parts = [_with_num_ids(each, num_ids) for each in value]
    if all(new is old for new, old in zip(parts, value)):
      return value
    make = getattr(type(value), '_make', type(value))  # of a NamedTuple
    return make(parts)
  if not dataclasses.is_dataclass(value) or isinstance(value, type):
    return value
  changes = {}
  for field in dataclasses.fields(value):
    old = getattr(value, field.name)
    new = _with_num_ids(old, num_ids)
    if new is not old and field.init and new != old:
      changes[field.name] = new
  return dataclasses.replace(value, **changes) if changes else value


def _limited(policy: Policy, num_ids: int) -> Policy:
  own = policy.vocabulary_size
  if own is None:
    return dataclasses.replace(policy, vocabulary_size=num_ids)
  if own > num_ids:
    raise InputError(
      f'A policy says ids that are pieces of the vocabulary, {num_ids}; this'
      f' one has vocabulary_size {own}: ids from {num_ids} on would be sampled'
      ' and stand in no text. Bind Policy.vocabulary_size = None, which takes'
      ' all pieces; VOCABULARY_SIZE is the number of rows of the model.'
    )
  return policy
