"""Layer 2. What models around a policy share: the policy's, passed on."""

import dataclasses
from typing import Any, TypeVar, cast

from jaxtyping import Array, Key, PyTree

from dap.models import packing, trained
from dap.models.counts import PairReading
from dap.models.policy import Policy
from dap.models.protocols import LanguageModel

T = TypeVar('T', bound='AroundPolicy')


class AroundPolicy(trained.Whole):
  """A frozen dataclass with a policy; parameters are the policy's by default.

  Costs are the policy's: what stands around it is nothing beside it.
  """

  policy: Policy

  @property
  def shared(self) -> Policy:  # pyright: ignore[reportIncompatibleMethodOverride]
    """The policy."""
    return self.policy

  def with_shared(self: T, shared: Any) -> T:
    """The same with another policy."""
    return cast(T, dataclasses.replace(cast(Any, self), policy=shared))

  @property
  def language_model(self) -> LanguageModel:
    """The policy's."""
    return self.policy.language_model

  def with_language_model(self: T, model: LanguageModel) -> T:
    """The same over another one."""
    return self.with_shared(self.policy.with_language_model(model))

  def packed(self: T, room: packing.Room) -> T:
    """The same, of batches with this room."""
    return self.with_shared(self.policy.packed(room))

  def init(self, key: Key[Array, '']) -> PyTree:
    """Initial parameters of the policy."""
    return self.policy.init(key)

  def logical_axes(self) -> PyTree:
    """The policy's."""
    return self.policy.logical_axes()

  def pair_reading(
    self, prompt_length: int, response_length: int
  ) -> PairReading:
    """The policy's."""
    return self.policy.pair_reading(prompt_length, response_length)

  def pair_operations(self, prompt_length: int, response_length: int) -> float:
    """The policy's."""
    return self.policy.pair_operations(prompt_length, response_length)

  def widest_bytes(
    self, prompt_length: int, response_length: int, num_devices: int
  ) -> float:
    """The policy's."""
    return self.policy.widest_bytes(prompt_length, response_length, num_devices)
