"""Layer 7. A panel: people who label what policies write.

A model that has read people alone is a poor judge of policies: where they go
there is nothing that it has seen. Collections of preferences hold policies'
responses at several KLs; so do the golden model's data and D_golden here. Those
policies, scouts, are no runs of the study.
"""

import dataclasses

from dap.algorithms.run import Run
from dap.losses import ranges
from dap.losses.ranges import Count, Size


@dataclasses.dataclass(frozen=True)
class Panel:
  """Pairs that scouts write and people label, for the golden model.

  Where the data's source has no people to ask (`EmbeddedCorpus.votes`), there
  is no panel, and the golden model learns from the data's pairs.

  Attributes:
    judge: training of the preference model that scouts are trained against, on
      the data's own labels.
    judge_splits: of the data, that it reads.
    judge_pairs: of their first; all when None. A judge of as few pairs as the
      proxy has is fooled where the proxy is.
    scouts: trainings from the SFT policy; their `save_steps` and ends write.
    num_pairs: of fresh responses to training prompts, evenly by checkpoint, the
      SFT policy's among them. Pairs of two equal responses are left out.
    num_golden_pairs: of these, how many D_golden has beside the data's own,
      under golden labels as those are.
  """

  judge: Run
  scouts: tuple[Run, ...]
  judge_splits: tuple[str, ...] = ('train',)
  judge_pairs: Size | None = None
  num_pairs: Size = 12000
  num_golden_pairs: Count = 2000

  def __post_init__(self):
    for name in ('scouts', 'judge_splits'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    ranges.check(self)

  @property
  def runs(self) -> dict[str, Run]:
    """All trainings, by the names of their stages."""
    scouts = {f'scout_{i}': run for i, run in enumerate(self.scouts)}
    return {'scout_judge': self.judge, **scouts}
