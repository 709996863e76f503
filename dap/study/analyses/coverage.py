"""Layer 7. H1: is it the responses covered, or their order? (Figs. 4, 13)."""

import dataclasses

import numpy as np

from dap import errors, estimators
from dap.estimators import Effect
from dap.study.analyses import claims, comparisons, drawings, names
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.analyses.drawings import Drawn
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  Evidence,
  Figure,
  Predicate,
  Setting,
)

_FIRST_STEPS = 1000  # in which losses are compared
_MOST = 1e-3  # relative difference of losses, of runs that are equal
_MARGIN = 0.03  # win rates nearer than this are equivalent


@dataclasses.dataclass(frozen=True)
class Coverage:
  """Offline training on the recorded stream of an online run.

  Attributes:
    online: arm; its run at `setting` is the one whose stream was recorded.
    offline: arm, on D_golden.
    shuffled: arm, on that stream uniformly shuffled; a sweep.
    orders: (label, arm) of other orders of the stream, the least shuffled
      first: none, then the smallest window, and uniform last; at least three.
    setting: at which orders are compared.
    replay: measure of the run and its unshuffled repetition.
  """

  online: str
  offline: str
  shuffled: str
  orders: tuple[tuple[str, str], ...]
  setting: Setting
  replay: str = 'replay'

  def __post_init__(self):
    orders = tuple((label, arm) for label, arm in self.orders)
    object.__setattr__(self, 'orders', orders)
    names.set_setting(self, self.setting)
    names.check(self, (self.online, self.offline, self.shuffled))
    names.check(self, [arm for _, arm in orders])
    if len(orders) < 3:
      raise errors.InputError(
        'Coverage needs at least three orders of the stream: none, a window'
        f' and uniform; got {[label for label, _ in orders]}.'
      )

  @property
  def arms(self) -> tuple[str, ...]:
    """Of both figures."""
    orders = (arm for _, arm in self.orders)
    return tuple(
      dict.fromkeys((self.online, self.offline, self.shuffled, *orders))
    )

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """P2a to P2d."""
    claim_a = Claim(
      'P2a',
      'Covering the responses of the online run does not explain the gap:'
      ' offline training on its shuffled stream recovers less than half of it.',
      'Fig. 4',
    )
    claim_b = Claim(
      'P2b',
      'On Chat arena, coverage does explain most of the gap.',
      'Fig. 4',
      'share of the gap',
    )
    claim_c = Claim(
      'P2c',
      'Offline training on the recorded stream in its own order repeats the'
      ' online run.',
      'App. F',
      'relative difference of losses',
      of_truth=True,
    )
    claim_d = Claim(
      'P2d',
      'Small shuffles of the stream are harmless, and a uniform one lowers the'
      ' win rate at equal KL.',
      'Fig. 13',
    )
    return [
      claims.judge(claim_a, lambda: self._recovers_little(evidence)),
      claims.unreached(claim_b, claims.ONE_DATA_SET),
      claims.judge(claim_c, lambda: self._repeats(evidence)),
      claims.judge(claim_d, lambda: self._orders(evidence)),
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Figures 4 and 13."""
    coverage = drawings.frontier(
      evidence,
      (
        Drawn(self.online, 'online', 'online'),
        Drawn(self.offline, 'offline', 'offline'),
        Drawn(self.shuffled, 'shuffled', 'offline, shuffled stream'),
      ),
      name='fig4',
      title='Coverage: offline training on the stream of an online run',
      caption='The shuffled stream holds the very pairs that an online run'
      ' trained on, with their labels, in random order.',
    )
    last = len(self.orders) - 1
    roles = {0: 'unshuffled', last: 'shuffled'}
    orders = drawings.frontier(
      evidence,
      [
        Drawn(arm, roles.get(place, arm), label, self.setting)
        for place, (label, arm) in enumerate(self.orders)
      ],
      name='fig13',
      title='The stream in other orders',
      caption='One stream and one setting; examples are shuffled within'
      ' windows of batches.',
    )
    return drawings.with_marks([coverage, orders])

  def _recovers_little(self, evidence: Evidence) -> Finding:
    sides = (self.offline, self.shuffled, self.online)
    arms = comparisons.shared(evidence, sides)
    peak = comparisons.peak
    behind = comparisons.of_prompts(arms, lambda _, s, on: peak(on) - peak(s))
    # Less than half of the gap, without the ratio, whose draws have poles.
    below_half = comparisons.of_prompts(
      arms, lambda off, s, on: 0.5 * (peak(on) + peak(off)) - peak(s)
    )
    share = comparisons.recovered(arms)
    is_gap = not np.isnan(share.mean)
    verdict = claims.all_of(
      estimators.greater(behind),
      estimators.greater(below_half) if is_gap else NOT_REACHED,
    )
    return Finding(verdict, behind, arms.seeds, _shares(share, arms.remark))

  def _repeats(self, evidence: Evidence) -> Finding:
    of_seeds = evidence.measures.get(self.replay, {})
    if not of_seeds:
      raise Unreached(f'The measure {self.replay} is not there.')
    seeds = sorted(of_seeds)
    away = comparisons.exact([_loss_difference(of_seeds[s]) for s in seeds])
    counts = [of_seeds[seed]['equal_params'] for seed in seeds]
    equal, total = sum(map(np.sum, counts)), sum(map(len, counts))
    detail = (
      f'{equal} of {total} checkpoints have equal parameters, bit for bit;'
      ' losses differ by at most'
      f' {np.nanmax([*away.by_seed, 0.0]):.2g} in the first'
      f' {_FIRST_STEPS} steps. {comparisons.left_out(evidence, seeds)}'
    ).strip()
    if equal == total > 0:
      return Finding(REPRODUCED, away, seeds, detail)
    within = np.all(away.by_seed <= _MOST)
    final = self._final_difference(evidence)
    verdict = claims.all_of(
      REPRODUCED if within else CONTRADICTED,
      estimators.equivalent(final, _MARGIN),
    )
    detail = f'{detail} Final win rates differ by {claims.shown(final)}.'
    return Finding(verdict, away, seeds, detail)

  def _final_difference(self, evidence: Evidence) -> Effect:
    sides = (self.online, self.setting), (self.orders[0][1], self.setting)
    arms = comparisons.shared(evidence, sides)
    return comparisons.of_prompts(
      arms,
      lambda run, replay: (
        comparisons.at(run, run.end) - comparisons.at(replay, replay.end)
      ),
    )

  def _orders(self, evidence: Evidence) -> Finding:
    (_, none), (small, _), *_, (uniform, _) = self.orders
    arms = {
      label: comparisons.shared(
        evidence, ((arm, self.setting), (none, self.setting))
      )
      for label, arm in self.orders[1:]
    }
    gaps = {label: comparisons.gap(each).effect for label, each in arms.items()}
    between = [label for label, _ in self.orders[2:-1]]
    lost = _negative(gaps[uniform])
    verdict = claims.all_of(
      estimators.equivalent(gaps[small], _MARGIN),
      estimators.greater(lost),
      *(estimators.not_greater(gaps[label], _MARGIN) for label in between),
    )
    parts = '; '.join(f'{k} {claims.shown(gaps[k])}' for k in (small, *between))
    detail = (
      'Estimate: no shuffle less uniform shuffle. Less no shuffle, at equal KL:'
      f' {parts}. {arms[uniform].remark}'
    )
    return Finding(verdict, lost, arms[uniform].seeds, detail.strip())


def _shares(share: Effect, remark: str) -> str:
  if np.isnan(share.mean):
    return (
      'Estimate: online less shuffled. The share recovered is undefined: no gap'
      f' of online and offline peaks is shown. {remark}'
    ).strip()
  return (
    f'Estimate: online less shuffled. Share of the gap recovered:'
    f' {claims.level(share, 2)}. {remark}'
  ).strip()


def _loss_difference(arrays) -> float:
  first = arrays['step'] <= _FIRST_STEPS
  run, replay = (
    np.asarray(arrays[name], np.float64)[first]
    for name in ('loss_run', 'loss_replay')
  )
  if not len(run):
    return np.nan
  return float(np.max(np.abs(replay - run) / np.abs(run)))


def _negative(effect: Effect) -> Effect:
  """Of the difference the other way round."""
  return effect._replace(
    mean=-effect.mean,
    interval=type(effect.interval)(*(-x for x in effect.interval[::-1])),
    equivalence=type(effect.equivalence)(
      *(-x for x in effect.equivalence[::-1])
    ),
    by_seed=-effect.by_seed,
  )
