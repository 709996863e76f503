"""Layer 2. Several reward models that answer as one, and a policy as a judge.

Parameters are a tuple, one tree for each member.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dap import errors
from dap.models import heads, packing
from dap.models.counts import PairReading
from dap.models.policy import Policy
from dap.models.protocols import LanguageModel, Reader, Scorer

T = TypeVar('T', bound='Several')
Scores = Float[Array, 'members batch n']
# From what each member says to the one score; the batch is the whole one.
Combine = Callable[[Scores], Float[Array, 'batch n']]


class Several:
  """A tuple of readers: parameters and costs are theirs together."""

  members: tuple[Any, ...]  # of readers

  def init(self, key: Key[Array, '']) -> PyTree[Array]:
    """A tuple of the members' initial parameters."""
    keys = jax.random.split(key, len(self.members))
    return tuple(each.init(key) for each, key in zip(self.members, keys))

  def logical_axes(self) -> PyTree:
    """A tuple of the members'."""
    return tuple(each.logical_axes() for each in self.members)

  @property
  def language_model(self) -> LanguageModel:
    """The first member's."""
    return self.members[0].language_model

  def with_language_model(self: T, language_model: LanguageModel) -> T:
    """All members over another language model."""
    return self._with(lambda each: each.with_language_model(language_model))

  def packed(self: T, room: packing.Room) -> T:
    """The same, of batches with this room."""
    return self._with(lambda each: packing.packed(each, room))

  def pair_reading(
    self, prompt_length: int, response_length: int
  ) -> PairReading:
    """Of all members, each of whose texts are as long as the longest."""
    parts = [
      each.pair_reading(prompt_length, response_length) for each in self.members
    ]
    return PairReading(
      sum(each.contexts for each in parts),
      max(each.context_length for each in parts),
      sum(each.texts for each in parts),
      max(each.length for each in parts),
      sum(each.scored for each in parts),
      any(each.head for each in parts),
    )

  def pair_operations(self, prompt_length: int, response_length: int) -> float:
    """Matmul operations of all members."""
    return sum(
      each.pair_operations(prompt_length, response_length)
      for each in self.members
    )

  def widest_bytes(
    self, prompt_length: int, response_length: int, num_devices: int
  ) -> float:
    """The largest values of a layer of any member."""
    return max(
      each.widest_bytes(prompt_length, response_length, num_devices)
      for each in self.members
    )

  def _with(self: T, change: Callable[[Any], Reader]) -> T:
    members = tuple(change(each) for each in self.members)
    return dataclasses.replace(self, members=members)  # pyright: ignore


def mean_score(scores: Scores) -> Float[Array, 'batch n']:
  """Of an ensemble: the mean of its members."""
  return jnp.mean(scores, axis=0)


def worst_score(scores: Scores) -> Float[Array, 'batch n']:
  """Of an ensemble: the least that any member gives.

  Source: worst-case optimisation of Coste et al. 2023,
  https://arxiv.org/abs/2310.02743.
  """
  return jnp.min(scores, axis=0)


def helpful_unless_unsafe(
  scores: Scores,
  about_safety: Bool[Array, ' batch'] | None = None,
  *,
  threshold: float = 0.15,
) -> Float[Array, 'batch n']:
  """Llama 2's reward of a helpful and a safe model, whitened log-odds.

  The safety model's where it gives the response a probability under
  `threshold`, or where the prompt asks for it; the other's elsewhere. Then mean
  0 and variance 1 over the batch, both of the population.

  Args:
    scores: log-odds of the helpful model, and of the safe one; cut to +-20.
    about_safety: prompts of which safety alone is asked; none when None.
    threshold: a probability; one that equals it is safe.

  Source: Touvron et al. 2023, section 3.2.3, https://arxiv.org/abs/2307.09288;
  the cut, and which variance, are ours.
  """
  helpful, safe = jnp.clip(scores, -20.0, 20.0)
  unsafe = jax.nn.sigmoid(safe) < threshold
  if about_safety is not None:
    unsafe |= about_safety[:, None]
  odds = jnp.where(unsafe, safe, helpful)
  deviation = jnp.std(odds)
  return (odds - jnp.mean(odds)) / jnp.where(deviation > 0, deviation, 1.0)


@dataclasses.dataclass(frozen=True)
class Joined(Several, heads.Scoring):
  """Reward models of one vocabulary, combined to one.

  Attributes:
    members: asked about the same responses.
    combine: such as `mean_score`, `worst_score`, `helpful_unless_unsafe`.
  """

  members: tuple[Scorer, ...]
  combine: Combine = mean_score

  def __post_init__(self):
    object.__setattr__(self, 'members', tuple(self.members))
    if len(self.members) < 2:
      raise errors.InputError(
        f'Joined needs at least two members, got {len(self.members)}.'
      )
    sizes = [each.language_model.vocab_size for each in self.members]
    if len({*sizes}) > 1:
      raise errors.InputError(
        'Members of Joined read the same token ids, got vocabularies of'
        f' {sizes}.'
      )

  def scores(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n']:
    """The combined score of each response."""
    asked = zip(self.members, params, strict=True)
    return self.combine(
      jnp.stack([each.scores(own, prompts, responses) for each, own in asked])
    )


@dataclasses.dataclass(frozen=True)
class ImplicitReward(Several, heads.Scoring):
  """What a policy's training says of a response: beta * its log-ratio.

  Parameters are those of the policy and of its reference.

  Attributes:
    policy: of both.
    beta: of the training whose reward it is.

  Source: Rafailov et al. 2023, eq. 5, https://arxiv.org/abs/2305.18290.
  """

  policy: Policy
  beta: float = 0.1

  def __post_init__(self):
    if not self.beta > 0:
      raise errors.InputError(
        f'beta of ImplicitReward must be > 0, got {self.beta}.'
      )

  @functools.cached_property
  def members(self) -> tuple[Policy, ...]:  # pyright: ignore
    """The policy, and its reference."""
    return self.policy, self.policy

  def scores(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n']:
    """Nats of each response under the policy less the reference's, scaled."""
    own, reference = (
      jnp.sum(self.policy.log_probs(each, prompts, responses), axis=2)
      for each in params
    )
    return self.beta * (own - reference)

  def _with(self, change):
    return dataclasses.replace(self, policy=change(self.policy))
