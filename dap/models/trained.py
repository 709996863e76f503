"""Layer 2. What a training needs of a model, be it a policy or a judge.

Parameters of a trained model have two parts: what others read (a policy that is
sampled from, compared with, converted), which a checkpoint has as its own, and
the rest (a critic), which only its training reads.
"""

from typing import Protocol, TypeVar, cast, runtime_checkable

import jax
from jaxtyping import Array, Float, Int, Key, PyTree

from dap.errors import InputError
from dap.records import Outputs, Prompts, Responses
from dap.sampling.decode import Choose

T = TypeVar('T')


@runtime_checkable
class Parameters(Protocol):
  """Whatever has parameters; a frozen value, the parameters an argument."""

  def init(self, key: Key[Array, '']) -> PyTree:
    """Initial parameters."""
    ...

  def logical_axes(self) -> PyTree:
    """Their tree with names of axes for leaves."""
    ...


@runtime_checkable
class Trained(Parameters, Protocol):
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

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """Parameters as (what others read, the rest)."""
    ...

  def join(self, shared: PyTree, rest: PyTree) -> PyTree:
    """The inverse of `split`."""
    ...


@runtime_checkable
class Comparer(Parameters, Protocol):
  """A preference model, see `dap/models/heads.py`."""

  def log_odds(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    first: Int[Array, 'batch length'],
    second: Int[Array, 'batch length'],
  ) -> tuple[Float[Array, ' batch'], Float[Array, ' batch']]:
    """Logits that the one shown first is preferred, in both orders."""
    ...


@runtime_checkable
class Scorer(Parameters, Protocol):
  """A reward model, see `dap/models/heads.py`."""

  def scores(
    self,
    params: PyTree,
    prompts: Int[Array, 'batch prompt_length'],
    responses: Int[Array, 'batch n length'],
  ) -> Float[Array, 'batch n']:
    """The reward of each response."""
    ...


@runtime_checkable
class Policy(Parameters, Protocol):
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
