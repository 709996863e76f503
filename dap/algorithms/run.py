"""Layer 4. A run: all choices that change the numbers of a training."""

import dataclasses
from typing import Any

import numpy as np

from dap import errors, optimizers
from dap.algorithms.algorithm import Algorithm
from dap.training import steps


@dataclasses.dataclass(frozen=True)
class Run:
  """All choices that change the numbers of a training.

  Attributes:
    model: a `Policy` or a preference model.
    algorithm: the tuple of slots.
    optimizer: without its learning rate.
    learning_rate: peak, traced.
    num_steps: updates.
    batch_size: pairs (or prompts) of an update, over all devices.
    schedule: multiplies the learning rate.
    seed: of the order of examples, of samples and of ties.
    num_microbatches: parts that a batch is split into to save memory.
    save_steps: steps with a checkpoint; the last step always has one.
    log_every: steps between lines of metrics.
  """

  model: Any
  algorithm: Algorithm
  optimizer: optimizers.Optimizer
  learning_rate: float
  num_steps: int
  batch_size: int
  schedule: optimizers.Schedule = optimizers.Constant()
  seed: int = 0
  num_microbatches: int = 1
  save_steps: tuple[int, ...] = ()
  log_every: int = 10

  def __post_init__(self):
    for name in ('num_steps', 'batch_size', 'num_microbatches', 'log_every'):
      if getattr(self, name) < 1:
        raise errors.InputError(
          f'A run needs {name} >= 1, got {getattr(self, name)}.'
        )
    if not self.learning_rate > 0:
      raise errors.InputError(
        f'A run needs learning_rate > 0, got {self.learning_rate}.'
      )
    if self.batch_size % self.num_microbatches:
      raise errors.InputError(
        f'batch_size {self.batch_size} must be divisible by num_microbatches'
        f' {self.num_microbatches}.'
      )
    if late := [s for s in self.save_steps if not 0 < s <= self.num_steps]:
      raise errors.InputError(
        f'save_steps must be in 1..{self.num_steps}, got {late}. Lower them,'
        ' or train for more steps.'
      )

  @property
  def objective(self) -> steps.Objective:
    """What an update minimises."""
    loss = self.algorithm.loss
    return loss.objective(self.model, loss.function)

  def scalars(self, step: int) -> dict[str, np.float32]:
    """The traced numbers of an update."""
    rate = self.learning_rate * self.schedule(step)
    numbers = {'learning_rate': rate, **dict(self.algorithm.loss.scalars)}
    return {name: np.float32(value) for name, value in numbers.items()}
