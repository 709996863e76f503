"""Layer 1. From logits and a uniform number to a token and its log-prob."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Transform = Callable[[Float[Array, 'rows vocab']], Float[Array, 'rows vocab']]


@dataclasses.dataclass(frozen=True)
class InverseCdf:
  """Draw from the softmax of the transformed logits, by inverting its CDF.

  A token of probability 0 is never drawn, whatever the rounding. Two levels of
  sums stand in for a sort or a running sum over the vocabulary. Probabilities
  are right to about 1e-7, the spacing of float32 uniforms.

  Attributes:
    transforms: applied to the logits in this order; see `sampling/logits.py`.
  """

  transforms: tuple[Transform, ...] = ()

  def __call__(
    self, logits: Float[Array, 'rows vocab'], uniform: Float[Array, ' rows']
  ) -> tuple[Int[Array, ' rows'], Float[Array, ' rows']]:
    """Tokens, and their log-probs under the distribution drawn from.

    Args:
      logits: -inf for what cannot be drawn; one per row must be finite.
      uniform: in [0, 1), independent of everything else.
    """
    for transform in self.transforms:
      logits = transform(logits)
    rows, vocab = logits.shape
    num_blocks = max(1, 1 << round(math.log2(vocab) / 2))
    num_members = -(-vocab // num_blocks)
    padding = num_members * num_blocks - vocab
    top = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.pad(jnp.exp(logits - top), ((0, 0), (0, padding)))
    # Block b holds the tokens b, b + num_blocks, ...: its sum then runs along
    # the major axis, which vectorises.
    weights = weights.reshape(rows, num_members, num_blocks)
    sums = jnp.sum(weights, axis=1)
    total = jnp.sum(sums, axis=-1)
    block, rest = _first_above(sums, uniform * total)
    members = jnp.take_along_axis(weights, block[:, None, None], axis=2)
    member, _ = _first_above(members[:, :, 0], rest)
    tokens = member * num_blocks + block
    picked = jnp.take_along_axis(logits, tokens[:, None], axis=-1)
    return tokens, (picked - top)[:, 0] - jnp.log(total)


@dataclasses.dataclass(frozen=True)
class Greedy:
  """The likeliest token, the lowest id of equals; the uniforms are not used.

  Attributes:
    transforms: applied to the logits first; they shape the log-prob returned.
  """

  transforms: tuple[Transform, ...] = ()

  def __call__(
    self, logits: Float[Array, 'rows vocab'], uniform: Float[Array, ' rows']
  ) -> tuple[Int[Array, ' rows'], Float[Array, ' rows']]:
    """Tokens, and their log-probs under the softmax of transformed logits."""
    del uniform
    vocab = logits.shape[1]
    for transform in self.transforms:
      logits = transform(logits)
    top = jnp.max(logits, axis=-1, keepdims=True)
    # As argmax, and eight times as fast on a CPU.
    positions = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    tokens = jnp.min(jnp.where(logits == top, positions, vocab - 1), axis=-1)
    return tokens, -jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1))


def _first_above(
  weights: Float[Array, 'rows count'], threshold: Float[Array, ' rows']
) -> tuple[Int[Array, ' rows'], Float[Array, ' rows']]:
  """First positive weight whose running sum exceeds the threshold.

  Where rounding leaves none, the last positive weight. Returns its index and
  what is left of the threshold before it.
  """
  count = weights.shape[1]
  before = jnp.triu(jnp.ones((count, count), weights.dtype))
  running = jnp.matmul(weights, before, precision=jax.lax.Precision.HIGHEST)
  positions = jax.lax.broadcasted_iota(jnp.int32, weights.shape, 1)
  positive = weights > 0
  above = positive & (running > threshold[:, None])
  first = jnp.min(jnp.where(above, positions, count), axis=-1)
  last = jnp.max(jnp.where(positive, positions, 0), axis=-1)
  index = jnp.minimum(first, last)
  chosen = positions == index[:, None]
  passed = jnp.sum(jnp.where(chosen, running - weights, 0), axis=-1)
  return index, threshold - passed
