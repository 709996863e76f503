"""Layer 1. The best of n samples: its KL and the samples it is chosen from."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real
from scipy import special

from dap import errors


def kl_bound(counts: Sequence[int]) -> Float[np.ndarray, ' counts']:
  """log n - (n - 1) / n nats: the KL where no two responses score alike.

  Source: Beirami et al. 2024, theorem 3.1, https://arxiv.org/abs/2401.01879.

  Args:
    counts: n, >= 1.
  """
  n = np.asarray(counts, np.float64)
  return np.log(n) - (n - 1) / n


def kl(
  scores: Real[np.ndarray, 'prompts samples'], counts: Sequence[int]
) -> Float[np.ndarray, ' counts']:
  """KL from the sampled policy, nats, mean over prompts; at most the bound.

  Samples of equal score count as one response, whose share of the policy is
  theirs of the samples; one that scores alone counts as many unlike ones. So it
  errs upwards where samples are few, and is exact for many.

  Source: Beirami et al. 2024, lemma 1, https://arxiv.org/abs/2401.01879.

  Args:
    scores: of N samples to each prompt.
    counts: n, from 1 to N.
  """
  _check(scores, counts)
  n = np.asarray(counts, np.float64)[:, None]
  return np.mean([_kl(row, n) for row in scores], axis=0)


def medians(
  scores: Real[np.ndarray, 'prompts samples'], counts: Sequence[int]
) -> Float[np.ndarray, 'counts prompts']:
  """Expected median score of n drawn without replacement, by prompt.

  The median of an even number is the mean of the middle two.

  Args:
    scores: of N samples to each prompt.
    counts: n, from 1 to N.
  """
  _check(scores, counts)
  total = scores.shape[1]
  ascending = np.sort(scores.astype(np.float64), axis=1)
  chances = [
    (_of_rank(total, n, (n + 1) // 2) + _of_rank(total, n, n // 2 + 1)) / 2
    for n in counts
  ]
  return np.stack(chances) @ ascending.T


def _of_rank(total: int, count: int, rank: int) -> np.ndarray:
  """Chance of the i-th smallest of `total` to be `rank`-th of `count` of them.

  C(i - 1, rank - 1) C(total - i, count - rank) / C(total, count).
  """
  below = np.arange(total)
  log_chances = (
    _log_choose(below, rank - 1)
    + _log_choose(total - 1 - below, count - rank)
    - _log_choose(np.array(total), count)
  )
  return np.exp(log_chances)


def _log_choose(total: np.ndarray, count: int) -> np.ndarray:
  """-inf where there are fewer than `count`."""
  rest = total - count
  found = (
    special.gammaln(total + 1)
    - special.gammaln(count + 1)
    - special.gammaln(np.maximum(rest, 0) + 1)
  )
  return np.where(rest < 0, -np.inf, found)


def _kl(scores: np.ndarray, n: np.ndarray) -> np.ndarray:
  """Of one prompt; `n` [counts, 1]."""
  _, found = np.unique(scores, return_counts=True)
  top = np.cumsum(found) / len(scores)
  share = found / len(scores)
  chance = top**n - (top - share) ** n  # that the best is this response
  together = special.xlogy(chance, chance) - special.xlogy(chance, share)
  unlike = _of_unlike(top, n) - _of_unlike(top - share, n)
  return np.sum(np.where(found > 1, together, unlike), axis=1)


def _of_unlike(level: np.ndarray, n: np.ndarray) -> np.ndarray:
  """Integral to a level u of the density n u^(n-1) times its logarithm."""
  power = level**n
  log_level = special.xlogy(power, level)
  return power * np.log(n) + (n - 1) * (log_level - power / n)


def _check(scores: np.ndarray, counts: Sequence[int]) -> None:
  samples = scores.shape[1]
  if not counts or min(counts) < 1 or max(counts) > samples or not len(scores):
    raise errors.InputError(
      f'Best of n needs 1 <= n <= {samples}, the samples of a prompt, got'
      f' {tuple(counts)} of scores {scores.shape}.'
    )
