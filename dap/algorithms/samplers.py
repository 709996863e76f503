"""Layer 4. Samplers: who writes the responses of a step."""

import dataclasses
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Int, Key, PyTree

from dap import errors
from dap.models.trained import Policy
from dap.records import Responses
from dap.sampling.choose import InverseCdf
from dap.sampling.decode import Choose


@runtime_checkable
class Sampler(Protocol):
  """A frozen value; pure.

  Attributes:
    num_samples: responses to each prompt.
    length: most tokens of a response, its end-of-sequence token included.
  """

  @property
  def num_samples(self) -> int: ...

  @property
  def length(self) -> int: ...

  def __call__(
    self,
    policy: Policy,
    behaviour: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    keys: Key[Array, ' batch'],
  ) -> Responses:
    """Responses of the behaviour policy; one key for each prompt."""
    ...


@dataclasses.dataclass(frozen=True)
class FromPolicy:
  """Responses drawn from the behaviour policy, at temperature 1 by default.

  Attributes:
    length: most tokens of a response, its end-of-sequence token included.
    num_samples: responses to each prompt.
    choose: how a token is drawn, see `dap/sampling/choose.py`.
  """

  length: int
  num_samples: int = 2
  choose: Choose = InverseCdf()

  def __post_init__(self):
    for name in ('length', 'num_samples'):
      if getattr(self, name) < 1:
        raise errors.InputError(
          f'A sampler needs {name} >= 1, got {getattr(self, name)}.'
        )

  def __call__(
    self,
    policy: Policy,
    behaviour: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    keys: Key[Array, ' batch'],
  ) -> Responses:
    """See `Sampler`."""
    return policy.sample(
      behaviour,
      prompts,
      keys,
      num_samples=self.num_samples,
      length=self.length,
      choose=self.choose,
    )
