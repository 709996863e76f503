"""Layer 7. What offline data help: on one side, both, or neither (Fig. 12)."""

import dataclasses

from dap import estimators
from dap.study.analyses import claims, comparisons, drawings, names
from dap.study.analyses.claims import Claim, Finding
from dap.study.analyses.drawings import Drawn
from dap.study.reading.evidence import Evidence, Figure, Predicate

_MARGIN = 0.03
_WIDTH = 0.06  # of an interval that tells something by holding 0


@dataclasses.dataclass(frozen=True)
class OnPolicyData:
  """Offline training on pairs whose sides are written by chosen policies.

  Attributes:
    sft_early: arm, on SFT against early online responses.
    early_late: arm, on early against late online responses.
    late_late: arm, on two late online responses.
    golden: arm, on D_golden, near to two SFT responses.
    online: arm of the run that wrote the responses, for comparison.
  """

  sft_early: str
  early_late: str
  late_late: str
  golden: str
  online: str = 'online_ipo'

  def __post_init__(self):
    names.check(self, self.arms)

  @property
  def arms(self) -> tuple[str, ...]:
    """Four offline, and online."""
    offline = self.sft_early, self.early_late, self.late_late, self.golden
    return *offline, self.online

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """P7a to P7c."""
    claim_a = Claim(
      'P7a',
      'Responses of the SFT policy on one side of the pairs help: offline'
      ' training on SFT against early online responses peaks higher than on'
      ' early against late ones.',
      'Fig. 12',
    )
    claim_b = Claim(
      'P7b',
      'Contrast alone does not help: early against late online responses peak'
      ' no higher than two late ones, nor than D_golden.',
      'Fig. 12',
    )
    claim_c = Claim(
      'P7c',
      'Whether SFT against early online responses or D_golden peaks higher is'
      ' not settled.',
      'Fig. 12',
    )
    return [
      claims.judge(
        claim_a,
        lambda: comparisons.peak_is_higher(
          evidence, self.sft_early, self.early_late
        ),
      ),
      claims.judge(claim_b, lambda: self._contrast(evidence)),
      claims.judge(claim_c, lambda: self._unsettled(evidence)),
    ]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Figure 12."""
    figure = drawings.frontier(
      evidence,
      (
        Drawn(self.golden, 'offline', 'D_golden'),
        Drawn(self.sft_early, 'sft_early', 'SFT against early online'),
        Drawn(self.early_late, 'early_late', 'early against late online'),
        Drawn(self.late_late, 'late', 'late online against late online'),
      ),
      behind=(Drawn(self.online, 'online', 'online'),),
      name='fig12',
      title='Offline training on pairs of chosen policies',
      caption='Early and late are two checkpoints of one online run; all pairs'
      ' answer the prompts of D_golden, under golden labels.',
    )
    return drawings.with_marks([figure])

  def _contrast(self, evidence: Evidence) -> Finding:
    sides = self.early_late, self.late_late, self.golden
    arms = comparisons.shared(evidence, sides)
    peak = comparisons.peak
    late = comparisons.of_prompts(arms, lambda el, ll, g: peak(el) - peak(ll))
    golden = comparisons.of_prompts(arms, lambda el, ll, g: peak(el) - peak(g))
    verdict = claims.all_of(
      estimators.not_greater(late, _MARGIN),
      estimators.not_greater(golden, _MARGIN),
    )
    detail = (
      'Estimate: early against late less two late; less D_golden it is'
      f' {claims.shown(golden)}. {arms.remark}'
    )
    return Finding(verdict, late, arms.seeds, detail.strip())

  def _unsettled(self, evidence: Evidence) -> Finding:
    arms = comparisons.shared(evidence, (self.sft_early, self.golden))
    effect = comparisons.peak_difference(arms)
    verdict = estimators.absent(effect, 0.0, _WIDTH)
    words = comparisons.peaks_in_words(arms)
    return Finding(verdict, effect, arms.seeds, words)
