"""Layer 4. CLICK's pairing: to each bad sample the likeliest less likely good.

Pairs whose good sample is already likelier than its bad one would teach
nothing, and those that lie far apart teach what no policy would write.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool

from dap import errors
from dap.algorithms.pairings import Keys, Paired, Scores
from dap.losses.log_probs import sequence_sum
from dap.records import Responses

# From the scores of the samples of a prompt to whether each is good.
Good = Callable[[Scores], Bool[Array, 'batch n']]


def positive(scores: Scores) -> Bool[Array, 'batch n']:
  """Scores above 0: those of a classifier that gives log-odds."""
  return scores > 0


def above_mean(scores: Scores) -> Bool[Array, 'batch n']:
  """Better than the mean of its siblings: rewards have no zero of their own."""
  return scores > jnp.mean(scores, axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class LikelihoodRanked:
  """Of each bad sample an example: a good one, itself, the data's response.

  The first response of a prompt is the data's (`samplers.BesideData`) and does
  not compete. Of the good samples that are less likely than the bad one, as
  the policy has it that drew both, the likeliest is taken; a bad sample
  without one weighs nothing.

  Attributes:
    good: which samples are, by their scores.
  """

  good: Good = positive
  reads_scores: ClassVar[bool] = True

  def __call__(
    self, responses: Responses, scores: Scores, keys: Keys
  ) -> Paired:
    """See `Pairing`: as many examples as samples, each the bad one of one."""
    del keys
    count = scores.shape[1] - 1
    if count < 2:
      raise errors.InputError(
        'Likelihood ranking needs the response of the data and at least two'
        f' samples to a prompt, got {count + 1} responses: raise num_samples'
        ' within @samplers.BesideData().'
      )
    there = jnp.any(responses.mask[:, 1:] > 0, axis=2)
    likely = sequence_sum(responses.log_probs, responses.mask)[:, 1:]
    good = there & self.good(scores[:, 1:])
    fits = good[:, None, :] & (likely[:, None, :] < likely[:, :, None])
    best = jnp.argmax(jnp.where(fits, likely[:, None, :], -jnp.inf), axis=2)
    bad = jnp.broadcast_to(jnp.arange(count), best.shape)
    rows = jnp.stack([best + 1, bad + 1, jnp.zeros_like(bad)], axis=2)
    weight = there & ~good & jnp.any(fits, axis=2)
    return rows, weight.astype(scores.dtype)
