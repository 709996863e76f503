"""Layer 7. How much of what any policy could gain the arms reach (L to L4)."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dap import estimators
from dap.estimators import Effect, Estimate, limits
from dap.study.analyses import claims, comparisons, drawings
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.analyses.comparisons import Shared
from dap.study.analyses.limit import Judge, Known, judges
from dap.study.reading.evidence import Evidence, Predicate
from dap.study.reading.frontiers import Frontier

BUDGETS = (1.0, 2.0, 4.0)  # nats at which shares are told
CHECKED = 3.0  # nats below which no arm may lie above the limit


class _Told(NamedTuple):
  """What a judge says of arms and limit.

  Attributes:
    judge: who says it.
    shared: online, offline, SFT policy.
    limits: by seed.
  """

  judge: Judge
  shared: Shared
  limits: dict[int, Known]


def predicates(
  evidence: Evidence, arms: Sequence[str], measure: str
) -> list[Predicate]:
  """None for a study without the measure.

  Args:
    evidence: a study.
    arms: online, offline.
    measure: of `making.limit.Limit`.
  """
  found = judges(evidence, measure)
  if not found:
    return []

  @functools.cache
  def told() -> list[_Told]:
    return [_told(evidence, arms, judge) for judge in found]

  return [
    claims.judge(_CHECK, lambda: _not_above(told()[0])),
    *(
      claims.judge(
        _claim(budget), lambda budget=budget: _within(told(), budget)
      )
      for budget in BUDGETS
    ),
  ]


_CHECK = Claim(
  'L',
  f'Below {CHECKED:g} nats no checkpoint of either arm wins more often than the'
  ' limit allows.',
)


def _claim(budget: float) -> Claim:
  nats = '1 nat' if budget == 1 else f'{budget:g} nats'
  return Claim(
    f'L{budget:g}',
    f'Within {nats} online training reaches more of what any policy could gain'
    ' than offline training.',
    unit='share of the attainable gain',
  )


def _told(evidence: Evidence, arms: Sequence[str], judge: Judge) -> _Told:
  shared = comparisons.shared(evidence, (*arms, drawings.SFT), judge.read)
  lacking = sorted(set(shared.seeds) - set(judge.samples))
  if lacking:
    raise Unreached(f'Seed {lacking[0]} has no samples of the limit.')
  return _Told(judge, shared, judge.tilted())


def _not_above(told: _Told) -> Finding:
  """Win rate less limit of the checkpoint that comes nearest to it."""
  estimates, errors, ends, unchecked = {}, [], [], []
  for seed, (*arms, _) in zip(told.shared.seeds, told.shared.frontiers):
    limit = told.limits[seed].limit
    excess = _excess(arms, told.judge.samples[seed]['prompt_ids'], limit)
    if excess is None:
      unchecked.append(seed)
      continue
    ends.append(f'{min(CHECKED, told.limits[seed].end):.1f}')
    errors.append(limits.total_error(limit)[limit.kl < CHECKED])
    estimates[seed] = estimators.estimate_mean(
      estimators.crossed(excess, estimators.peak_wins),
      comparisons.rng(),
      num_resamples=comparisons.RESAMPLES,
    )
  if not estimates:
    raise Unreached('No checkpoint lies where the limit is known.')
  effect = estimators.combine([*estimates.values()], comparisons.rng())
  error = float(np.max(np.concatenate(errors)))
  detail = (
    f'Estimate: win rate less limit of the checkpoint that comes nearest to it,'
    ' chosen on one half of the prompts and judged on the other. Checked as far'
    f' as the limit is known, with an error of at most {error:.3f}: to'
    f' {", ".join(ends)} nats (by seed). {told.shared.remark}'
  )
  if unchecked:
    detail += (
      f' Not checked on seed {", ".join(map(str, unchecked))}: no checkpoint'
      ' lies where the limit is known.'
    )
  verdict = estimators.not_greater(effect, error)
  return Finding(verdict, effect, [*estimates], detail.strip())


def _excess(
  arms: Sequence[Frontier], prompt_ids: np.ndarray, limit: limits.Limit
) -> estimators.Curve | None:
  """Win less limit by checkpoint and prompt, below the checked KL, if any."""
  end = min(CHECKED, limit.kl[-1])
  inside = [(arm.curve.kl > 0) & (arm.curve.kl < end) for arm in arms]
  kl = np.concatenate([arm.curve.kl[own] for arm, own in zip(arms, inside)])
  if not len(kl):
    return None
  wins = np.concatenate(
    [_of_prompts(arm, prompt_ids)[own] for arm, own in zip(arms, inside)]
  )
  excess = wins - limits.at_kl(limit, kl.tolist())
  selection = estimators.selection_half(prompt_ids)
  return estimators.Curve(kl, excess[:, selection], excess[:, ~selection])


def _of_prompts(arm: Frontier, prompt_ids: np.ndarray) -> np.ndarray:
  """Values [points, prompts] of an arm for some of its prompts."""
  selection = estimators.selection_half(arm.prompt_ids)
  ids = np.concatenate([arm.prompt_ids[selection], arm.prompt_ids[~selection]])
  order = np.argsort(ids)
  return arm.values[:, order[np.searchsorted(ids[order], prompt_ids)]]


def _within(told: Sequence[_Told], budget: float) -> Finding:
  """Online's share less offline's; of each judge in the detail."""
  shares = [_shares(each, budget) for each in told]
  first = shares[0]
  effect = first.effect(lambda m: (m[..., 0] - m[..., 1]) / m[..., 2])
  words = [_in_words(own, each.judge.words) for each, own in zip(told, shares)]
  shared = told[0].shared
  detail = ' '.join([*words, shared.remark]).strip()
  return Finding(estimators.greater(effect), effect, shared.seeds, detail)


class _Shares(NamedTuple):
  """Gains within a budget.

  Attributes:
    estimates: by seed: gains of online, offline and the limit; win rates of
      the SFT policy, from which they are counted, and of the limit.
    ends: nats of the limits that end before the budget.
  """

  estimates: list[list[Estimate]]
  ends: list[float]

  def effect(self, function: Callable[[np.ndarray], np.ndarray]) -> Effect:
    """A function of these means over seeds."""
    return estimators.combine_function(
      function, self.estimates, comparisons.rng()
    )


def _shares(told: _Told, budget: float) -> _Shares:
  """Of the best checkpoints within a budget, each half judging the other's."""
  window = np.array([[0.0, budget * (1 + 1e-9)]])
  estimates, ends = [], []
  for seed, (*arms, sft) in zip(told.shared.seeds, told.shared.frontiers):
    start = comparisons.at(sft, 0)
    gains = [
      estimators.crossed_envelope(arm.curve, window)[0] - start for arm in arms
    ]
    limit = told.limits[seed].limit
    (most,) = limits.at_kl(limit, (budget,))
    if np.isnan(most).any():  # no win rate exceeds 1
      ends.append(told.limits[seed].end)
      most = np.ones_like(most)
    rng = comparisons.rng()  # one: the limit is of fewer prompts than the arms
    online, offline, below = estimators.estimate_means(
      np.stack([*gains, start]), rng, num_resamples=comparisons.RESAMPLES
    )
    room, above = estimators.estimate_means(
      np.stack([most - limit.values[0], most]),
      rng,
      num_resamples=comparisons.RESAMPLES,
    )
    estimates.append([online, offline, room, below, above])
  return _Shares(estimates, ends)


def _in_words(shares: _Shares, judge: str) -> str:
  """Each arm's share, and of what."""
  online, offline = (
    claims.level(shares.effect(lambda m, arm=arm: m[..., arm] / m[..., 2]), 2)
    for arm in (0, 1)
  )
  start, most = (
    shares.effect(lambda m, of=of: m[..., of]).mean for of in (3, 4)
  )
  said = (
    f'By {judge} online has {online} and offline {offline} of the gain from'
    f' {start:.3f}, the SFT policy, to {most:.3f}.'
  )
  if shares.ends:
    said += (
      f' Beyond {min(shares.ends):.1f} nats the limit is not known with'
      f' {len(shares.ends)} of {len(shares.estimates)} seeds: a win rate of 1'
      ' stands for it, and shares are at least these.'
    )
  return said
