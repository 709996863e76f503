"""Layer 0. The records that flow from prompts to points of the study.

Token ids are int32 and right-padded with `PADDING`; a mask is 1 on the tokens
of a response, its `END` included, and 0 on padding.
"""

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from jaxtyping import Bool, Float, Int, PyTree

PADDING = 0
END = 1

T = TypeVar('T')

# A record holds arrays of jax or of numpy; its shapes and shardings are trees
# of the same structure.
Array = Any


if TYPE_CHECKING:

  class Pair(NamedTuple, Generic[T]):
    """One thing for the chosen response and the same for the rejected one."""

    chosen: T
    rejected: T

else:
  # beartype, which checks annotations in tests, takes no generic NamedTuple.
  class Pair(NamedTuple):
    """One thing for the chosen response and the same for the rejected one."""

    chosen: Any
    rejected: Any

    @classmethod
    def __class_getitem__(cls, item):
      """`Pair[Array]` is `Pair` at run time."""
      return cls


class Prompts(NamedTuple):
  """A batch of prompts; `ids` are row numbers of the data set they are from."""

  ids: Int[Array, ' batch']
  tokens: Int[Array, 'batch prompt_length']


class Responses(NamedTuple):
  """`n` responses to each prompt.

  `log_probs` are nats per token under the distribution that was sampled from
  (after temperature and truncation), 0 on padding.
  """

  tokens: Int[Array, 'batch n length']
  mask: Float[Array, 'batch n length']
  log_probs: Float[Array, 'batch n length']


class PreferenceBatch(NamedTuple):
  """Pairs ready for a preference loss.

  `weight` is 0 for rows that must not count (padding of a last batch, dropped
  ties) and 1 otherwise; the step divides by its sum.
  """

  prompts: Prompts
  responses: Pair[Int[Array, 'batch length']]
  mask: Pair[Float[Array, 'batch length']]
  reference_log_probs: Pair[Float[Array, 'batch length']]
  weight: Float[Array, ' batch']


class TrainState(NamedTuple):
  """All that an update changes. `step` counts finished updates."""

  step: Int[Array, '']
  params: PyTree[Any]
  optimizer: PyTree[Any]


def ended(tokens: Int[Array, '*batch length']) -> Bool[Array, '*batch']:
  """Whether a response ended by itself: one that was cut has no END."""
  return (tokens == END).any(-1)
