"""Layer 2. A policy that also says what it would rather have written.

Its parameters are the policy's own, and so are the checkpoints of its runs.
"""

import dataclasses
import functools

from jaxtyping import Array, Key, PyTree

from dap.errors import InputError
from dap.losses import heads, ranges
from dap.models import packing
from dap.models.counts import PairReading
from dap.models.policy import Policy
from dap.models.protocols import LanguageModel
from dap.records import Outputs, Prompts, Responses


@dataclasses.dataclass(frozen=True)
class WithRivals:
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

  @property
  def shared(self) -> Policy:
    """The policy."""
    return self.policy

  def with_shared(self, shared: Policy) -> 'WithRivals':
    """The same with another policy."""
    return dataclasses.replace(self, policy=shared)

  @property
  def language_model(self) -> LanguageModel:
    """The policy's."""
    return self.policy.language_model

  def with_language_model(self, model: LanguageModel) -> 'WithRivals':
    """The same over another one."""
    return self.with_shared(self.policy.with_language_model(model))

  def packed(self, room: packing.Room) -> 'WithRivals':
    """The same, of batches with this room."""
    return self.with_shared(self.policy.packed(room))

  def init(self, key: Key[Array, '']) -> PyTree:
    """Initial parameters of the policy: there are no others."""
    return self.policy.init(key)

  def logical_axes(self) -> PyTree:
    """The policy's."""
    return self.policy.logical_axes()

  def outputs(
    self, params: PyTree, prompts: Prompts, responses: Responses
  ) -> Outputs:
    """Log-probs of tokens and of their rivals, of one pass; 0 on padding."""
    head = functools.partial(heads.head_rivals, num_rivals=self.num_rivals)
    _, scores = self.policy.hidden_and_scores(
      head, params, prompts.tokens, responses.tokens
    )
    return Outputs(log_probs=scores[..., 0], rivals=scores[..., 1:])

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """All, and nothing."""
    return params, {}

  def join(self, shared: PyTree, rest: PyTree) -> PyTree:
    """The first part."""
    del rest
    return shared

  def pair_reading(
    self, prompt_length: int, response_length: int
  ) -> PairReading:
    """The policy's: rivals are read off its logits, here and below."""
    return self.policy.pair_reading(prompt_length, response_length)

  def pair_operations(self, prompt_length: int, response_length: int) -> float:
    """The policy's."""
    return self.policy.pair_operations(prompt_length, response_length)

  def widest_bytes(
    self, prompt_length: int, response_length: int, num_devices: int
  ) -> float:
    """The policy's."""
    return self.policy.widest_bytes(prompt_length, response_length, num_devices)
