import jax.numpy as jnp
import numpy as np
import pytest

from dap.records import END, PADDING, ended


@pytest.mark.parametrize('module', [np, jnp])
def test_a_response_with_an_end_has_ended_and_a_cut_one_has_not(module):
  rows = [[5, END, PADDING], [5, 6, 7], [5, 6, END], [PADDING] * 3]
  np.testing.assert_array_equal(
    ended(module.asarray(rows)), [True, False, True, False]
  )
  assert ended(module.asarray([rows]))[0, 0]
