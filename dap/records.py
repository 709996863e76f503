"""Layer 0. The records that flow from prompts to points of the study.

Responses stand in groups: `[batch, n, length]`, n to each prompt; a pair is a
group of two, its chosen response first. Token ids are int32 and right-padded
with `PADDING`; a mask is 1 on the tokens of a response, its `END` included, and
0 on padding. A response that is not there has an empty mask.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

PADDING = 0
END = 1

T = TypeVar('T')

# A record holds arrays of jax or of numpy; shapes, shardings and axes to map
# over are records of the same structure.
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

    chosen: Any  # the type checker sees T
    rejected: Any

    @classmethod
    def __class_getitem__(cls, item):
      """`Pair[Array]` is `Pair` at run time."""
      return cls


class Prompts(NamedTuple):
  """A batch of prompts; `ids` are row numbers of the data set they are from.

  `answers` are the data's own responses, chosen first, where a sampler reads
  them; no `Batch` has them.
  """

  ids: Int[Array, ' batch']
  tokens: Int[Array, 'batch prompt_length']
  answers: 'Responses | None' = None


class Responses(NamedTuple):
  """`n` responses to each prompt.

  `log_probs` are nats per token under the distribution that was sampled from
  (after temperature and truncation), 0 on padding and where data wrote them.
  """

  tokens: Int[Array, 'batch n length']
  mask: Float[Array, 'batch n length']
  log_probs: Float[Array, 'batch n length']


class Batch(NamedTuple):
  """Examples of an update: all that a loss may read beside the model.

  Attributes:
    prompts: one to each example.
    responses: the group of an example.
    scores: what an annotator said of each response, 0 where none was asked.
    weight: 0 for examples that must not count (ties that are dropped) and 1
      otherwise; an update divides by its sum.
    columns: what signals computed, by the names by which losses ask for them.
  """

  prompts: Prompts
  responses: Responses
  scores: Float[Array, 'batch n']
  weight: Float[Array, ' batch']
  columns: dict[str, Float[Array, 'batch n ...']]


class Outputs(NamedTuple):
  """What a model says of the responses, once for all losses.

  None is what this kind of model does not say.

  Attributes:
    log_probs: of each token under a policy, nats.
    values: expected return before each token, of a policy with a critic.
    log_odds: that each of two responses is preferred when it is shown first,
      of a preference model.
    rivals: log-probs of the likeliest other tokens in each token's place, the
      likeliest first, of a policy with rivals, nats.
  """

  log_probs: Float[Array, 'batch n length'] | None = None
  values: Float[Array, 'batch n length'] | None = None
  log_odds: Float[Array, 'batch n'] | None = None
  rivals: Float[Array, 'batch n length k'] | None = None


class Losses(NamedTuple):
  """Losses of examples; a step reduces them: sum(weight * each) / sum(weight).

  `metrics` are per example and are reduced with the same weight.
  """

  each: Float[Array, ' examples']
  weight: Float[Array, ' examples']
  metrics: dict[str, Float[Array, ' examples']]


class Learner(NamedTuple):
  """All that an update changes. `updates` counts finished ones."""

  updates: Int[Array, '']
  params: PyTree
  optimizer: PyTree


class Role(NamedTuple):
  """A policy or an annotator that collecting reads and no update changes.

  Attributes:
    params: None is the policy itself, whatever it is by now (or nobody, where
      the algorithm has no such role).
    taken_at: the step whose policy these parameters are.
    later: parameters that will be it, the next one first, each with its step.
  """

  params: PyTree
  taken_at: int
  later: tuple['Role', ...] = ()


class Roles(NamedTuple):
  """Who writes responses, who anchors the loss, who is asked about them.

  `control` is nobody: numbers by name that follow what was sampled.
  """

  behaviour: Role
  reference: Role
  annotator: Role
  control: Role = Role(None, 0)


class Drawn(NamedTuple):
  """What sampling did for each example, beyond the responses it kept.

  Attributes:
    candidates: which of the responses that were drawn each one is.
    num_tokens: of all responses that were drawn for the example.
  """

  candidates: Int[Array, 'batch n']
  num_tokens: Int[Array, ' batch']


class Collected(NamedTuple):
  """The examples of a step, and how they came about.

  Attributes:
    step: that they are for.
    policy_step: whose policy wrote the responses.
    batch: on the devices.
    drawn: None where responses are data.
  """

  step: int
  policy_step: int
  batch: Batch
  drawn: Drawn | None = None


class State(NamedTuple):
  """Where a training stands between two steps.

  Attributes:
    step: finished steps.
    learner: what updates change.
    roles: what a refresh changes.
    pending: examples of steps to come that are drawn already.
  """

  step: int
  learner: Learner
  roles: Roles
  pending: Collected | None = None


class RoleParams(NamedTuple):
  """Parameters that a compiled program may read, by whose they are.

  `policy` are those of the trained model; the others are None where the
  algorithm has no such role. `control` has numbers by name.
  """

  policy: PyTree
  behaviour: PyTree = None
  reference: PyTree = None
  annotator: PyTree = None
  control: PyTree = None


# Traced numbers of an update: `learning_rate` and what the loss takes.
Scalars = Mapping[str, jax.Array | np.ndarray | np.number | float]


def ended(tokens: Int[Array, '*batch length']) -> Bool[Array, '*batch']:
  """Whether a response ended by itself: one that was cut has no END."""
  return (tokens == END).any(-1)
