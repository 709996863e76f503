"""Layer 4. An algorithm: sampler x annotator x pairing x loss x refresh."""

import dataclasses
from typing import Any

from dap import errors
from dap.algorithms import pairings, refresh, samplers
from dap.algorithms.objectives import Loss


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """The choices that one loop calls in order (spec 0.2, 1).

  Offline is `FromDataset` with its labels kept; online is `FromPolicy` with an
  annotator. Nothing else differs between the two.

  Attributes:
    loss: what an update minimises.
    sampler: where responses come from.
    annotator: asked about sampled responses; None keeps a data set's labels.
    pairing: makes a label of what the annotator says.
    refresh: when the behaviour policy follows the policy.
  """

  loss: Loss
  sampler: Any = samplers.FromDataset()
  annotator: Any = None
  pairing: Any = pairings.Two()
  refresh: Any = refresh.EveryStep()

  def __post_init__(self):
    if self.samples and self.annotator is None:
      raise errors.InputError(
        'An algorithm that samples from the policy needs an annotator to label'
        ' the samples, got none. Include gin/annotators/preference_model.gin,'
        ' or take responses from data with gin/samplers/dataset.gin.'
      )

  @property
  def samples(self) -> bool:
    """Whether responses are drawn during training."""
    return isinstance(self.sampler, samplers.FromPolicy)
