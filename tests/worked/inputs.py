"""What several worked numbers start from, and how one is found by asking."""

import jax
import jax.numpy as jnp
from scipy import optimize

from dap.records import Pair

# The worked pair: three tokens against two; padding holds junk.
POLICY = Pair([[-0.5, -1.0, -0.3]], [[-1.2, -0.8, -9.9]])
REFERENCE = Pair([[-0.7, -1.1, -0.5]], [[-0.9, -0.7, -4.4]])
MASK = Pair([[1.0, 1.0, 1.0]], [[1.0, 1.0, 0.0]])


def arrays(pair):
  """The same, in the precision of now."""
  return Pair(*(jnp.asarray(side) for side in pair))


def least(loss, low, high):
  """Where a loss of one number has no slope; it falls at low, rises at high."""
  slope = jax.jit(jax.grad(loss))
  return optimize.brentq(lambda x: float(slope(x)), low, high, xtol=1e-10)


def edge(holds):
  """The number from 0 to 1 up to which something holds."""
  return optimize.bisect(lambda x: 0.5 - bool(holds(x)), 0, 1, xtol=1e-9)


def parts(prefix, names, values):
  """Calls of `prefix` and each name, for the numbers that `values()` gives."""
  return {
    f'{prefix}{name}': lambda place=place: values()[place]
    for place, name in enumerate(names)
  }
