"""Layer 2. A policy with a critic that reads the policy's own states.

Its parameters are {'policy', 'value'}: the first are the policy's, which others
sample from, evaluate and convert; only this model's training reads the second.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from dap.models.around import AroundPolicy
from dap.models.policy import Policy
from dap.records import PADDING, Outputs, Prompts, Responses


@runtime_checkable
class ValueHead(Protocol):
  """Decoder states to one number each; a frozen value."""

  def init(self, key: Key[Array, ''], emb_dim: int) -> PyTree:
    """Parameters of the head."""
    ...

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    ...

  def __call__(
    self, params: PyTree, hidden: Float[Array, 'batch n length emb']
  ) -> Float[Array, 'batch n length']:
    """The value of each state."""
    ...


@dataclasses.dataclass(frozen=True)
class LinearValue:
  """A linear read-out that starts at 0 everywhere.

  Returns are then the first advantages, and the first updates of the critic do
  not move the policy's states, whose gradient passes through its kernel.
  """

  def init(self, key: Key[Array, ''], emb_dim: int) -> PyTree:
    """Zeros."""
    del key
    return {'kernel': jnp.zeros((emb_dim, 1)), 'bias': jnp.zeros(1)}

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters."""
    return {'kernel': ('embed', None), 'bias': (None,)}

  def __call__(
    self, params: PyTree, hidden: Float[Array, 'batch n length emb']
  ) -> Float[Array, 'batch n length']:
    """In float32 whatever the dtype of the states."""
    values = hidden.astype(jnp.float32) @ params['kernel']
    return values[..., 0] + params['bias'][0]


@dataclasses.dataclass(frozen=True)
class ActorCritic(AroundPolicy):
  """A policy and the expected return before each token; see `Trained`.

  Attributes:
    policy: writes responses; a checkpoint of the run is one of it.
    value_head: of the critic. It shares the policy's states, so that its loss
      trains them too.
  """

  policy: Policy
  value_head: ValueHead = LinearValue()

  @property
  def gives(self) -> tuple[str, ...]:
    """The fields of `Outputs` that it fills."""
    return ('log_probs', 'values')

  def init(self, key: Key[Array, '']) -> PyTree:
    """Initial parameters of both."""
    body, head = jax.random.split(key)
    return self.join(
      self.policy.init(body),
      self.value_head.init(head, self.language_model.emb_dim),
    )

  def logical_axes(self) -> PyTree:
    """Logical axes of the parameters of both."""
    return self.join(self.policy.logical_axes(), self.value_head.logical_axes())

  def outputs(
    self, params: PyTree, prompts: Prompts, responses: Responses
  ) -> Outputs:
    """Log-probs and values of one pass; both are 0 on padding.

    The state that predicts a token has read what is before it, so its value is
    that before the token (spec 2.16).
    """
    hidden, log_probs = self.policy.hidden_and_log_probs(
      params['policy'], prompts.tokens, responses.tokens
    )
    values = self.value_head(params['value'], hidden)
    values = jnp.where(responses.tokens > PADDING, values, 0)
    return Outputs(log_probs=log_probs, values=values)

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """The policy's, and the critic's."""
    return params['policy'], params['value']

  def join(self, shared: PyTree, rest: PyTree) -> PyTree:
    """The inverse of `split`."""
    return {'policy': shared, 'value': rest}
