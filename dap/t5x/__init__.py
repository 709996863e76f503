"""Layer 5. Our policies and losses in T5X's programs, our pairs in its batches.

The only part of dap that imports T5X, which is not on the package registry
(launch/install_t5x.sh installs it, docs/t5x.md shows it at work); nothing else
imports this part. Parameters have T5X's own names, so its checkpoints serve
both. T5X's trainer holds one tree of parameters: what the frozen reference
says of a pair is written beside the pair, once, by `task_with_reference`.
"""

from dap.t5x.features import (
  ChosenFeatureConverter,
  PairFeatureConverter,
  ReferencedPairFeatureConverter,
  preference_batch,
)
from dap.t5x.policy_models import DirectAlignmentModel, PolicyModel
from dap.t5x.reference import (
  task_num_ids,
  task_vocabulary,
  task_with_reference,
)

__all__ = [
  'ChosenFeatureConverter',
  'DirectAlignmentModel',
  'PairFeatureConverter',
  'PolicyModel',
  'ReferencedPairFeatureConverter',
  'preference_batch',
  'task_num_ids',
  'task_vocabulary',
  'task_with_reference',
]
