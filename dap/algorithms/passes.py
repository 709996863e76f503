"""Layer 4. Passes: how often a step's examples are used, and in which parts."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from dap import errors


@runtime_checkable
class Passes(Protocol):
  """A frozen value; which rows come when depends on seed and step alone."""

  def rows_of_update(self, num_rows: int) -> int:
    """Examples of each update.

    Raises:
      errors.InputError: so many rows cannot be split.
    """
    ...

  def __call__(
    self, num_rows: int, seed: int, step: int
  ) -> Iterator[np.ndarray | None]:
    """The rows of each update; None for all as they lie."""
    ...

  def num_updates(self) -> int:
    """Updates of a step."""
    ...


@dataclasses.dataclass(frozen=True)
class Once:
  """One update on all examples."""

  def rows_of_update(self, num_rows: int) -> int:
    """All."""
    return num_rows

  def __call__(
    self, num_rows: int, seed: int, step: int
  ) -> Iterator[np.ndarray | None]:
    """All, once."""
    del num_rows, seed, step
    yield None

  def num_updates(self) -> int:
    """One."""
    return 1


@dataclasses.dataclass(frozen=True)
class Epochs:
  """Each epoch is a permutation of its own, cut into minibatches: PPO's.

  Attributes:
    epochs: over the examples of a step.
    minibatches: updates of each epoch.
  """

  epochs: int = 1
  minibatches: int = 1

  def __post_init__(self):
    for name in ('epochs', 'minibatches'):
      if getattr(self, name) < 1:
        raise errors.InputError(
          f'Passes need {name} >= 1, got {getattr(self, name)}.'
        )

  def rows_of_update(self, num_rows: int) -> int:
    """A minibatch."""
    if num_rows % self.minibatches:
      raise errors.InputError(
        f'{num_rows} examples of a step cannot be split into'
        f' {self.minibatches} minibatches of one size. Change BATCH_SIZE or'
        ' passes.Epochs.minibatches.'
      )
    return num_rows // self.minibatches

  def __call__(
    self, num_rows: int, seed: int, step: int
  ) -> Iterator[np.ndarray | None]:
    """Minibatches of every epoch."""
    for epoch in range(self.epochs):
      order = np.random.default_rng([seed, step, epoch]).permutation(num_rows)
      yield from np.split(order.astype(np.int32), self.minibatches)

  def num_updates(self) -> int:
    """Those of all epochs."""
    return self.epochs * self.minibatches
