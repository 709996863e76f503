"""Layer 4. Pairings: from scores of responses to the examples of a loss.

A pairing gives, for each prompt, k examples of m responses, by their numbers
among those that were drawn, chosen first, and a weight for each example.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dap import errors
from dap.annotators import labels
from dap.records import Responses, ended

Paired = tuple[Int[Array, 'batch k m'], Float[Array, 'batch k']]
Scores = Float[Array, 'batch n']
Keys = Key[Array, ' batch']


@runtime_checkable
class Pairing(Protocol):
  """A frozen value; pure.

  Attributes:
    reads_scores: whether somebody must have been asked about the responses.
  """

  reads_scores: ClassVar[bool]

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """Numbers of responses `[batch, k, m]`, and weights; a key a prompt."""
    ...


@dataclasses.dataclass(frozen=True)
class Two:
  """Two responses a prompt; the annotator says which one is chosen.

  Attributes:
    label: (p_ab, p_ba, keys) -> whether the first response is chosen.
    weight: (p_ab, p_ba) -> weight of the pair; all pairs count by default.
  """

  label: Callable[..., Bool[Array, ' batch']] = labels.sign_label
  weight: Callable[..., Float[Array, ' batch']] | None = None
  reads_scores: ClassVar[bool] = True

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """See `Pairing`; a tie is decided by a fair coin."""
    if scores.shape[1] != 2:
      raise errors.InputError(
        'The pairing of two needs two responses to a prompt, got'
        f' {scores.shape[1]}. Bind samplers.FromPolicy.num_samples = 2, or'
        ' choose @pairings.BestWorst().'
      )
    p_ab, p_ba = scores[:, 0], scores[:, 1]
    first = self.label(p_ab, p_ba, keys)
    rows = jnp.where(first[:, None], jnp.array([[0, 1]]), jnp.array([[1, 0]]))
    weight = jnp.ones_like(p_ab)
    if self.weight is not None:
      weight = self.weight(p_ab, p_ba)
    return rows[:, None], weight[:, None]


def without_ties(
  p_ab: Float[Array, ' batch'], p_ba: Float[Array, ' batch']
) -> Float[Array, ' batch']:
  """Weight 0 for pairs that the annotator calls equal."""
  return (p_ab != p_ba).astype(jnp.float32)


# Of the responses of a prompt, those that may be chosen.
MayWin = Callable[[Responses], Bool[Array, 'batch n']]


def ended_response(responses: Responses) -> Bool[Array, 'batch n']:
  """Those that ended by themselves: one that was cut teaches not to stop."""
  return jnp.asarray(ended(responses.tokens))


@dataclasses.dataclass(frozen=True)
class Best:
  """The response with the highest score alone; the first of equal ones.

  Attributes:
    may_win: which responses count, all by default; a prompt without any weighs
      nothing.
  """

  may_win: MayWin | None = None
  reads_scores: ClassVar[bool] = True

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """See `Pairing`."""
    del keys
    allowed = _allowed(scores, responses, self.may_win)
    rows = jnp.argmax(allowed, axis=1)[:, None, None]
    there = jnp.max(allowed, axis=1) > -jnp.inf
    return rows, there.astype(scores.dtype)[:, None]


@dataclasses.dataclass(frozen=True)
class BestWorst:
  """The best response chosen, the worst rejected; ties weigh nothing.

  Attributes:
    may_win: which responses may be chosen, all by default; a prompt without a
      better one than its worst weighs nothing.
  """

  may_win: MayWin | None = None
  reads_scores: ClassVar[bool] = True

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """See `Pairing`."""
    del keys
    allowed = _allowed(scores, responses, self.may_win)
    rows = jnp.stack([jnp.argmax(allowed, 1), jnp.argmin(scores, 1)], axis=1)
    differ = jnp.max(allowed, axis=1) > jnp.min(scores, axis=1)
    return rows[:, None], differ.astype(scores.dtype)[:, None]


@dataclasses.dataclass(frozen=True)
class AllOf:
  """All responses of a prompt as one example, in the order of drawing."""

  reads_scores: ClassVar[bool] = True

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """See `Pairing`."""
    del responses, keys
    rows = jnp.broadcast_to(jnp.arange(scores.shape[1])[None], scores.shape)
    return rows[:, None], jnp.ones_like(scores[:, :1])


class AsDrawn(AllOf):
  """The same whatever anybody says of the responses: nobody need be asked.

  With `samplers.BesideData` and one sample, the data's response is chosen and
  the policy's own rejected (SPIN).
  """

  reads_scores: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class Above:
  """Every response that scores above a threshold, each an example.

  ReST's filter: a higher threshold keeps a subset of those of a lower one.

  Attributes:
    threshold: in units of the score.
    may_win: which responses count, all by default.
  """

  threshold: float
  may_win: MayWin | None = None
  reads_scores: ClassVar[bool] = True

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """See `Pairing`; the others weigh nothing."""
    del keys
    allowed = _allowed(scores, responses, self.may_win)
    rows = jnp.broadcast_to(jnp.arange(scores.shape[1]), scores.shape)
    return rows[..., None], (allowed > self.threshold).astype(scores.dtype)


def _allowed(
  scores: Scores, responses: Responses, may_win: MayWin | None
) -> Scores:
  """The scores of those that may win; minus infinity for the others."""
  if may_win is None:
    return scores
  return jnp.where(may_win(responses), scores, -jnp.inf)
