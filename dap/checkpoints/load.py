"""Layer 3. Parameters from a checkpoint of any layout that dap reads."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from dap import errors, files, partitioning
from dap.checkpoints import state, t5x


def load_params(
  model: Any, path: str | Path, mesh: jax.sharding.Mesh
) -> PyTree:
  """The parameters of `model` from `path`, placed on the mesh.

  Args:
    model: a value with `init` and `logical_axes`.
    path: a dap checkpoint, the folder of a run (its newest checkpoint is
      taken), or a native T5X checkpoint.
    mesh: of devices.

  Raises:
    errors.InputError: nothing is there, or it does not fit the model.
  """
  folder = Path(path)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  if t5x.is_native(folder):
    params = t5x.read_native(folder)
    t5x.check_params(params, shapes)
    return jax.device_put(params, placed)
  template = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
    placed,
  )
  return state.restore_params(state.find(folder), template)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A checkpoint to start from, told apart by its content, not its path."""

  path: str

  def load(self, model: Any, mesh: jax.sharding.Mesh) -> PyTree:
    """The parameters of `model`, see `load_params`."""
    return load_params(model, self.path, mesh)

  def fingerprint(self) -> str:
    """Of the content, see `fingerprint`."""
    return fingerprint(self.path)


def fingerprint(path: str) -> str:
  """Names the content of the checkpoint at `path`; '' where there is none."""
  if not path:
    return ''
  if t5x.is_native(path):
    return t5x.fingerprint(path)
  return files.fingerprint(state.find(path) / 'metadata.json')


def require(path: str, what: str, macro: str) -> str:
  """`path`, or an error that says how to give the checkpoint that is needed.

  Raises:
    errors.InputError: the path is empty.
  """
  if not path:
    raise errors.InputError(
      f'This run needs {what}. Give its checkpoint: --gin.{macro}=\'"path"\'.'
    )
  return path
