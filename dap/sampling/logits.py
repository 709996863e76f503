"""Layer 1. Transforms of logits before a token is chosen.

Each is a hashable value, so that compiled programs are cached by it. `-inf` is
a token that cannot be chosen, and stays so through every transform.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dap import errors
from dap.records import PADDING


@dataclasses.dataclass(frozen=True)
class Temperature:
  """Divides the logits: below 1 sharper, above 1 flatter, > 0.

  Attributes:
    temperature: 1 leaves the policy as it is trained. For a temperature of 0
      use `Greedy`.
  """

  temperature: float

  def __post_init__(self):
    if not self.temperature > 0:
      raise errors.InputError(
        f'A temperature must be > 0, got {self.temperature}.'
        ' To take the likeliest token, sample with Greedy.'
      )

  def __call__(
    self, logits: Float[Array, 'rows vocab']
  ) -> Float[Array, 'rows vocab']:
    """The logits over the temperature."""
    return logits / self.temperature


@dataclasses.dataclass(frozen=True)
class TopK:
  """Keeps the `k` likeliest tokens, and any that ties with the last of them.

  Attributes:
    k: >= 1; all tokens are kept if there are fewer.
  """

  k: int

  def __post_init__(self):
    if self.k < 1:
      raise errors.InputError(
        f'Top-k needs k >= 1, got {self.k}. To keep all, leave out TopK.'
      )

  def __call__(
    self, logits: Float[Array, 'rows vocab']
  ) -> Float[Array, 'rows vocab']:
    """Logits with all but the likeliest at -inf."""
    largest, _ = jax.lax.top_k(logits, min(self.k, logits.shape[1]))
    return jnp.where(logits >= largest[:, -1:], logits, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class TopP:
  """Keeps the fewest likeliest tokens whose probabilities sum to `p`.

  Tokens that tie with the last of them are kept too. It sorts the vocabulary:
  put a `TopK` before it where that is slow.

  Source: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751.

  Attributes:
    p: in (0, 1).
  """

  p: float

  def __post_init__(self):
    if not 0 < self.p < 1:
      raise errors.InputError(
        f'Top-p needs 0 < p < 1, got {self.p}. To keep all, leave out TopP.'
      )

  def __call__(
    self, logits: Float[Array, 'rows vocab']
  ) -> Float[Array, 'rows vocab']:
    """Logits with all but the nucleus at -inf."""
    vocab = logits.shape[1]
    probabilities = jax.nn.softmax(logits)
    largest, _ = jax.lax.top_k(probabilities, vocab)
    short = jnp.sum(jnp.cumsum(largest, axis=-1) < self.p, axis=-1)
    last = jnp.minimum(short, vocab - 1)[:, None]
    threshold = jnp.take_along_axis(largest, last, axis=-1)
    return jnp.where(probabilities >= threshold, logits, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class AllowedTokens:
  """Forbids padding and ids that the vocabulary does not have.

  Attributes:
    vocabulary_size: the model's table may be larger than this.
  """

  vocabulary_size: int

  def __post_init__(self):
    if self.vocabulary_size < 2:
      raise errors.InputError(
        'A vocabulary needs a token beside padding: vocabulary_size >= 2,'
        f' got {self.vocabulary_size}.'
      )

  def __call__(
    self, logits: Float[Array, 'rows vocab']
  ) -> Float[Array, 'rows vocab']:
    """Logits with what is not allowed at -inf."""
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    allowed = (ids > PADDING) & (ids < self.vocabulary_size)
    return jnp.where(allowed, logits, -jnp.inf)
