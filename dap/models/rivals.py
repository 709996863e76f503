"""Layer 2. A policy that also says what it would rather have written.

Its parameters are the policy's own, and so are the checkpoints of its runs.
"""

import dataclasses
import functools

from jaxtyping import PyTree

from dap.errors import InputError
from dap.losses import heads, ranges
from dap.models.around import AroundPolicy
from dap.models.policy import Policy
from dap.records import Outputs, Prompts, Responses


@dataclasses.dataclass(frozen=True)
class WithRivals(AroundPolicy):
  """A policy and the likeliest other tokens at each place; see `Trained`.

  Attributes:
    policy: writes responses; a checkpoint of the run is one of it.
    num_rivals: tokens beside the one that stands there, fewer than the policy
      can say.
  """

  policy: Policy
  num_rivals: ranges.Size = 1

  def __post_init__(self):
    ranges.check(self)
    size = self.policy.vocabulary_size
    rows = self.language_model.vocab_size
    says = rows if size is None else min(rows, size) - 1  # never padding
    if self.num_rivals >= says:
      raise InputError(
        f'A policy of {says} tokens has at most {says - 1} rivals to each, got'
        f' num_rivals {self.num_rivals}. Lower NUM_RIVALS.'
      )

  @property
  def gives(self) -> tuple[str, ...]:
    """The fields of `Outputs` that it fills."""
    return ('log_probs', 'rivals')

  def outputs(
    self, params: PyTree, prompts: Prompts, responses: Responses
  ) -> Outputs:
    """Log-probs of tokens and of their rivals, of one pass; 0 on padding."""
    head = functools.partial(heads.head_rivals, num_rivals=self.num_rivals)
    _, scores = self.policy.hidden_and_scores(
      head, params, prompts.tokens, responses.tokens
    )
    return Outputs(log_probs=scores[..., 0], rivals=scores[..., 1:])
