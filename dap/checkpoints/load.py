"""Layer 3. Parameters from a checkpoint of any layout that dap reads."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import jax
from etils import epath
from jaxtyping import PyTree

from dap import partitioning
from dap.checkpoints import layouts, state, stored
from dap.errors import InputError
from dap.models import dtypes
from dap.models.protocols import Headed, Parameters
from dap.models.t5_stacks import T5Config

_BODY = 'transformer/'  # where models with a head keep the encoder-decoder


def load_params(
  model: Parameters,
  path: str | Path | epath.Path,
  mesh: jax.sharding.Mesh,
) -> PyTree:
  """All parameters of `model` from `path`, placed on the mesh.

  What is frozen (a reference, an annotator, a golden model) needs all of its
  own: nothing is drawn here. For a start see `start_params`.

  Args:
    model: whose parameters are needed.
    path: see `layouts.open_checkpoint`.
    mesh: of devices.

  Raises:
    InputError: nothing is there, it does not fit the model, or says of itself
      that it is of another kind (a policy in place of a judge).
  """
  contents = layouts.open_checkpoint(path)
  _check_kind(model, contents)
  if isinstance(model, Headed) and _lacks_head(contents.parts, _shapes(model)):
    raise _no_judge(model, contents.path)
  return _placed(model, contents, contents.parts, {}, mesh)


def member_params(
  model: Parameters, paths: str | tuple[str, ...], mesh: jax.sharding.Mesh
) -> PyTree:
  """`load_params`, of a model with members from one path for each.

  Raises:
    InputError: as `load_params`; or fewer or more paths than members.
  """
  given = (paths,) if isinstance(paths, str) else tuple(paths)
  members = getattr(model, 'members', None)
  count = 1 if members is None else len(members)
  if len(given) != count:
    raise InputError(
      f'A {type(model).__name__} needs paths of {count} checkpoints, one for'
      f' each member, got {len(given)}: {", ".join(given)}.'
    )
  if members is None:
    return load_params(model, given[0], mesh)
  return tuple(
    load_params(each, path, mesh) for each, path in zip(members, given)
  )


def start_params(
  model: Parameters,
  path: str | Path | epath.Path,
  mesh: jax.sharding.Mesh,
  *,
  seed: int = 0,
) -> PyTree:
  """Parameters that a training of `model` starts from.

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
  parts, fresh = contents.parts, {}
  if isinstance(model, Headed) and _lacks_head(parts, _shapes(model)):
    parts = {f'{_BODY}{name}': part for name, part in parts.items()}
    fresh = state.names(jax.jit(model.init_head)(jax.random.key(seed)))
  return _placed(model, contents, parts, fresh, mesh)


def _shapes(model: Parameters) -> dict[str, jax.ShapeDtypeStruct]:
  return state.names(jax.eval_shape(model.init, jax.random.key(0)))


def _placed(
  model: Parameters,
  contents: layouts.Contents,
  parts: stored.Parts,
  fresh: dict[str, jax.Array],
  mesh: jax.sharding.Mesh,
) -> PyTree:
  """The tree of the parts and of what was drawn beside them."""
  shapes = _shapes(model)
  shardings = state.names(
    partitioning.param_sharding(model.logical_axes(), mesh)
  )
  stored.check_shapes(
    {name: part.shape for name, part in parts.items()},
    {n: x.shape for n, x in shapes.items() if n not in fresh},
    contents.path,
  )
  partitioning.check_divisible(shapes, shardings)
  drawn = {n: jax.device_put(x, shardings[n]) for n, x in fresh.items()}
  placed = stored.place(parts, shardings) | drawn
  return stored.nested({name: placed[name] for name in shapes})


def _lacks_head(found: Iterable[str], wanted: Iterable[str]) -> bool:
  """Whether a model with a head is asked of a checkpoint without any."""
  return any(name.startswith(_BODY) for name in wanted) and not any(
    name.startswith(_BODY) for name in found
  )


_WORDS = {
  'log_probs': 'a policy, which writes responses',
  'log_odds': 'a preference model, which compares responses',
}
_JUDGE = (
  'Give the checkpoint of a finished training of a preference model, such as of'
  ' configs/embedded/preference_model.gin.'
)


def _check_kind(model: Parameters, contents: layouts.Contents) -> None:
  """Refuses what says of itself that it was trained to give something else.

  Of text-to-text judges and policies the arrays are the same. Checkpoints of
  others, and of older versions, say nothing.
  """
  given = contents.facts.get('gives')
  needed = getattr(model, 'gives', ())
  if not given or not needed or set(needed) <= set(given):
    return
  is_judge = 'log_odds' in needed
  cure = _JUDGE if is_judge else 'Give the checkpoint of a policy.'
  raise InputError(
    f'{str(_WORDS.get(needed[0], needed[0])).capitalize()}, is needed here;'
    f' {contents.path} is {_WORDS.get(given[0], given[0])}. {cure}'
  )


def _no_judge(model: Parameters, path: object) -> InputError:
  return InputError(
    f'A preference model that judges needs its trained head; {path} has none:'
    ' it is a policy or a bare T5, from which the training of a'
    f' {type(model).__name__} may start, and which says nothing of which'
    f' response is better. {_JUDGE}'
  )


def t5_config(
  path: str,
  *,
  dtype: dtypes.Spelling = 'bfloat16',
  dropout_rate: float = 0.0,
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


def prompts_end(path: str | Path | epath.Path) -> bool | None:
  """What a run that starts from `path` does with the ends of prompts.

  None where nothing says so: there is no path, or an older version wrote it.
  """
  return layouts.prompts_end(path) if str(path) else None


def check_prompts(ends: bool, paths: Iterable[str | Path]) -> None:
  """Refuses a checkpoint that has read prompts of another form.

  Where no training of dap says so, the form is the data's choice.

  Args:
    ends: whether the data's prompts end with the end id.
    paths: of checkpoints; empty ones are passed over.

  Raises:
    InputError: a training of dap had it otherwise.
  """
  for path in filter(str, paths):
    recorded = layouts.facts(path).get('prompts_end', ends)
    if recorded != ends:
      words = {True: 'end with the end id', False: 'have no end id'}
      raise InputError(
        f'All models of a run read prompts of one form; here they {words[ends]}'
        f', and {path} was trained on such that {words[recorded]}. Leave'
        ' datasets.PairData.prompt_form unbound, to do as the checkpoint does'
        ' that the run starts from, or give checkpoints of one form.'
      )


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A checkpoint to start from, told apart by its content, not its path."""

  path: str

  def load(
    self, model: Parameters, mesh: jax.sharding.Mesh, *, seed: int = 0
  ) -> PyTree:
    """The parameters of `model`, see `start_params`."""
    return start_params(model, self.path, mesh, seed=seed)

  def fingerprint(self) -> str:
    """Of the content, see `fingerprint`."""
    return fingerprint(self.path)


def fingerprint(path: str | tuple[str, ...]) -> str:
  """Names the content of the checkpoint at `path`; '' where there is none.

  Of several paths it names them all, in their order.
  """
  if isinstance(path, tuple):
    return ' '.join(map(fingerprint, path))
  return layouts.fingerprint(path) if path else ''


def require(
  path: str | tuple[str, ...], what: str, macro: str
) -> str | tuple[str, ...]:
  """`path`, or an error that says how to give the checkpoint that is needed.

  Raises:
    InputError: the path is empty.
  """
  if not path:
    raise InputError(
      f'This run needs {what}. Give its checkpoint: --gin.{macro}=\'"path"\'.'
    )
  return path
