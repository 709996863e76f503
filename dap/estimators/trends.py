"""Layer 1. How one series goes with another; numpy."""

import numpy as np
from jaxtyping import Float, Real


def slope(
  x: Real[np.ndarray, ' n'], y: Real[np.ndarray, '*any n']
) -> Float[np.ndarray, '*any'] | float:
  """Least-squares slope of y on x, per unit of x; nan where x is constant."""
  centred = x - np.mean(x, dtype=np.float64)
  square = np.sum(centred**2)
  if square == 0:
    return np.full(y.shape[:-1], np.nan)[()]
  return y @ centred / square


def spearman(x: Real[np.ndarray, ' n'], y: Real[np.ndarray, ' n']) -> float:
  """Rank correlation; equal values share their mean rank.

  nan where either is constant.
  """
  ranks = np.stack([_ranks(x), _ranks(y)])
  ranks -= np.mean(ranks, axis=1, keepdims=True)
  squares = np.sum(ranks**2, axis=1)
  if np.any(squares == 0):
    return np.nan
  return float(ranks[0] @ ranks[1] / np.sqrt(squares[0] * squares[1]))


def _ranks(values: np.ndarray) -> np.ndarray:
  ordered = np.sort(values)
  below = np.searchsorted(ordered, values, 'left')
  not_above = np.searchsorted(ordered, values, 'right')
  return 0.5 * (below + not_above + 1.0)


def between(
  x: Float[np.ndarray, ' points'], asked: Float[np.ndarray, ' asked']
) -> Float[np.ndarray, 'asked points']:
  """Weights of linear interpolation: `between(x, asked) @ y` is y at `asked`.

  Args:
    x: ascending.
    asked: beyond the ends of x they have the weights of these.
  """
  places = np.arange(len(x))
  found = np.interp(asked, x, places)
  return np.maximum(0.0, 1 - np.abs(found[:, None] - places))
