"""Layer 2. What models offer to whoever trains, samples, judges and counts.

A family of language models (T5, decoders alone) is one frozen value that meets
`LanguageModel`. Policies and preference models are written over that protocol
and know no family. Parameters are always an argument.
"""

from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Array, Float, Int, Key, PyTree

from dap.models.counts import (
  Decoding,
  LayerBytes,
  Operations,
  PairReading,
)

T = TypeVar('T')


@runtime_checkable
class Parameters(Protocol):
  """Whatever has parameters."""

  def init(self, key: Key[Array, '']) -> PyTree[Array]:
    """Initial parameters, float32."""
    ...

  def logical_axes(self) -> PyTree:
    """Their tree with tuples of logical axis names for leaves."""
    ...


@runtime_checkable
class LanguageModel(Parameters, Protocol):
  """A family of language models at one size: a frozen, hashable value.

  What `encode` and `prefill` return is a pytree that the family alone reads:
  an encoder-decoder's states of the prompts, a decoder's keys and values of
  them. Nobody else looks into it or asks for its shapes. Prompts and responses
  are right-padded.
  """

  @property
  def vocab_size(self) -> int:
    """Rows of the embedding and of logits."""
    ...

  @property
  def emb_dim(self) -> int:
    """Width of the states that `read` and the others return."""
    ...

  def encode(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
  ) -> PyTree[Array]:
    """What responses read of the prompts, once for all of them."""
    ...

  def decode_hidden(
    self,
    params: PyTree,
    memory: PyTree[Array],
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length emb']:
    """States that predict each token of n responses to each prompt.

    The state at a token has seen the prompt and the tokens before it. States
    on padding are finite and mean nothing.
    """
    ...

  def read(
    self,
    params: PyTree,
    memory: PyTree[Array],
    prompts: Int[Array, 'batch prompt'],
    inputs: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length emb']:
    """States that have seen the prompt and the inputs up to their own."""
    ...

  def prefill(
    self,
    params: PyTree,
    memory: PyTree[Array],
    prompts: Int[Array, 'batch prompt'],
    *,
    num_samples: int,
    length: int,
  ) -> PyTree[Array]:
    """The cache of `num_samples` responses of up to `length` tokens."""
    ...

  def decode_step(
    self,
    params: PyTree,
    cache: PyTree[Array],
    tokens: Int[Array, 'batch n'],
    index: Int[Array, ''],
  ) -> tuple[Float[Array, 'batch n emb'], PyTree[Array]]:
    """States that predict the tokens at `index`, and the new cache.

    `tokens` are those at `index - 1`. Before the first there are none and they
    are padding: a decoder goes on from the prompt's last token.
    """
    ...

  def output_kernel(self, params: PyTree) -> Float[Array, 'emb vocab']:
    """The float32 kernel from states to logits."""
    ...

  def operations(self, prompt_length: int, response_length: int) -> Operations:
    """Of reading one prompt and one response to it."""
    ...

  def decoding(self) -> Decoding:
    """Bytes that drawing a token reads."""
    ...

  def layer_bytes(self, length: int) -> LayerBytes:
    """Of a text of so many tokens while a layer reads it."""
    ...

  def kernel_bytes(self) -> int:
    """Copies of the layers' kernels in the compute dtype; 0 without any."""
    ...

  @property
  def depth(self) -> tuple[int, ...]:
    """Layers of each stack; the layers of a stack are alike."""
    ...

  def with_depth(self, depth: tuple[int, ...]) -> 'LanguageModel':
    """The same model with so many layers in each stack."""
    ...


@runtime_checkable
class Reader(Parameters, Protocol):
  """A policy or a judge: parameters over a language model, and their costs."""

  @property
  def language_model(self) -> LanguageModel:
    """Whose parameters are all, or a part, of the model's."""
    ...

  def with_language_model(self: T, language_model: LanguageModel) -> T:
    """The same model over another language model."""
    ...

  def pair_reading(
    self, prompt_length: int, response_length: int
  ) -> PairReading:
    """What is read for a prompt and two responses to it."""
    ...

  def pair_operations(self, prompt_length: int, response_length: int) -> float:
    """Matmul operations of the same."""
    ...

  def widest_bytes(
    self, prompt_length: int, response_length: int, num_devices: int
  ) -> float:
    """The largest values of a layer meanwhile.

    Args:
      prompt_length: tokens of the prompt.
      response_length: tokens of each response.
      num_devices: of the mesh's model axis.
    """
    ...


@runtime_checkable
class Headed(Parameters, Protocol):
  """A model with a head beside a language model that may be trained already."""

  def init_head(self, key: Key[Array, '']) -> PyTree[Array]:
    """Initial parameters of the head alone, where they lie in the tree."""
    ...


@runtime_checkable
class Comparer(Reader, Protocol):
  """A preference model: says which of two responses is better."""

  def log_odds(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    first: Int[Array, 'batch length'],
    second: Int[Array, 'batch length'],
  ) -> tuple[Float[Array, ' batch'], Float[Array, ' batch']]:
    """Logits that the one shown first is preferred, in both orders."""
    ...


@runtime_checkable
class Scorer(Reader, Protocol):
  """A reward model: one number for each response."""

  def scores(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n']:
    """The score of each response."""
    ...


def widest_of_pair(
  model: LanguageModel,
  prompt_length: int,
  response_length: int,
  num_devices: int,
) -> float:
  """`Reader.widest_bytes` of two responses that share a prompt's encoding."""
  return max(
    model.layer_bytes(prompt_length).on(num_devices),
    2 * model.layer_bytes(response_length).on(num_devices),
  )
