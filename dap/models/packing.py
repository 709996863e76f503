"""Layer 2. Packing: dense layers work on the real tokens of a batch alone.

Attention reads texts as they lie, `[rows, length, ...]`, padding included; all
else is done token by token and may be done on `[room, ...]`: the real tokens
one after another. A room is static, so that a program has one shape, and holds
all real tokens; what is left of it does not count. Results are those of padded
texts to rounding.
"""

from typing import NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

T = TypeVar('T')


class Room(NamedTuple):
  """Places for the real tokens of a batch; None leaves texts padded.

  Attributes:
    prompts: of all prompts together, no fewer than they have real tokens.
    responses: of all responses together.
  """

  prompts: int | None = None
  responses: int | None = None


@runtime_checkable
class Packs(Protocol):
  """A model that can read batches packed."""

  def packed(self, room: Room) -> 'Packs':
    """The same model, of batches with this room."""
    ...


def packed(model: T, room: Room) -> T:
  """The model with this room; one that packs nothing is left as it is."""
  return cast(T, model.packed(room)) if isinstance(model, Packs) else model


def room_of(model: object) -> Room:
  """The room that a model was given."""
  return getattr(model, 'room', Room())


@runtime_checkable
class Layout(Protocol):
  """Where the tokens of texts lie in dense layers."""

  def pack(self, x: Shaped[Array, 'rows length *rest']) -> Shaped[Array, '...']:
    """From texts to what dense layers read."""
    ...

  def spread(
    self, x: Shaped[Array, '...']
  ) -> Shaped[Array, 'rows length *rest']:
    """The inverse; 0 on padding."""
    ...


class Padded(NamedTuple):
  """Dense layers read texts as they lie."""

  def pack(self, x: Shaped[Array, 'rows length *rest']) -> Shaped[Array, '...']:
    """See `Layout`."""
    return x

  def spread(
    self, x: Shaped[Array, '...']
  ) -> Shaped[Array, 'rows length *rest']:
    """See `Layout`, but for padding, which stays as it is."""
    return x


class Packed(NamedTuple):
  """Dense layers read real tokens alone.

  Attributes:
    positions: the position, over all rows, of each place of the room.
    places: the place of each position, beyond the last where it is padding.
  """

  positions: Int[Array, ' room']
  places: Int[Array, 'rows length']

  def pack(self, x: Shaped[Array, 'rows length *rest']) -> Shaped[Array, '...']:
    """See `Layout`; places that are left hold 0."""
    x = x.reshape(-1, *x.shape[2:])
    return _take(x, self.positions, self.places.reshape(-1))

  def spread(
    self, x: Shaped[Array, '...']
  ) -> Shaped[Array, 'rows length *rest']:
    """See `Layout`."""
    x = _take(x, self.places.reshape(-1), self.positions)
    return x.reshape(*self.places.shape, *x.shape[1:])


PADDED = Padded()
Layouts = tuple[Layout, Layout]  # of prompts, of responses


def layout(real: Bool[Array, 'rows length'], room: int | None) -> Layout:
  """Of texts whose tokens are real where it is said; at most `room` are."""
  if room is None:
    return PADDED
  flat = real.reshape(-1)
  (positions,) = jnp.nonzero(flat, size=room, fill_value=flat.size)
  places = jnp.where(flat, jnp.cumsum(flat) - 1, room)
  return Packed(positions, places.reshape(real.shape))


@jax.custom_vjp
def _take(x, index, inverse):
  """Rows of `x`, 0 beyond its end; `inverse` takes them back.

  The gradient of a gather is a scatter; of one that repeats no row it is the
  inverse gather, which is many times as fast on a CPU.
  """
  del inverse
  return x.at[index].get(mode='fill', fill_value=0)


def _take_forward(x, index, inverse):
  return _take(x, index, inverse), (index, inverse)


def _take_backward(residuals, bar):
  index, inverse = residuals
  return _take(bar, inverse, index), None, None


_take.defvjp(_take_forward, _take_backward)
