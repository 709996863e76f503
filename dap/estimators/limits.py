"""Layer 1. What no policy can exceed within a KL, from samples of one; numpy.

The policy that maximises E[score] - KL / strength from a reference is the
reference tilted by exp(strength * score). Samples of the reference are samples
of it under self-normalised importance weights, so that its KL and what it wins
are known without a training.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy import special

from dap import errors
from dap.estimators.best_of_n import kl_bound
from dap.estimators.peaks import chances_of_best
from dap.estimators.trends import between

LEAST_SAMPLES = 8  # to a prompt: quarters of them are compared


class Limit(NamedTuple):
  """A family of policies from the reference on, one row a policy.

  Attributes:
    kl: from the reference, nats, mean over prompts; ascending.
    values: what each gains by the judge, by prompt.
    kl_error: bias of `kl` by so few samples, nats, see `_bias`.
    error: the same of the mean of `values`.
    end: nats that so many samples can tell of, log N - 1: the weights of a
      policy farther away lie on a sample or two.
  """

  kl: Float[np.ndarray, ' policies']
  values: Float[np.ndarray, 'policies prompts']
  kl_error: Float[np.ndarray, ' policies']
  error: Float[np.ndarray, ' policies']
  end: float


def tilted(
  scores: Real[np.ndarray, 'prompts samples'],
  judged: Real[np.ndarray, 'prompts samples'],
  strengths: Sequence[float],
) -> Limit:
  """The optimal policies for `scores`, one for each strength.

  With `judged` equal to `scores` no policy of that KL gains more; with another
  judge it is what the optimum for the first is worth to the second, such as a
  proxy's to the truth: Goodhart's curve without any optimiser.

  Source: Korbak et al. 2022, https://arxiv.org/abs/2205.11275; Gao et al. 2022,
  app. A, https://arxiv.org/abs/2210.10760.

  Args:
    scores: of N samples of the reference to each prompt, such as wins over an
      opponent.
    judged: of the same samples, by who judges.
    strengths: 1 / beta of KL-regularised optima, >= 0, ascending.
  """
  _check(scores, judged)
  if np.any(np.diff(strengths) <= 0) or min(strengths, default=0) < 0:
    raise errors.InputError(
      f'Strengths need to ascend from 0 or more, got {tuple(strengths)}.'
    )
  log_weights = [strength * scores.astype(np.float64) for strength in strengths]
  return _limit(np.stack(log_weights), judged)


def best_of(
  scores: Real[np.ndarray, 'prompts samples'],
  judged: Real[np.ndarray, 'prompts samples'],
  counts: Sequence[int],
) -> Limit:
  """Best-of-n sampling by `scores`, one policy for each n.

  Its KL is at most log n - (n - 1) / n, which stands here.

  Source: Beirami et al. 2024, theorem 3.1, https://arxiv.org/abs/2401.01879.

  Args:
    scores: of N samples of the reference to each prompt.
    judged: of the same samples, by who judges.
    counts: n of each policy, ascending, <= N.
  """
  _check(scores, judged)
  samples = scores.shape[1]
  if not counts or min(counts) < 1 or max(counts) > samples:
    raise errors.InputError(
      f'Best of n needs 1 <= n <= {samples}, the samples of a prompt, got'
      f' {tuple(counts)}.'
    )
  values, halves = (
    np.stack([_best(scores[:, of], judged[:, of], n) for n in counts])
    for of in (slice(None), slice(0, max(max(counts), samples // 2)))
  )
  return Limit(
    kl_bound(counts),
    values,
    np.zeros(len(counts)),
    np.abs(np.mean(values - halves, axis=1)),
    np.log(samples) - 1,
  )


def at_kl(
  limit: Limit, kls: Sequence[float]
) -> Float[np.ndarray, 'kls prompts']:
  """Values at these KLs, linear between policies; nan beyond the last or `end`.

  Args:
    limit: of `tilted` or `best_of`.
    kls: nats.
  """
  asked = np.asarray(kls, np.float64)
  weights = between(limit.kl, asked)
  reached = (limit.kl[0] <= asked) & (asked <= min(limit.kl[-1], limit.end))
  return np.where(reached[:, None], weights @ limit.values, np.nan)


def total_error(limit: Limit) -> Float[np.ndarray, ' policies']:
  """Error of the mean value at the stated KL: of the value, and of the KL.

  A KL that is wrong by `kl_error` moves a policy along the curve.
  """
  means = np.mean(limit.values, axis=1)
  moved = [
    np.interp(limit.kl + side * limit.kl_error, limit.kl, means) - means
    for side in (-1, 1)
  ]
  return limit.error + np.max(np.abs(moved), axis=0)


def known(limit: Limit, most: float) -> Limit:
  """The policies before `end` and before `total_error` first exceeds `most`.

  Args:
    limit: of `tilted`, from the reference on, whose error is 0.
    most: of the mean value.
  """
  lost = (total_error(limit) > most) | (limit.kl > limit.end)
  count = int(np.argmax(lost)) if lost.any() else len(lost)
  kl, values, kl_error, error = (each[:count] for each in limit[:4])
  return Limit(kl, values, kl_error, error, limit.end)


def attained(
  reference: Real[np.ndarray, '*any'] | float,
  policy: Real[np.ndarray, '*any'] | float,
  limit: Real[np.ndarray, '*any'] | float,
) -> Float[np.ndarray, '*any'] | float:
  """Share of the attainable gain that a policy has at a KL; nan of no gain.

  Args:
    reference: win rate at a KL of 0.
    policy: at the KL.
    limit: the most at that KL.
  """
  room = np.asarray(limit, np.float64) - reference
  with np.errstate(divide='ignore', invalid='ignore'):
    share = (np.asarray(policy, np.float64) - reference) / room
  return np.where(room > 0, share, np.nan)[()]


def _limit(log_weights: np.ndarray, judged: np.ndarray) -> Limit:
  """Of unnormalised log-weights [policies, prompts, samples]."""
  found = [_parts(log_weights, judged, count) for count in (1, 2, 4)]
  kls, values = zip(*found)
  means = [np.mean(each, axis=1) for each in values]
  return Limit(
    kls[0], values[0], _bias(*kls), _bias(*means), np.log(judged.shape[1]) - 1
  )


def _parts(
  log_weights: np.ndarray, judged: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """`_weighted` of so many parts of the samples, the mean over parts."""
  size = judged.shape[1] // count
  each = [
    _weighted(log_weights[..., of], judged[:, of])
    for of in (slice(i * size, (i + 1) * size) for i in range(count))
  ]
  kl, values = (np.mean(part, axis=0) for part in zip(*each))
  return kl, values


def _bias(
  whole: np.ndarray, half: np.ndarray, quarter: np.ndarray
) -> np.ndarray:
  """What is left of a bias that shrinks from a quarter of the samples to all.

  It shrinks by a constant factor with each doubling: 2 where it is c / N, less
  near the end, where a sample or two have the weight. The rest is a geometric
  series (Aitken). What no sample shows cannot be seen so: scores need bounds,
  such as wins have, for the bias to be all that is wrong.
  """
  last, before = np.abs(whole - half), np.abs(half - quarter)
  with np.errstate(divide='ignore', invalid='ignore'):
    factor = np.where(last > 0, before / last, 2.0)
  return last / (np.clip(factor, 1.25, 2.0) - 1)


def _weighted(
  log_weights: np.ndarray, judged: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """KL [policies] and values [policies, prompts]."""
  log_shares = special.log_softmax(log_weights, axis=-1)
  shares = np.exp(log_shares)
  kl = np.sum(shares * (log_shares + np.log(judged.shape[1])), axis=-1)
  return np.mean(kl, axis=1), np.sum(shares * judged, axis=-1)


def _best(scores: np.ndarray, judged: np.ndarray, n: int) -> np.ndarray:
  """Expected value of the best of n drawn without replacement, by prompt.

  Equal scores share what is theirs.
  """
  chances = chances_of_best(scores.shape[1], n)
  found = np.empty(len(scores))
  for row, (own, worth) in enumerate(zip(scores, judged)):
    order = np.argsort(-own, kind='stable')
    _, group = np.unique(-own[order], return_inverse=True)
    total = np.bincount(group, chances)
    mean = np.bincount(group, worth[order]) / np.bincount(group)
    found[row] = total @ mean
  return found


def _check(scores: np.ndarray, judged: np.ndarray) -> None:
  few = scores.shape[1] < LEAST_SAMPLES
  if scores.shape != judged.shape or few or not len(scores):
    raise errors.InputError(
      f'A limit needs at least {LEAST_SAMPLES} samples to a prompt, each scored'
      f' and judged, got scores {scores.shape} and judgements {judged.shape}.'
    )
