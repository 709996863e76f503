"""Layer 4. Samplers: who writes the responses of a step."""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from dap import errors
from dap.models.trained import Policy
from dap.records import Prompts, Responses
from dap.sampling.choose import InverseCdf
from dap.sampling.decode import Choose


@runtime_checkable
class Sampler(Protocol):
  """A frozen value; pure.

  Attributes:
    num_samples: responses to each prompt.
    num_data: how many of them, the first, are the data's own.
    length: most tokens of a response, its end-of-sequence token included.
  """

  @property
  def num_samples(self) -> int: ...

  @property
  def num_data(self) -> int: ...

  @property
  def length(self) -> int: ...

  def __call__(
    self,
    policy: Policy,
    behaviour: PyTree,
    prompts: Prompts,
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
  num_data: ClassVar[int] = 0

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
    prompts: Prompts,
    keys: Key[Array, ' batch'],
  ) -> Responses:
    """See `Sampler`."""
    return policy.sample(
      behaviour,
      prompts.tokens,
      keys,
      num_samples=self.num_samples,
      length=self.length,
      choose=self.choose,
    )


@dataclasses.dataclass(frozen=True)
class BesideData:
  """The data's own responses to a prompt, and samples after them.

  Their log-probs are 0: nobody knows who wrote them.

  Attributes:
    sampler: of the samples.
    sides: which responses of the data: 0 is the chosen one, 1 the rejected.
  """

  sampler: FromPolicy
  sides: tuple[int, ...] = (0,)

  def __post_init__(self):
    object.__setattr__(self, 'sides', tuple(self.sides))
    if self.sides not in ((0,), (1,), (0, 1)):
      raise errors.InputError(
        'sides of samplers.BesideData must be (0,) for the chosen response of'
        f' the data, (1,) for the rejected or (0, 1), got {self.sides}.'
      )

  @property
  def length(self) -> int:
    """See `Sampler`."""
    return self.sampler.length

  @property
  def num_data(self) -> int:
    """See `Sampler`."""
    return len(self.sides)

  @property
  def num_samples(self) -> int:
    """See `Sampler`."""
    return self.num_data + self.sampler.num_samples

  def __call__(
    self,
    policy: Policy,
    behaviour: PyTree,
    prompts: Prompts,
    keys: Key[Array, ' batch'],
  ) -> Responses:
    """See `Sampler`."""
    drawn = self.sampler(policy, behaviour, prompts, keys)
    given = prompts.answers
    if given is None or given.tokens.shape[2] != self.length:
      length = None if given is None else given.tokens.shape[2]
      raise errors.InputError(
        f'Responses of the data stand beside samples of {self.length} tokens;'
        f' those of this data have {length}. Bind RESPONSE_LENGTH, which both'
        ' read.'
      )
    parts = zip(given, drawn, strict=True)
    both = [jnp.concatenate([x[:, self.sides], y], axis=1) for x, y in parts]
    return Responses(*both)
