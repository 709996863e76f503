from hypothesis import given
from hypothesis import strategies as st

from dap import errors

anything = st.recursive(
  st.none() | st.integers() | st.floats() | st.text() | st.binary(),
  lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@given(anything)
def test_a_value_is_shown_in_a_line_however_long_it_is(value):
  assert '\n' not in errors.shown(value)
  assert len(errors.shown([value, 'x' * 9999, 10**500])) < 3000


def test_what_is_short_is_shown_as_it_is():
  assert errors.shown('human') == "'human'"
  assert errors.shown('y' * 9999).startswith("'yyyy")
  assert len(errors.shown('y' * 9999)) == 80
