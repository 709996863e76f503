"""Layer 4. When the behaviour policy becomes a copy of the policy."""

import dataclasses

from dap import errors


@dataclasses.dataclass(frozen=True)
class EveryStep:
  """The behaviour policy is the policy itself: on-policy sampling."""

  def __call__(self, step: int) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Every:
  """A copy after every `steps` updates: off-policy by up to `steps` - 1."""

  steps: int

  def __post_init__(self):
    if self.steps < 1:
      raise errors.InputError(
        f'A refresh needs steps >= 1, got {self.steps}. To sample from the'
        ' start for ever, choose gin/refresh/never.gin.'
      )

  def __call__(self, step: int) -> bool:
    return step % self.steps == 0


@dataclasses.dataclass(frozen=True)
class Never:
  """The behaviour policy stays what the run started from."""

  def __call__(self, step: int) -> bool:
    return step == 0
