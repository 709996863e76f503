"""Layer 4. Rooms: how many places a batch's real tokens are given.

A program has one shape, so each room that a training meets is compiled once:
rooms are few. They depend on the batch alone, which makes a recorded stream
repeat its run to the bit.
"""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

from dap import errors


@runtime_checkable
class Rooms(Protocol):
  """A frozen value; pure.

  Attributes:
    counts: whether it wants to know how many tokens are real; the loop then
      waits for the responses of a step before it dispatches the update.
  """

  counts: ClassVar[bool]

  def __call__(self, tokens: int, positions: int) -> int | None:
    """Room for so many real tokens among so many positions; None pads."""
    ...


@dataclasses.dataclass(frozen=True)
class Padded:
  """None: dense layers work on padding too. One program."""

  counts: ClassVar[bool] = False

  def __call__(self, tokens: int, positions: int) -> int | None:
    """See `Rooms`."""
    del tokens, positions
    return None


@dataclasses.dataclass(frozen=True)
class Packed:
  """The fewest parts of a padded batch that hold its real tokens.

  Attributes:
    parts: of a padded batch. The sum of many lengths varies little, so that
      batches of one kind meet one or two rooms with eight; more parts waste
      less and compile more.
  """

  parts: int = 8
  counts: ClassVar[bool] = True

  def __post_init__(self):
    if self.parts < 2:
      raise errors.InputError(
        f'Packing needs parts >= 2 of a padded batch, got {self.parts}. To pad,'
        ' include gin/packing/padded.gin.'
      )

  def __call__(self, tokens: int, positions: int) -> int | None:
    """See `Rooms`; None where all parts are needed."""
    part = -(-positions // self.parts)
    room = max(1, -(-tokens // part)) * part
    return room if room < positions else None
