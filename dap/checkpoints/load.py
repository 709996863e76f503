"""Layer 3. Parameters from a checkpoint of any layout that dap reads."""

import dataclasses
from pathlib import Path

import jax
from etils import epath
from jaxtyping import PyTree

from dap import partitioning
from dap.checkpoints import layouts, state, stored
from dap.errors import InputError
from dap.models.protocols import Headed, Parameters
from dap.models.t5_stacks import T5Config

_BODY = 'transformer/'  # where models with a head keep the encoder-decoder


def load_params(
  model: Parameters,
  path: str | Path | epath.Path,
  mesh: jax.sharding.Mesh,
  *,
  seed: int = 0,
) -> PyTree:
  """The parameters of `model` from `path`, placed on the mesh.

  A model with a head takes the encoder-decoder from a bare T5 as well, and an
  initial head drawn with `seed`.

  Args:
    model: whose parameters are needed.
    path: see `layouts.open_checkpoint`.
    mesh: of devices.
    seed: of parameters that the checkpoint has not.

  Raises:
    InputError: nothing is there, or it does not fit the model.
  """
  contents = layouts.open_checkpoint(path)
  key = jax.random.key(seed)
  shapes = state.names(jax.eval_shape(model.init, key))
  shardings = state.names(
    partitioning.param_sharding(model.logical_axes(), mesh)
  )
  parts, fresh = contents.parts, {}
  if isinstance(model, Headed) and _lacks_head(set(parts), set(shapes)):
    parts = {f'{_BODY}{name}': part for name, part in parts.items()}
    drawn = state.names(jax.jit(model.init_head)(key))
    fresh = {n: jax.device_put(x, shardings[n]) for n, x in drawn.items()}
  stored.check_shapes(
    {name: part.shape for name, part in parts.items()},
    {n: x.shape for n, x in shapes.items() if n not in fresh},
    path,
  )
  partitioning.check_divisible(shapes, shardings)
  placed = stored.place(parts, shardings) | fresh
  return stored.nested({name: placed[name] for name in shapes})


def _lacks_head(found: set[str], wanted: set[str]) -> bool:
  """Whether a model with a head is asked of a checkpoint without any."""
  return any(name.startswith(_BODY) for name in wanted) and not any(
    name.startswith(_BODY) for name in found
  )


def t5_config(
  path: str, *, dtype: str = 'bfloat16', dropout_rate: float = 0.0
) -> T5Config:
  """The configuration of the T5 at `path`, read without its parameters.

  Args:
    path: see `layouts.open_checkpoint`.
    dtype: to compute in.
    dropout_rate: of training without a reference.

  Raises:
    InputError: nothing is there, or it is no T5.
  """
  require(path, 'a checkpoint that tells its sizes', 'INITIAL_CHECKPOINT_PATH')
  found = layouts.open_checkpoint(path).t5_config()
  return dataclasses.replace(found, dtype=dtype, dropout_rate=dropout_rate)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A checkpoint to start from, told apart by its content, not its path."""

  path: str

  def load(
    self, model: Parameters, mesh: jax.sharding.Mesh, *, seed: int = 0
  ) -> PyTree:
    """The parameters of `model`, see `load_params`."""
    return load_params(model, self.path, mesh, seed=seed)

  def fingerprint(self) -> str:
    """Of the content, see `fingerprint`."""
    return fingerprint(self.path)


def fingerprint(path: str) -> str:
  """Names the content of the checkpoint at `path`; '' where there is none."""
  return layouts.fingerprint(path) if path else ''


def require(path: str, what: str, macro: str) -> str:
  """`path`, or an error that says how to give the checkpoint that is needed.

  Raises:
    InputError: the path is empty.
  """
  if not path:
    raise InputError(
      f'This run needs {what}. Give its checkpoint: --gin.{macro}=\'"path"\'.'
    )
  return path
