"""Layer 4. The margin of a pair: how sure its label is, as a signal."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from dap import errors
from dap.algorithms.signals import Column, Owner, Reads
from dap.models.trained import Trained
from dap.records import Batch, RoleParams


@dataclasses.dataclass(frozen=True)
class Margins:
  """A margin for each grade of preference, told by the share of votes.

  Llama 2 has four grades with the margins 1, 2/3, 1/3, 0 or 3, 2, 1, 0. Which
  shares make a grade is the data's matter (`formats.graded_share`).

  Attributes:
    grades: (least share of the votes for the chosen response, margin), from the
      surest; a pair under all of them has the margin 0.
    name: of the column.
  """

  grades: tuple[tuple[float, float], ...] = ()
  name: str = 'margins'
  reads: ClassVar[Reads] = ('shares',)
  owner: ClassVar[Owner] = ''

  def __post_init__(self):
    grades = tuple((float(share), float(m)) for share, m in self.grades)
    object.__setattr__(self, 'grades', grades)
    shares, margins = zip(*grades) if grades else ((), ())
    falls = all(a > b for a, b in zip(shares, shares[1:]))
    if not falls or any(margin < 0 for margin in margins):
      raise errors.InputError(
        'grades of Margins are (least share, margin) with shares that fall and'
        f' margins >= 0, got {self.grades}.'
      )

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`; both sides of a pair have its margin."""
    share = batch.columns['shares'][:, :1]
    found = jnp.zeros_like(share)
    for least, margin in reversed(self.grades):
      found = jnp.where(share >= least, margin, found)
    return jnp.broadcast_to(found, batch.columns['shares'].shape)
