"""Layer 7. H4: is it the contrastive loss? Best-of-2 instead (Fig. 9)."""

import dataclasses

import numpy as np

from dap import estimators
from dap.study.analyses import claims, comparisons, drawings, names
from dap.study.analyses.claims import Claim, Finding
from dap.study.analyses.drawings import Drawn
from dap.study.reading.evidence import NOT_REACHED, Evidence, Figure, Predicate

_SIDES = ('online', 'shuffled', 'offline')
_LABELS = ('online', 'offline, shuffled stream', 'offline')
_MARGIN = 0.03


@dataclasses.dataclass(frozen=True)
class NonContrastive:
  """Supervised training on the better of two responses.

  Attributes:
    online: arm.
    shuffled: arm, offline on the shuffled stream of an online run.
    offline: arm, on D_golden.
    ipo: the same three arms (online, shuffled, offline) with IPO.
  """

  online: str
  shuffled: str
  offline: str
  ipo: tuple[str, str, str]

  def __post_init__(self):
    online, shuffled, offline = self.ipo
    object.__setattr__(self, 'ipo', (online, shuffled, offline))
    names.check(self, self.arms)

  @property
  def arms(self) -> tuple[str, ...]:
    """Three with each loss."""
    return self.online, self.shuffled, self.offline, *self.ipo

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """P5a and P5b."""
    claim_a = Claim(
      'P5a',
      'Without a contrastive loss the gap is still there: the best online'
      ' checkpoint of Best-of-2 wins more often than the best offline one.',
      'Fig. 9',
    )
    claim_b = Claim(
      'P5b',
      'Coverage explains the gap of Best-of-2 better than that of IPO: online'
      ' and shuffled are equivalent at equal KL, and shuffled recovers a'
      ' greater share of the gap of peaks.',
      'Fig. 9',
      'share of the gap',
    )
    return [
      claims.judge(claim_a, lambda: self._gap(evidence)),
      claims.judge(claim_b, lambda: self._coverage(evidence)),
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Figure 9."""
    own = self.online, self.shuffled, self.offline
    figure = drawings.frontier(
      evidence,
      [
        Drawn(arm, side, f'Best-of-2 {label}')
        for arm, side, label in zip(own, _SIDES, _LABELS)
      ],
      behind=[
        Drawn(arm, side, f'IPO {label}')
        for arm, side, label in zip(self.ipo, _SIDES, _LABELS)
      ],
      name='fig9',
      title='Best-of-2: training without contrast',
      caption='Supervised training on the preferred response of each pair; the'
      ' best of IPO for comparison.',
    )
    return drawings.with_marks([figure])

  def _gap(self, evidence: Evidence) -> Finding:
    finding = comparisons.peak_is_higher(evidence, self.online, self.offline)
    detail = (
      f'{finding.detail} What is claimed of Chat arena alone needs that data'
      ' set.'
    )
    return finding._replace(detail=detail)

  def _coverage(self, evidence: Evidence) -> Finding:
    at_equal_kl = comparisons.gap(
      comparisons.shared(evidence, (self.online, self.shuffled))
    ).effect
    ours = self.offline, self.shuffled, self.online
    theirs = self.ipo[2], self.ipo[1], self.ipo[0]
    shares = [
      comparisons.recovered(comparisons.shared(evidence, sides))
      for sides in (ours, theirs)
    ]
    arms = comparisons.shared(evidence, (*ours, *theirs))
    more = comparisons.of_means(
      arms,
      lambda peaks: (
        estimators.recovered_share(peaks[..., :3])
        - estimators.recovered_share(peaks[..., 3:])
      ),
      lambda *each: np.stack([comparisons.peak(one) for one in each]),
    )
    defined = not any(np.isnan(share.mean) for share in shares)
    verdict = claims.all_of(
      estimators.equivalent(at_equal_kl, _MARGIN),
      estimators.greater(more) if defined else NOT_REACHED,
    )
    detail = (
      f'Share recovered with Best-of-2 {claims.level(shares[0], 2)}, with IPO'
      f' {claims.level(shares[1], 2)} (undefined where no gap of online and'
      ' offline peaks is shown). Best-of-2, online less shuffled at equal KL:'
      f' {claims.shown(at_equal_kl)}. {arms.remark}'
    )
    return Finding(verdict, more, arms.seeds, detail.strip())
