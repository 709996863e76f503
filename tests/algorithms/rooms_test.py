import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap import errors
from dap.algorithms import rooms


@given(parts=st.integers(2, 20), positions=st.integers(1, 300))
def test_a_room_holds_all_and_there_are_few(parts, positions):
  packed = rooms.Packed(parts)
  found = [packed(tokens, positions) for tokens in range(positions + 1)]
  sizes = [positions if room is None else room for room in found]
  assert all(size >= tokens for tokens, size in enumerate(sizes))
  assert all(size <= positions for size in sizes)
  assert len({*sizes}) <= parts
  assert sizes == sorted(sizes)
  # No more is left than a part.
  part = -(-positions // parts)
  assert all(size - max(n, 1) < part for n, size in enumerate(sizes))


def test_rooms_are_parts_of_a_padded_batch():
  packed = rooms.Packed(4)  # of 100 positions: 25, 50, 75, all
  assert [packed(n, 100) for n in (0, 1, 25, 26, 75, 76)] == [
    *(25, 25, 25, 50, 75),
    None,
  ]
  assert rooms.Padded()(1, 100) is None


def test_one_part_is_no_packing():
  with pytest.raises(errors.InputError, match=r'padded\.gin'):
    rooms.Packed(1)
