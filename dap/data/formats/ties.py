"""Layer 3. What becomes of two responses that were judged alike.

A rule takes the two responses and the verdict, and gives (chosen, rejected)
pairs.
"""

from collections.abc import Callable

BOTH_BAD = 'tie (bothbad)'

# (first, second, verdict) to the (chosen, rejected) pairs of a tie.
TieRule = Callable[[str, str, str], list[tuple[str, str]]]


def drop_ties(first: str, second: str, verdict: str) -> list[tuple[str, str]]:
  """A tie gives no pair, as in fits of Bradley and Terry's model."""
  del first, second, verdict
  return []


def ties_both_ways(
  first: str, second: str, verdict: str
) -> list[tuple[str, str]]:
  """A tie gives both orders: half a win each, as a label of one half."""
  del verdict
  return [(first, second), (second, first)]


def good_ties_both_ways(
  first: str, second: str, verdict: str
) -> list[tuple[str, str]]:
  """As `ties_both_ways`, but two bad responses give no pair."""
  if verdict == BOTH_BAD:
    return []
  return ties_both_ways(first, second, verdict)


def first_on_ties(
  first: str, second: str, verdict: str
) -> list[tuple[str, str]]:
  """The first is chosen: a label, where the set labels its ties."""
  del verdict
  return [(first, second)]
