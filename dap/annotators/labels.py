"""Layer 3. From a preference model's two answers to a label of a pair.

Labels take `(p_ab, p_ba, keys)` and say for each row whether the first response
is preferred. `p_ab` is the probability that the response shown first is
preferred when the first response is shown first, `p_ba` when the second is.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key


def sign_label(
  p_ab: Float[Array, ' batch'],
  p_ba: Float[Array, ' batch'],
  keys: Key[Array, ' batch'],
) -> Bool[Array, ' batch']:
  """The response that does better when shown first; a fair coin on a tie.

  A model that only likes the first place thus labels at random.

  Args:
    p_ab: answer with the first response shown first; log-odds will do as well.
    p_ba: answer with the second response shown first.
    keys: one for each row, for its coin.

  Source: Tang et al. 2024, A.2, https://arxiv.org/abs/2405.08448; coin ours.
  """
  heads = jax.vmap(jax.random.uniform)(keys) < 0.5
  return (p_ab > p_ba) | ((p_ab == p_ba) & heads)


def sampled_label(
  p_ab: Float[Array, ' batch'],
  p_ba: Float[Array, ' batch'],
  keys: Key[Array, ' batch'],
) -> Bool[Array, ' batch']:
  """A draw with `mean_probability`: what IPO's population optimum assumes."""
  uniform = jax.vmap(jax.random.uniform)(keys)
  return uniform < mean_probability(p_ab, p_ba)


def mean_probability(
  p_ab: Float[Array, ' batch'], p_ba: Float[Array, ' batch']
) -> Float[Array, ' batch']:
  """Probability that the first response is preferred: the orders' mean.

  Swapping the responses gives the complement. A constant bias in probability
  cancels.
  """
  return 0.5 + 0.5 * (p_ab - p_ba)


def mean_log_odds_probability(
  p_ab: Float[Array, ' batch'], p_ba: Float[Array, ' batch']
) -> Float[Array, ' batch']:
  """The same from the mean of log-odds: a constant bias in log-odds cancels.

  Answers of exactly 0 or 1 are taken as the nearest number inside.
  """
  return jax.nn.sigmoid(0.5 * (_log_odds(p_ab) - _log_odds(p_ba)))


def _log_odds(probability):
  precision = jnp.finfo(probability.dtype)
  inside = jnp.clip(probability, precision.tiny, 1 - precision.epsneg)
  return jnp.log(inside) - jnp.log1p(-inside)
