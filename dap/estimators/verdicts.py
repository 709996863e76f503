"""Layer 1. From effects to verdicts about claims.

A verdict is 'reproduced' where the interval is wholly on the claimed side,
'contradicted' where it is wholly on the other, 'undecided' otherwise, an effect
without an interval included, and 'not reached' where there is no effect. A
report writes 'refused' in their place where the judge can carry none.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dap.estimators.effects import Effect, p_value

REPRODUCED = 'reproduced'
CONTRADICTED = 'contradicted'
UNDECIDED = 'undecided'
NOT_REACHED = 'not reached'
REFUSED = 'refused'
# Of fewer seeds than can speak of algorithms, see `of_few_seeds`.
SAME_WAY = 'points the same way'
OTHER_WAY = 'points the other way'

ACCURACY_WIDTH = 0.06  # of a claim that an accuracy is something
SPEARMAN_WIDTH = 0.3


def greater(effect: Effect, margin: float = 0.0) -> str:
  """Claim: the effect is more than `margin`."""
  low, high = effect.interval
  return _verdict(effect, low > margin, high < margin)


def not_greater(effect: Effect, margin: float = 0.0) -> str:
  """Claim: the effect is at most `margin`."""
  low, high = effect.interval
  return _verdict(effect, high <= margin, low > margin)


def equivalent(effect: Effect, margin: float = 0.03) -> str:
  """Claim: the effect is within (-margin, margin).

  Two one-sided tests at 5 % (TOST): the 90 % interval lies inside. Contradicted
  where the 95 % interval lies outside, on one side.

  Source: Schuirmann 1987, https://doi.org/10.1007/BF01068419.
  """
  inside = -margin < effect.equivalence.low and effect.equivalence.high < margin
  outside = effect.interval.low > margin or effect.interval.high < -margin
  return _verdict(effect, inside, outside)


def absent(effect: Effect, bound: float, width: float) -> str:
  """Claim: the effect is `bound`, such as .5 of an accuracy at chance.

  That the interval contains it says something of a narrow interval alone.

  Args:
    effect: to judge.
    bound: contradicted where the interval does not contain it.
    width: undecided where the interval is wider than this to either side, on
      average: `ACCURACY_WIDTH` or `SPEARMAN_WIDTH`.
  """
  low, high = effect.interval
  inside = low <= bound <= high
  return _verdict(effect, inside and _powered(effect, width), not inside)


def absent_everywhere(
  effects: Sequence[Effect], bound: float, width: float
) -> str:
  """Claim: `absent` of each of several effects, at 5 % for all of them.

  Contradicted where Holm's adjusted p-value of any is under .05; reproduced
  where none is and all intervals are narrow enough.
  """
  if not effects or any(np.isnan(effect.mean) for effect in effects):
    return NOT_REACHED
  if any(_without_interval(effect) for effect in effects):
    return UNDECIDED
  p_values = holm([p_value(effect, bound) for effect in effects])
  if np.min(p_values) < 0.05:
    return CONTRADICTED
  narrow = all(_powered(effect, width) for effect in effects)
  return REPRODUCED if narrow else UNDECIDED


def nowhere_greater(
  effects: Sequence[Effect], bound: float, width: float
) -> str:
  """Claim: each of several effects is at most `bound`, at 5 % for all of them.

  Contradicted where Holm's adjusted p-value of any, one-sided, is under .05.
  Otherwise reproduced where every interval ends below `bound` + `width`: what
  lies under the bound, however far, speaks for the claim.
  """
  if not effects or any(np.isnan(effect.mean) for effect in effects):
    return NOT_REACHED
  if any(_without_interval(effect) for effect in effects):
    return UNDECIDED
  two_sided = np.array([p_value(effect, bound) for effect in effects])
  above = np.array([effect.mean > bound for effect in effects])
  one_sided = np.where(above, 0.5 * two_sided, 1 - 0.5 * two_sided)
  if np.min(holm(one_sided.tolist())) < 0.05:
    return CONTRADICTED
  ends = all(effect.interval.high <= bound + width for effect in effects)
  return REPRODUCED if ends else UNDECIDED


def weak(
  effect: Effect, bound: float = 0.3, width: float = SPEARMAN_WIDTH
) -> str:
  """Claim: the effect is not positive, or under `bound` if it is.

  Args:
    effect: such as Spearman's correlation.
    bound: reproduced where the interval contains 0 or is below this;
      contradicted where it is wholly above.
    width: undecided where the interval is wider than this to either side, on
      average, unless it is wholly below or above `bound`.
  """
  low, high = effect.interval
  contained = low <= 0 <= high and _powered(effect, width)
  return _verdict(effect, contained or high < bound, low > bound)


def of_few_seeds(verdict: str, by_seed: Sequence[float]) -> str:
  """A verdict in the words of seeds too few for it, so that they look no surer.

  Where each of the seeds points one way, that is all that is said; where they
  do not, nothing is.

  Args:
    verdict: by an interval that holds for these seeds alone.
    by_seed: the effect of each.
  """
  word = {REPRODUCED: SAME_WAY, CONTRADICTED: OTHER_WAY}.get(verdict)
  if word is None:
    return verdict
  return word if len(set(np.sign(by_seed))) == 1 else UNDECIDED


def holm(p_values: Sequence[float]) -> Float[np.ndarray, ' claims']:
  """Step-down adjusted p-values, in the order given; nan stays and counts not.

  Rejecting those under .05 rejects any true hypothesis in 5 % of studies.

  Source: Holm 1979, https://www.jstor.org/stable/4615733.
  """
  given = np.asarray(p_values, np.float64)
  adjusted = np.full(given.shape, np.nan)
  order = np.argsort(given)[: int(np.sum(~np.isnan(given)))]
  factors = np.arange(len(order), 0, -1)
  steps = np.maximum.accumulate(factors * given[order])
  adjusted[order] = np.minimum(steps, 1.0)
  return adjusted


def _verdict(effect: Effect, claimed: bool, opposite: bool) -> str:
  if np.isnan(effect.mean):
    return NOT_REACHED
  if _without_interval(effect):
    return UNDECIDED
  if claimed:
    return REPRODUCED
  return CONTRADICTED if opposite else UNDECIDED


def _without_interval(effect: Effect) -> bool:
  return bool(np.isnan(effect.interval).any())


def _powered(effect: Effect, width: float) -> bool:
  low, high = effect.interval
  return high - low <= 2 * width
