import numpy as np
import pytest

from dap import errors
from dap.algorithms import sources
from dap.data import arrays


def test_a_batch_is_a_function_of_seed_and_step():
  order = sources.FromDataset().rows
  np.testing.assert_array_equal(order(64, 8, 3, 5), order(64, 8, 3, 5))
  assert np.any(order(64, 8, 3, 5) != order(64, 8, 4, 5))
  epoch = np.concatenate([order(64, 8, 3, step) for step in range(8)])
  np.testing.assert_array_equal(np.sort(epoch), np.arange(64))


def test_shuffled_batches_move_whole_batches_within_their_windows():
  order = sources.ShuffledBatches(3)
  epoch = np.stack([order(32, 4, 7, step) for step in range(8)])
  np.testing.assert_array_equal(np.sort(epoch.reshape(-1)), np.arange(32))
  np.testing.assert_array_equal(np.diff(epoch, axis=1), 1)  # kept together
  places = epoch[:, 0] // 4
  for window in (places[:3], places[3:6], places[6:]):
    assert set(window) == set(range(min(window), min(window) + len(window)))
  assert np.any(places != np.arange(8))


def test_a_window_of_one_batch_is_the_stream_itself_for_whole_batches():
  order = sources.ShuffledBatches(1)
  for step in range(10):
    np.testing.assert_array_equal(
      order(32, 4, 7, step), arrays.in_order(32, 4, 7, step)
    )


@pytest.mark.parametrize(
  'order', [sources.ShuffledWindows, sources.ShuffledBatches]
)
def test_a_window_of_no_batches_is_refused(order):
  with pytest.raises(errors.InputError, match='needs batches >= 1, got 0'):
    order(0)
