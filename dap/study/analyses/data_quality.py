"""Layer 7. H2: is D_golden of too low quality? (Fig. 5)."""

import dataclasses

import numpy as np

from dap import estimators
from dap.study.analyses import claims, comparisons, drawings, names
from dap.study.analyses.claims import Claim, Finding, Unreached
from dap.study.analyses.drawings import Drawn
from dap.study.reading.evidence import Evidence, Figure, Predicate, Setting

_MARGIN = 0.02  # by which the peak on better data may be higher


@dataclasses.dataclass(frozen=True)
class DataQuality:
  """Offline training on responses of the last online policy.

  Attributes:
    offline: arm, on D_golden.
    late: arm, on pairs that the end of an online run wrote, golden labels.
    sft: the SFT policy in runs.jsonl.
    golden: the golden policy there, for the figure.
    online: arm of the policy that wrote the late pairs.
    setting: of its run; None where it has one run.
  """

  offline: str
  late: str
  sft: str = drawings.SFT
  golden: str = drawings.GOLDEN
  online: str = 'online_ipo'
  setting: Setting | None = None

  def __post_init__(self):
    names.set_setting(self, self.setting)
    names.check(
      self, (self.offline, self.late, self.sft, self.golden, self.online)
    )

  @property
  def arms(self) -> tuple[str, ...]:
    """Without the SFT and the golden policy, which every study has."""
    return self.offline, self.late, self.online

  def predicates(self, evidence: Evidence) -> list[Predicate]:
    """P3a."""
    claim = Claim(
      'P3a',
      'Better responses do not help offline training: on pairs of the last'
      ' online policy its peak is not above that on D_golden, above the SFT'
      ' policy and below the policy that wrote them.',
      'Fig. 5',
    )
    return [claims.judge(claim, lambda: self._no_help(evidence))]

  def figures(self, evidence: Evidence) -> list[Figure]:
    """Figure 5."""
    writer = self._writer_rates(evidence)
    level = float(np.mean(writer)) if writer else np.nan
    figure = drawings.frontier(
      evidence,
      (
        Drawn(self.offline, 'offline', 'D_golden'),
        Drawn(self.late, 'late', 'late online against late online'),
      ),
      name='fig5',
      title='Data quality: offline training on better responses',
      caption='Offline training on D_golden, and on two responses of the last'
      ' online policy to each of its prompts, under golden labels.',
      more=[drawings.flat('writer of the late pairs', 'online', level)],
    )
    return drawings.with_marks([figure])

  def _no_help(self, evidence: Evidence) -> Finding:
    self._check_one_run(evidence)
    writer = self.online, self.setting
    sides = self.late, self.offline, self.sft, writer
    arms = comparisons.shared(evidence, sides)
    peak, end = comparisons.peak, _end
    above_golden, above_sft, below_writer = (
      comparisons.of_prompts(arms, values)
      for values in (
        lambda late, golden, sft, writer: peak(late) - peak(golden),
        lambda late, golden, sft, writer: peak(late) - end(sft),
        lambda late, golden, sft, writer: end(writer) - peak(late),
      )
    )
    verdict = claims.all_of(
      estimators.not_greater(above_golden, _MARGIN),
      estimators.greater(above_sft),
      estimators.greater(below_writer),
    )
    detail = (
      'Estimate: peak on late pairs less peak on D_golden. Peak on late pairs'
      f' less the SFT policy {claims.shown(above_sft)}; the policy that wrote'
      f' them less that peak {claims.shown(below_writer)}. {arms.remark}'
    )
    return Finding(verdict, above_golden, arms.seeds, detail.strip())

  def _check_one_run(self, evidence: Evidence) -> None:
    runs = {point.run for point in evidence.of(self.online, self.setting)}
    if len(runs) > 1:
      raise Unreached(
        f'{self.online} has {len(runs)} runs: name the one that wrote the late'
        ' pairs by the setting of DataQuality.'
      )

  def _writer_rates(self, evidence: Evidence) -> list[float]:
    """Win rate at the end of the run that wrote the late pairs, by seed."""
    points = evidence.of(self.online, self.setting)
    if len({point.run for point in points}) > 1:
      return []
    return [
      max(own, key=lambda point: point.step).win_rate
      for seed in evidence.seeds
      if (own := [point for point in points if point.seed == seed])
    ]


def _end(frontier) -> np.ndarray:
  return comparisons.at(frontier, frontier.end)
