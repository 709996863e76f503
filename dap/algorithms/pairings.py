"""Layer 4. From an annotator's two numbers to a label and a weight."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from dap.annotators import labels


@dataclasses.dataclass(frozen=True)
class Two:
  """Two responses a prompt; the annotator says which one is chosen.

  Attributes:
    label: (p_ab, p_ba, keys) -> whether the first response is chosen.
    weight: (p_ab, p_ba) -> weight of the pair; all pairs count by default.
  """

  label: Callable[..., Bool[Array, ' batch']] = labels.sign_label
  weight: Callable[..., Float[Array, ' batch']] | None = None

  def __call__(
    self,
    p_ab: Float[Array, ' batch'],
    p_ba: Float[Array, ' batch'],
    keys: Key[Array, ' batch'],
  ) -> tuple[Bool[Array, ' batch'], Float[Array, ' batch']]:
    """Whether the first is chosen, and the weight of each pair."""
    first = self.label(p_ab, p_ba, keys)
    if self.weight is None:
      return first, jnp.ones_like(p_ab)
    return first, self.weight(p_ab, p_ba)


def without_ties(
  p_ab: Float[Array, ' batch'], p_ba: Float[Array, ' batch']
) -> Float[Array, ' batch']:
  """Weight 0 for pairs that the annotator calls equal."""
  return (p_ab != p_ba).astype(jnp.float32)
