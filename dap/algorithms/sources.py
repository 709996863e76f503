"""Layer 4. Sources: which examples, or prompts to answer, a step has.

A stream is a data set that a run recorded, so training on it is
`FromDataset(order=in_order)`; there is no other kind.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from dap import errors
from dap.data import arrays

# (number of examples, batch size, seed, step) -> rows of the batch
Order = Callable[[int, int, int, int], np.ndarray]


@runtime_checkable
class Source(Protocol):
  """A frozen value; rows depend on its arguments alone."""

  def rows(
    self, num_examples: int, batch_size: int, seed: int, step: int
  ) -> np.ndarray:
    """Rows of the batch of a step."""
    ...


@dataclasses.dataclass(frozen=True)
class FromDataset:
  """The rows of a data set, epoch by epoch in random order by default."""

  order: Order = arrays.batch_indices

  def rows(
    self, num_examples: int, batch_size: int, seed: int, step: int
  ) -> np.ndarray:
    """See `Source`."""
    return self.order(num_examples, batch_size, seed, step)


@dataclasses.dataclass(frozen=True)
class ShuffledWindows:
  """Examples permuted within consecutive windows of `batches` batches.

  Tang et al. 2024, app. G.2 and fig. 13: between a stream's own order (1) and
  a uniform shuffle (as many as there are).
  """

  batches: int

  def __post_init__(self):
    _check_window(self.batches)

  def __call__(
    self, num_examples: int, batch_size: int, seed: int, step: int
  ) -> np.ndarray:
    """Rows of the batch; epochs follow each other, the last window of one may
    be shorter."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, num_examples)
    size = self.batches * batch_size
    windows = offsets // size
    rows = np.empty(batch_size, np.int64)
    for epoch, window in sorted(set(zip(epochs.tolist(), windows.tolist()))):
      begin = window * size
      length = min(size, num_examples - begin)
      generator = np.random.default_rng([seed, epoch, window])
      permuted = begin + generator.permutation(length)
      here = (epochs == epoch) & (windows == window)
      rows[here] = permuted[offsets[here] - begin]
    return rows


@dataclasses.dataclass(frozen=True)
class ShuffledBatches:
  """Whole batches permuted within consecutive windows of `batches` batches.

  Tang et al. 2024 do not say whether their shuffle moves examples or batches;
  this is the other reading. Every batch keeps its examples.
  """

  batches: int

  def __post_init__(self):
    _check_window(self.batches)

  def __call__(
    self, num_examples: int, batch_size: int, seed: int, step: int
  ) -> np.ndarray:
    """Rows of the batch; an incomplete last batch of an epoch is left out."""
    num_batches = num_examples // batch_size
    epoch, offset = divmod(step, num_batches)
    window, place = divmod(offset, self.batches)
    begin = window * self.batches
    length = min(self.batches, num_batches - begin)
    generator = np.random.default_rng([seed, epoch, window])
    batch = begin + generator.permutation(length)[place]
    return np.arange(batch * batch_size, (batch + 1) * batch_size)


def _check_window(batches: int) -> None:
  if batches < 1:
    raise errors.InputError(
      f'A window of shuffling needs batches >= 1, got {batches}. For the order'
      ' of the stream itself, bind order = @arrays.in_order.'
    )
