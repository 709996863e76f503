"""Layer 4. Where a step's responses come from: data, a stream, or the policy.

A stream is a data set that a run recorded, so offline training on it is
`FromDataset(order=in_order)`; there is no third kind.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from dap import errors
from dap.data import arrays
from dap.records import Responses
from dap.sampling.choose import InverseCdf

# (number of examples, batch size, seed, step) -> rows of the batch
Order = Callable[[int, int, int, int], np.ndarray]


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


@dataclasses.dataclass(frozen=True)
class FromDataset:
  """Pairs that exist: labelled data, or the recorded stream of a run."""

  order: Order = arrays.batch_indices


@dataclasses.dataclass(frozen=True)
class FromPolicy:
  """Responses drawn from the behaviour policy at temperature 1 by default.

  Attributes:
    length: most tokens of a response, its end-of-sequence token included.
    num_samples: responses to each prompt.
    choose: how a token is drawn, see `dap/sampling/choose.py`.
    order: of the prompts.
  """

  length: int
  num_samples: int = 2
  choose: Callable = InverseCdf()
  order: Order = arrays.batch_indices

  def __call__(
    self,
    policy: Any,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    keys: Key[Array, ' batch'],
  ) -> Responses:
    """Samples; one key for each prompt."""
    return policy.sample(
      params,
      prompts,
      keys,
      num_samples=self.num_samples,
      length=self.length,
      choose=self.choose,
    )
