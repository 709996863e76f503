"""Layer 4. RSO's pairing: responses of a better policy, by rejecting samples.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dap import errors
from dap.algorithms import matches
from dap.algorithms.pairings import Keys, Paired, Scores
from dap.records import Responses

# Candidates that are left, the place of each that was taken, and their number.
Passed = tuple[Bool[Array, ' n'], Int[Array, ' n'], Int[Array, '']]


def rejection_sample(
  scores: Float[Array, ' n'],
  there: Bool[Array, ' n'],
  key: Key[Array, ''],
  *,
  num_kept: int,
  temperature: float,
) -> tuple[Int[Array, ' num_kept'], Bool[Array, ' num_kept']]:
  """Candidates of a prompt as if the policy ~ exp(score / temperature) drew.

  Passes over the candidates that are left, each accepted with probability
  exp((score - highest score left) / temperature), until enough are: every pass
  accepts at least the best. It draws without replacement, so the law of the
  tilted policy holds for the first of a pass alone. At temperature 0 these are
  the best, in order; at infinity the first.

  Args:
    scores: of the candidates.
    there: which there are; leave out repetitions.
    key: of the prompt.
    num_kept: how many are asked for.
    temperature: the paper's beta, in units of the score, >= 0.

  Returns:
    Numbers of candidates in the order of acceptance, and which of these there
    are: fewer than asked where candidates are fewer.

  Source: Liu et al. 2023, algorithm 1, https://arxiv.org/abs/2309.06657, which
  has no end where there are fewer candidates than it asks for.
  """
  count = scores.shape[0]

  def one_pass(number: Int[Array, ''], state: Passed) -> Passed:
    left, place, taken = state
    most = jnp.max(jnp.where(left, scores, -jnp.inf))
    below = jnp.where(left, scores - most, 0)
    exponent = below / temperature if temperature > 0 else -jnp.inf
    chance = jnp.where(below == 0, 1.0, jnp.exp(exponent))
    dice = jax.random.uniform(jax.random.fold_in(key, number), (count,))
    accepted = left & (dice < chance)
    turn = taken + jnp.cumsum(accepted) - 1
    accepted &= turn < num_kept
    place = jnp.where(accepted, turn, place)
    return left & ~accepted, place, taken + jnp.sum(accepted)

  start = there, jnp.full(count, count), jnp.asarray(0)
  _, place, taken = jax.lax.fori_loop(0, num_kept, one_pass, start)
  order = jnp.argsort(place)[:num_kept]
  return order, jnp.arange(num_kept) < taken


@dataclasses.dataclass(frozen=True)
class Rejection:
  """RSO's pairs: of many samples some are kept, and those meet in a match.

  Attributes:
    num_kept: of the samples to a prompt; 8 of 64 in the paper.
    temperature: of rejection, in units of the score; .5 in the paper. It is not
      the beta of the loss.
    match: between those that are kept.
  """

  num_kept: int
  temperature: float = 0.5
  match: matches.Match = matches.first_round
  reads_scores: ClassVar[bool] = True

  def __post_init__(self):
    matches.check_players(self.num_kept)
    if not self.temperature >= 0 or math.isnan(self.temperature):
      raise errors.InputError(
        f'temperature of rejection must be >= 0, got {self.temperature}: 0'
        ' keeps the best, infinity the first.'
      )

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """See `Pairing`; pairs that lack a response weigh nothing."""
    if scores.shape[1] < self.num_kept:
      raise errors.InputError(
        f'Rejection keeps {self.num_kept} of the samples to a prompt, of which'
        f' there are {scores.shape[1]}: raise num_samples of the sampler, or'
        ' lower num_kept.'
      )
    halves = jax.vmap(jax.random.split, out_axes=1)(keys)

    def keep(
      scores: Float[Array, ' n'], there: Bool[Array, ' n'], key: Key[Array, '']
    ) -> tuple[Int[Array, ' kept'], Bool[Array, ' kept']]:
      return rejection_sample(
        scores,
        there,
        key,
        num_kept=self.num_kept,
        temperature=self.temperature,
      )

    players, there = jax.vmap(keep)(scores, distinct(responses), halves[0])
    return self.match(players, there, scores, halves[1])


def distinct(responses: Responses) -> Bool[Array, 'batch n']:
  """The first of equal responses to a prompt, and none without a token."""
  tokens = responses.tokens
  same = jnp.all(tokens[:, :, None] == tokens[:, None, :], axis=3)
  before = jnp.tril(jnp.ones(same.shape[1:], bool), -1)
  repeated = jnp.any(same & before[None], axis=2)
  return jnp.any(responses.mask > 0, axis=2) & ~repeated
