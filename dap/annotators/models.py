"""Layer 3. A preference model as annotator: golden and proxy are this code."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Int, PyTree

from dap import partitioning
from dap.records import Responses


@runtime_checkable
class PreferenceModel(Protocol):
  """What an annotator needs of a preference model."""

  def log_odds(
    self, params: PyTree, prompts: Array, first: Array, second: Array
  ) -> tuple[Array, Array]:
    """That what is shown first is preferred, in both orders."""
    ...

  def logical_axes(self) -> PyTree: ...


@dataclasses.dataclass(frozen=True)
class PreferenceAnnotator:
  """Asks a preference model about two responses, in both orders.

  Asking in one order alone would let a policy exploit the model's liking for
  a position (Tang et al. 2024, A.2, https://arxiv.org/abs/2405.08448).

  Attributes:
    model: a preference model of `dap/models/heads.py`.
  """

  model: PreferenceModel

  def __call__(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Responses,
  ) -> tuple[Float[Array, ' batch'], Float[Array, ' batch']]:
    """(p_ab, p_ba): that the one shown first is preferred, in both orders."""
    tokens = responses.tokens
    ab, ba = self.model.log_odds(params, prompts, tokens[:, 0], tokens[:, 1])
    return jax.nn.sigmoid(ab), jax.nn.sigmoid(ba)

  def sharding(self, mesh: partitioning.AnyMesh) -> PyTree:
    """Where the model's parameters lie."""
    return partitioning.param_sharding(self.model.logical_axes(), mesh)
