"""Layer 4. A run: all choices that change the numbers of a training."""

import dataclasses

import numpy as np

from dap import errors, optimizers
from dap.algorithms import objectives
from dap.algorithms.algorithm import Algorithm
from dap.algorithms.rooms import Padded, Rooms
from dap.losses import ranges
from dap.losses.ranges import Seed
from dap.models import dropping
from dap.models.trained import Trained

# Fields of a run that no number depends on: how far it goes, and what is kept
# of it. A schedule that ends with the run has a number of steps of its own.
WITHOUT_NUMBERS = ('num_steps', 'save_steps', 'log_every')


@dataclasses.dataclass(frozen=True)
class Run:
  """All choices that change the numbers of a training.

  Attributes:
    model: a `Policy`, one with a critic, or a preference model.
    algorithm: the tuple of slots.
    optimizer: without its learning rate.
    learning_rate: peak, traced.
    num_steps: steps; each has one update, or as many as the passes say.
    batch_size: pairs (or prompts) of a step, over all devices.
    schedule: multiplies the learning rate.
    seed: of the order of examples, of samples and of ties.
    num_microbatches: parts that the batch of an update is split into to save
      memory.
    rooms: whether dense layers work on padding too; numbers are the same to
      rounding.
    save_steps: steps with a checkpoint; the last step always has one.
    log_every: steps between lines of metrics.
  """

  model: Trained
  algorithm: Algorithm
  optimizer: optimizers.Optimizer
  learning_rate: float
  num_steps: int
  batch_size: int
  schedule: optimizers.Schedule = optimizers.Constant()
  seed: Seed = 0
  num_microbatches: int = 1
  rooms: Rooms = Padded()
  save_steps: tuple[int, ...] = ()
  log_every: int = 10

  def __post_init__(self):
    ranges.check(self)
    for name in ('num_steps', 'batch_size', 'num_microbatches', 'log_every'):
      if getattr(self, name) < 1:
        raise errors.InputError(
          f'A run needs {name} >= 1, got {getattr(self, name)}.'
        )
    if not self.learning_rate > 0:
      raise errors.InputError(
        f'A run needs learning_rate > 0, got {self.learning_rate}.'
      )
    if self.rows_of_update % self.num_microbatches:
      raise errors.InputError(
        f'batch_size {self.batch_size} must be divisible by num_microbatches'
        f' {self.num_microbatches}, and so must a minibatch of its passes, got'
        f' {self.rows_of_update} rows.'
      )
    if late := [s for s in self.save_steps if not 0 < s <= self.num_steps]:
      raise errors.InputError(
        f'save_steps must be in 1..{self.num_steps}, got {late}. Lower them,'
        ' or train for more steps.'
      )
    self._check_columns()

  def _check_columns(self) -> None:
    gives = self.model.gives
    for name in objectives.reads(self.algorithm.loss.function):
      field = objectives.OF_MODEL.get(name)
      if field is not None and field not in gives:
        raise errors.InputError(
          f'{objectives.name_of(self.algorithm.loss.function)} reads {name},'
          f' which {type(self.model).__name__} does not give; it gives'
          f' {", ".join(gives)}. Choose a model that does (values: one with a'
          ' critic, gin/models/actor_critic.gin; rivals:'
          ' gin/models/rivals.gin), or another loss.'
        )

  @property
  def rows_of_update(self) -> int:
    """Examples of one update, over all devices."""
    return self.algorithm.passes.rows_of_update(self.batch_size)

  @property
  def objective(self) -> objectives.Objective:
    """What an update minimises."""
    loss = self.algorithm.loss
    return objectives.LossObjective(self.model, loss.function, loss.view)

  @property
  def drops(self) -> bool:
    """Whether its updates drop values of the model, as its rate says.

    Not where the loss reads what was said before, by a reference, a critic or
    the policy that sampled: values dropped on one side compare nothing.
    """
    columns = self.algorithm.columns
    compares = any(each.owner or each.name == 'behaviour' for each in columns)
    return dropping.rate_of(self.model) > 0 and not compares

  def scalars(self, step: int) -> dict[str, np.float32 | np.uint32]:
    """The traced numbers of the updates of a step, and the seed of dropout."""
    rate = self.learning_rate * self.schedule(step)
    numbers = {'learning_rate': rate, **self.algorithm.loss.numbers}
    seeds = {objectives.DROPOUT: np.uint32(self.seed)} if self.drops else {}
    return {name: np.float32(value) for name, value in numbers.items()} | seeds

  def logs(self, done: int) -> bool:
    """Whether there is a line of metrics after so many steps."""
    return done % self.log_every == 0 or done == self.num_steps

  def saves(self, done: int) -> bool:
    """Whether there is a checkpoint after so many steps."""
    return done in self.save_steps or done == self.num_steps
