"""Layer 2. What a training needs of a model, be it a policy or a judge.

Parameters of a trained model have two parts: what others read (a policy that is
sampled from, compared with, converted), which a checkpoint has as its own, and
the rest (a critic), which only its training reads.
"""

from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import jax
from jaxtyping import Array, Float, Int, Key, PyTree

from dap.errors import InputError
from dap.models.protocols import Comparer, Parameters, Reader
from dap.records import Outputs, Prompts, Responses
from dap.sampling.decode import Choose

T = TypeVar('T')


@runtime_checkable
class Trained(Reader, Protocol):
  """A model that an update may change."""

  @property
  def gives(self) -> tuple[str, ...]:
    """The fields of `Outputs` that `outputs` fills."""
    ...

  def outputs(
    self, params: PyTree, prompts: Prompts, responses: Responses
  ) -> Outputs:
    """What the model says of responses, differentiable in `params`."""
    ...

  @property
  def shared(self) -> Parameters:
    """The model of the part that others read."""
    ...

  def with_shared(self, shared: Any) -> 'Trained':  # of the type of `shared`
    """The same with another model of that part."""
    ...

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """Parameters as (what others read, the rest)."""
    ...

  def join(self, shared: PyTree, rest: PyTree) -> PyTree:
    """The inverse of `split`."""
    ...


@runtime_checkable
class Policy(Reader, Protocol):
  """What writes and scores responses; see `dap/models/policy.py`."""

  def log_probs(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length']:
    """Nats of each token; 0 on padding."""
    ...

  def sample(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt'],
    keys: Key[Array, ' batch'],
    *,
    num_samples: int,
    length: int,
    choose: Choose,
  ) -> Responses:
    """Responses to each prompt, one key a prompt."""
    ...

  def answer_operations(
    self, prompt_length: int, response_length: int
  ) -> float:
    """Matmul operations of writing or scoring one response to a prompt."""
    ...

  def kl(
    self,
    params: PyTree,
    reference: PyTree,
    prompts: Int[Array, 'batch prompt'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n length']:
    """Nats from policy to reference at each token; 0 on padding."""
    ...


class Whole:
  """A model all of whose parameters others read."""

  @property
  def shared(self: T) -> T:
    """Itself."""
    return self

  def with_shared(self: T, shared: T) -> T:
    """The other one."""
    return shared

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """All, and nothing."""
    return params, {}

  def join(self, shared: PyTree, rest: PyTree) -> PyTree:
    """The first part."""
    del rest
    return shared


def rest_of(model: Trained, key: Key[Array, '']) -> PyTree:
  """Initial parameters of what others do not read."""
  if not jax.tree.leaves(shapes_of_rest(model)):
    return {}
  return jax.jit(lambda key: model.split(model.init(key))[1])(key)


def shapes_of_rest(model: Trained) -> PyTree:
  """Shapes and dtypes of the same."""
  return jax.eval_shape(
    lambda key: model.split(model.init(key))[1], jax.random.key(0)
  )


def policy_of(model: Trained) -> Policy:
  """The policy that others read of a trained model.

  Raises:
    InputError: it is no policy.
  """
  if 'log_probs' not in model.gives:
    raise InputError(
      f'A {type(model).__name__} writes and scores no responses: a run that'
      ' samples, or reads a reference, needs a policy. Bind MODEL.'
    )
  return cast(Policy, model.shared)


def comparer_of(model: Trained) -> Comparer:
  """The preference model that others ask of a trained model.

  Raises:
    InputError: it is no preference model.
  """
  if 'log_odds' not in model.gives:
    raise InputError(
      f'A {type(model).__name__} compares no responses: golden and proxy models'
      ' need to be preference models, such as of gin/preference_models.'
    )
  return cast(Comparer, model.shared)
