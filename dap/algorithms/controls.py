"""Layer 4. Controls: numbers that follow samples, such as a KL weight."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from dap import errors, losses
from dap.losses import ranges
from dap.losses.ranges import Positive
from dap.records import Batch

Numbers = dict[str, Float[Array, '']]


@runtime_checkable
class Control(Protocol):
  """A frozen value; pure. Signals read its numbers in `params.control`."""

  def start(self) -> Numbers:
    """The numbers of the first step."""
    ...

  def __call__(self, numbers: Numbers, batch: Batch) -> Numbers:
    """Those of the next step, from these and the examples of this one."""
    ...


@dataclasses.dataclass(frozen=True)
class AdaptiveKl:
  """A KL weight that holds the policy at a distance from its reference.

  weight * (1 + clip(KL / target - 1, -.2, .2) * n / horizon), of the mean KL of
  the n responses of a step, their log-ratio to the reference.

  Attributes:
    initial: weight of the first step, per nat.
    target: KL of a response, nats.
    horizon: responses over which the weight may grow by a fifth.

  Source: Ziegler et al. 2019, section 2.2, https://arxiv.org/abs/1909.08593.
  """

  initial: Positive
  target: Positive
  horizon: Positive = 10_000.0

  def __post_init__(self):
    ranges.check(self)

  def start(self) -> Numbers:
    """See `Control`."""
    return {'kl_weight': jnp.float32(self.initial)}

  def __call__(self, numbers: Numbers, batch: Batch) -> Numbers:
    """See `Control`; the batch has the columns of both policies."""
    lacking = {'behaviour', 'reference'} - {*batch.columns}
    if lacking:
      raise errors.InputError(
        f'AdaptiveKl reads the column {sorted(lacking)[0]}, which no loss or'
        ' signal of this algorithm asks for. Choose a signal that does, such as'
        ' @rewards.AdaptiveTokenRewards().'
      )
    mask = batch.responses.mask
    ratio = losses.log_ratio(
      batch.columns['behaviour'], batch.columns['reference'], mask
    )
    there = jnp.any(mask > 0, axis=2) * batch.weight[:, None]
    count = jnp.sum(there)
    kl = jnp.sum(ratio * there) / jnp.maximum(count, 1.0)
    error = jnp.clip(kl / self.target - 1, -0.2, 0.2)
    weight = numbers['kl_weight'] * (1 + error * count / self.horizon)
    return {'kl_weight': weight}
