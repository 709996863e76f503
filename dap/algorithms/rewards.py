"""Layer 4. Signals of what PPO may add: scaled rewards, data beside samples."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import ScalarLike

from dap import losses
from dap.algorithms import signals
from dap.algorithms.signals import Column, Owner, Reads
from dap.losses import ranges
from dap.losses.ranges import Count
from dap.models.trained import Trained
from dap.records import Batch, RoleParams


@dataclasses.dataclass(frozen=True)
class WhitenedRewards:
  """Token rewards of variance 1 over the global batch; their mean stays.

  It reads them as `raw_rewards`: give `signals.TokenRewards` that name. The
  implementations of OpenAI scale rewards so, later ones do not (spec 2.16).
  """

  name: str = 'token_rewards'
  reads: ClassVar[Reads] = ('raw_rewards',)
  owner: ClassVar[Owner] = ''

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    mask = batch.responses.mask
    there, raw = mask > 0, batch.columns['raw_rewards']
    count = jnp.maximum(jnp.sum(there), 1)
    mean = jnp.sum(jnp.where(there, raw, 0)) / count
    return losses.whiten(raw, mask) + jnp.where(there, mean, 0)


@dataclasses.dataclass(frozen=True)
class AdaptiveTokenRewards(signals.TokenRewards):
  """`TokenRewards` under the KL weight that the algorithm's control has now.

  Its own `kl_weight` is not read.
  """

  controlled: ClassVar[bool] = True

  def weight(self, params: RoleParams) -> ScalarLike:
    """The control's; an algorithm without one is refused, shapes have none."""
    if params.control is None:
      return self.kl_weight
    return params.control['kl_weight']


@dataclasses.dataclass(frozen=True)
class Unwhitened:
  """Advantages of tokens as they were estimated, whatever their scale."""

  name: str = 'advantages'
  reads: ClassVar[Reads] = ('gae',)
  owner: ClassVar[Owner] = ''

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    return batch.columns['gae']


@dataclasses.dataclass(frozen=True)
class Sampled:
  """1 for responses that the policy wrote, 0 for those of the data.

  Attributes:
    num_data: responses of a group, the first, that data wrote.
    name: of the column.
  """

  num_data: Count = 1
  name: str = 'sampled'
  reads: ClassVar[Reads] = ()
  owner: ClassVar[Owner] = ''

  def __post_init__(self):
    ranges.check(self)

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    return jnp.ones_like(batch.scores).at[:, : self.num_data].set(0)
