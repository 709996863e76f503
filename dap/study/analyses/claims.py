"""Layer 7. From a claim and a test of it to a predicate."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dap.estimators import Effect
from dap.estimators.win_rate import ENOUGH_PROMPTS
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
  Predicate,
)

ONE_DATA_SET = (
  'The claim compares data sets, and a study has one. Run the study on each'
  ' and compare their reports.'
)


class Claim(NamedTuple):
  """What a predicate says before anything is known.

  Attributes:
    name: of spec 4.4; ours end in a letter of their own.
    sentence: in words of the study.
    place: in the paper; 'ours' where it has none.
    unit: of the estimate.
    of_truth: rests on no word of the golden model: on hidden utility, on bits.
  """

  name: str
  sentence: str
  place: str = 'ours'
  unit: str = 'win rate'
  of_truth: bool = False


class Finding(NamedTuple):
  """What a test of a claim gives.

  Attributes:
    verdict: one of evidence's four words.
    effect: what the claim is about.
    seeds: of `effect.by_seed`.
    detail: sentences for the reader.
  """

  verdict: str
  effect: Effect
  seeds: Sequence[int]
  detail: str = ''


class Unreached(Exception):  # noqa: N818 (no error: a verdict)
  """A test found no data; the message says which."""


def judge(
  claim: Claim, test: Callable[[], Finding], *, primary: bool = False
) -> Predicate:
  """The predicate of a claim; 'not reached' where the test finds no data."""
  try:
    finding = test()
  except Unreached as reason:
    return unreached(claim, str(reason))._replace(primary=primary)
  effect = finding.effect
  by_seed = {
    seed: float(value)
    for seed, value in zip(finding.seeds, effect.by_seed)
    if not np.isnan(value)
  }
  low, high = map(_number, effect.interval)
  return Predicate(
    *claim[:3],
    finding.verdict,
    _number(effect.mean),
    low,
    high,
    claim.unit,
    by_seed,
    effect.conditional,
    primary,
    ' '.join(
      filter(None, (finding.detail, _undefined(finding), _bare(finding)))
    ),
    claim.of_truth,
  )


def unreached(claim: Claim, why: str) -> Predicate:
  """The predicate of a claim that these data cannot reach."""
  return Predicate(
    *claim[:3],
    NOT_REACHED,
    unit=claim.unit,
    detail=why,
    of_truth=claim.of_truth,
  )


def all_of(*verdicts: str) -> str:
  """Of a claim with several parts, which must all hold."""
  order = (CONTRADICTED, NOT_REACHED, UNDECIDED, REPRODUCED)
  return min(verdicts, key=order.index)


def shown(effect: Effect, digits: int = 3) -> str:
  """Of a difference: '+0.081 [+0.050, +0.112]'."""
  return _shown(effect, f'+.{digits}f')


def level(effect: Effect, digits: int = 3) -> str:
  """Of what is no difference: '0.581 [0.550, 0.612]'."""
  return _shown(effect, f'.{digits}f')


def _shown(effect: Effect, form: str) -> str:
  if np.isnan(effect.mean):
    return 'undefined'
  values = [effect.mean, *effect.interval]
  middle, *ends = (f'{value:{form}}'.replace('-', '−') for value in values)
  return middle if np.isnan(values[1]) else f'{middle} [{", ".join(ends)}]'


def _number(value: float) -> float | None:
  return None if np.isnan(value) else float(value)


def _bare(finding: Finding) -> str:
  """Why there is a number without an interval, where that decided."""
  effect = finding.effect
  if finding.verdict != UNDECIDED or np.isnan(effect.mean):
    return ''
  if not np.isnan(effect.interval).any():
    return ''
  return (
    f'No interval: fewer than {ENOUGH_PROMPTS} prompts to a seed, or all alike.'
  )


def _undefined(finding: Finding) -> str:
  lost = [
    str(seed)
    for seed, value in zip(finding.seeds, finding.effect.by_seed)
    if np.isnan(value)
  ]
  return f'Undefined for seed {", ".join(lost)}.' if lost else ''
