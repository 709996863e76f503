"""Layer 4. Matches: pairs of more than two responses, by who scores higher.

A match takes, for each prompt, the numbers of the responses that play in their
order, which of them there are, and the scores of all; it gives pairs of which
the winner stands first, and weight 0 where equals met or a player was missing.
"""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dap import errors
from dap.algorithms.pairings import Keys, Paired, Scores
from dap.records import Responses

Players = Int[Array, 'batch players']
There = Bool[Array, 'batch players']


@runtime_checkable
class Match(Protocol):
  """Pure; a function."""

  def __call__(
    self, players: Players, there: There, scores: Scores, keys: Keys
  ) -> Paired:
    """Pairs of the players, the winners first; a key to each prompt."""
    ...


def first_round(
  players: Players, there: There, scores: Scores, keys: Keys
) -> Paired:
  """Shuffles them and lets the first meet the second, and so on: n // 2 pairs.

  Source: Liu et al. 2023, https://arxiv.org/abs/2309.06657.
  """
  players, there = _shuffled(players, there, keys)
  pairs, weight, _, _ = _meet(players, there, scores)
  return pairs, weight


def tournament(
  players: Players, there: There, scores: Scores, keys: Keys
) -> Paired:
  """Shuffles them and lets winners play on until there is one: n - 1 pairs.

  Source: as `first_round`.
  """
  players, there = _shuffled(players, there, keys)
  rounds = []
  while players.shape[1] > 1:
    pairs, weight, players, there = _meet(players, there, scores)
    rounds.append((pairs, weight))
  rows, weights = zip(*rounds, strict=True)
  return jnp.concatenate(rows, axis=1), jnp.concatenate(weights, axis=1)


@dataclasses.dataclass(frozen=True)
class Ranked:
  """Pairs of all responses that were drawn, by a match between them.

  Attributes:
    match: which of them meet.
  """

  match: Match = tournament
  reads_scores: ClassVar[bool] = True

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """See `Pairing`; a draw weighs nothing."""
    check_players(scores.shape[1])
    players = jnp.broadcast_to(jnp.arange(scores.shape[1]), scores.shape)
    there = jnp.any(responses.mask > 0, axis=2)
    return self.match(players, there, scores, keys)


def check_players(count: int) -> None:
  """Refuses a match of one.

  Raises:
    errors.InputError: there are fewer than two.
  """
  if count < 2:
    raise errors.InputError(
      f'A match needs at least two responses to a prompt, got {count}: raise'
      ' num_samples of the sampler.'
    )


def _shuffled(
  players: Players, there: There, keys: Key[Array, ' batch']
) -> tuple[Players, There]:
  """In random order, those that are missing last."""
  dice = jax.vmap(lambda key: jax.random.uniform(key, players.shape[1:]))(keys)
  order = jnp.argsort(jnp.where(there, dice, 2.0), axis=1)
  take = lambda row: jnp.take_along_axis(row, order, axis=1)
  return take(players), take(there)


def _meet(
  players: Players, there: There, scores: Scores
) -> tuple[
  Int[Array, 'batch k 2'],
  Float[Array, 'batch k'],
  Int[Array, 'batch left'],
  Bool[Array, 'batch left'],
]:
  """One round: (pairs, weights, who plays on, whether there is such a one).

  Of equals the first plays on, and the last of an odd number without a match.
  """
  count = players.shape[1] // 2
  sides = players[:, : 2 * count].reshape(-1, count, 2)
  present = there[:, : 2 * count].reshape(-1, count, 2)
  points = jnp.take_along_axis(
    scores, sides.reshape(len(scores), -1), axis=1
  ).reshape(sides.shape)
  points = jnp.where(present, points, -jnp.inf)
  swap = points[..., 1] > points[..., 0]
  pairs = jnp.where(swap[..., None], sides[..., ::-1], sides)
  fair = present.all(2) & (points[..., 0] != points[..., 1])
  winners = jnp.concatenate([pairs[..., 0], players[:, 2 * count :]], axis=1)
  go_on = jnp.concatenate([present.any(2), there[:, 2 * count :]], axis=1)
  return pairs, fair.astype(scores.dtype), winners, go_on
