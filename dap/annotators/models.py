"""Layer 3. Models as annotators: golden and proxy models, reward models.

An annotator gives one number to each response. Of two responses a preference
model's are the probabilities that each is preferred when it is shown first.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from dap import errors
from dap.models import packing
from dap.models.protocols import Comparer, Reader, Scorer
from dap.records import Responses


@runtime_checkable
class Annotator(Protocol):
  """A frozen value that is asked within a compiled program."""

  @property
  def model(self) -> Reader:
    """Whose parameters it needs."""
    ...

  def __call__(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Responses,
    keys: Key[Array, ' batch'],
  ) -> Float[Array, 'batch n']:
    """The score of each response; one key for each prompt."""
    ...


@dataclasses.dataclass(frozen=True)
class PreferenceAnnotator:
  """Asks a preference model about two responses, in both orders.

  Asking in one order alone would let a policy exploit the model's liking for
  a position (Tang et al. 2024, A.2, https://arxiv.org/abs/2405.08448).
  """

  model: Comparer

  def packed(self, room: packing.Room) -> 'PreferenceAnnotator':
    """The same, of prompts with this room."""
    return PreferenceAnnotator(packing.packed(self.model, room))

  def __call__(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Responses,
    keys: Key[Array, ' batch'],
  ) -> Float[Array, 'batch n']:
    """That each of the two is preferred when it is shown first."""
    del keys
    tokens = responses.tokens
    if tokens.shape[1] != 2:
      raise errors.InputError(
        'A preference model compares two responses, got'
        f' {tokens.shape[1]} to a prompt. Bind samplers.FromPolicy.num_samples'
        ' = 2, or choose @models.RewardAnnotator(), which scores each.'
      )
    odds = self.model.log_odds(params, prompts, tokens[:, 0], tokens[:, 1])
    return jnp.stack([jax.nn.sigmoid(each) for each in odds], axis=1)


@dataclasses.dataclass(frozen=True)
class RewardAnnotator:
  """The reward of each response under a model that scores them one by one."""

  model: Scorer

  def packed(self, room: packing.Room) -> 'RewardAnnotator':
    """The same, of prompts with this room."""
    return RewardAnnotator(packing.packed(self.model, room))

  def __call__(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Responses,
    keys: Key[Array, ' batch'],
  ) -> Float[Array, 'batch n']:
    """Rewards."""
    del keys
    return self.model.scores(params, prompts, responses.tokens)
