"""Layer 4. Schedules: when a role becomes a copy of the policy.

A schedule is asked before every step, step 0 included, where the role is what
the run was given. Behaviour policy, reference and annotator each have one.
"""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from dap import errors
from dap.records import Role


@runtime_checkable
class Schedule(Protocol):
  """A frozen value.

  The update donates the policy's memory: a role that shall be the policy of
  now holds `copied(policy)`, never `policy` itself.

  Attributes:
    keeps: whether it makes parameters, which nobody else has: a checkpoint must
      hold them then, or a restart would not repeat the run.
  """

  keeps: ClassVar[bool]

  def __call__(self, step: int, role: Role, policy: PyTree) -> Role:
    """The role of `step`, from that of the step before and the policy now."""
    ...


@dataclasses.dataclass(frozen=True)
class Current:
  """The role is the policy itself, without a copy: on-policy sampling."""

  keeps: ClassVar[bool] = False

  def __call__(self, step: int, role: Role, policy: PyTree) -> Role:
    """The policy of this step."""
    return Role(None, step)


@dataclasses.dataclass(frozen=True)
class Never:
  """The role stays what the run started from."""

  keeps: ClassVar[bool] = False

  def __call__(self, step: int, role: Role, policy: PyTree) -> Role:
    """What it was."""
    return role


@dataclasses.dataclass(frozen=True)
class Every:
  """A copy after every `steps` steps: behind by up to `steps` - 1."""

  steps: int
  keeps: ClassVar[bool] = True

  def __post_init__(self):
    _check_steps('A refresh', self.steps, 1)

  def __call__(self, step: int, role: Role, policy: PyTree) -> Role:
    """A copy now and then."""
    if step == 0 or step % self.steps:
      return role
    return Role(copied(policy), step)


@dataclasses.dataclass(frozen=True)
class Lagged:
  """The policy of `steps` steps ago; what was given until there is such a one.

  Holds `steps` copies beside it.
  """

  steps: int = 1
  keeps: ClassVar[bool] = True

  def __post_init__(self):
    _check_steps('A lag', self.steps, 1)

  def __call__(self, step: int, role: Role, policy: PyTree) -> Role:
    """The oldest of the copies that are waiting."""
    waiting = (*role.later, Role(copied(policy), step))
    if step < self.steps:
      return role._replace(later=waiting)
    return waiting[0]._replace(later=waiting[1:])


@dataclasses.dataclass(frozen=True)
class Ema:
  """An exponential moving average: (1 - rate) * role + rate * policy.

  Attributes:
    rate: share of the policy, in (0, 1]; a decay of 0.992 is a rate of 0.008.
    steps: between two of these.
  """

  rate: float
  steps: int = 1
  keeps: ClassVar[bool] = True

  def __post_init__(self):
    _check_steps('A moving average', self.steps, 1)
    if not 0 < self.rate <= 1:
      raise errors.InputError(
        f'A moving average needs a rate in (0, 1], got {self.rate}. A decay d'
        ' is the rate 1 - d.'
      )

  def __call__(self, step: int, role: Role, policy: PyTree) -> Role:
    """The average, a little nearer to the policy."""
    if step == 0 or step % self.steps:
      return role
    mixed = _mix(role.params, policy, jnp.float32(self.rate))
    # Where it was: placed otherwise it would cost rollouts a compilation.
    places = jax.tree.map(lambda leaf: leaf.sharding, role.params)
    return Role(jax.device_put(mixed, places), step)


def _check_steps(what: str, steps: int, least: int) -> None:
  if steps < least:
    raise errors.InputError(
      f'{what} needs steps >= {least}, got {steps}. To keep the start for ever,'
      ' choose gin/refresh/never.gin.'
    )


def copied(params: PyTree) -> PyTree:
  """The same in memory of its own: the update donates the policy's."""
  return jax.tree.map(jnp.copy, params)


@jax.jit
def _mix(role: PyTree, policy: PyTree, rate: Array) -> PyTree:
  return jax.tree.map(lambda r, p: (1 - rate) * r + rate * p, role, policy)
