"""Layer 4. What an update minimises: a loss by what it reads, and its numbers.

A loss is a pure function. Its positional arguments name columns, `policy`,
`mask` or what a signal computes; its keyword-only arguments are numbers, traced
by the step, whose range stands in their annotation (`dap/losses/ranges.py`).
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import (
  Annotated,
  NamedTuple,
  Protocol,
  cast,
  get_origin,
  runtime_checkable,
)

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dap import errors
from dap.algorithms import signals, views
from dap.losses.ranges import Range
from dap.models import dropping
from dap.models.trained import Trained
from dap.records import Batch, Losses, Pair, Scalars

LossFunction = Callable[..., Float[Array, ' examples']]

# What a batch and a model give without a signal.
OF_BATCH = signals.OF_BATCH
# Among the scalars of an update that drops values: a seed, of each part a key.
DROPOUT = 'dropout'
OF_MODEL = {
  'policy': 'log_probs',
  'values': 'values',
  'log_odds': 'log_odds',
  'rivals': 'rivals',
}


class Number(NamedTuple):
  """A keyword-only argument of a loss."""

  range: Range | None
  required: bool


def numbers_of(scalars: Scalars) -> Scalars:
  """Those that are numbers: metrics have no seed among them."""
  return {name: x for name, x in scalars.items() if name != DROPOUT}


@functools.cache
def reads(function: LossFunction) -> tuple[str, ...]:
  """The columns that a loss asks for: its positional arguments, in order."""
  kinds = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
  )
  found = inspect.signature(function).parameters.values()
  return tuple(each.name for each in found if each.kind in kinds)


@functools.cache
def numbers(function: LossFunction) -> dict[str, Number]:
  """The numbers that a loss takes: its keyword-only arguments."""
  return {
    each.name: Number(_range(each.annotation), each.default is each.empty)
    for each in inspect.signature(function).parameters.values()
    if each.kind is inspect.Parameter.KEYWORD_ONLY
  }


def _range(annotation: object) -> Range | None:
  if get_origin(annotation) is not Annotated:
    return None
  told = getattr(annotation, '__metadata__', ())
  return next((each for each in told if isinstance(each, Range)), None)


def name_of(function: LossFunction) -> str:
  """What errors call a loss."""
  inner = getattr(function, 'func', getattr(function, 'function', function))
  return getattr(inner, '__name__', type(function).__name__)


@dataclasses.dataclass(frozen=True)
class Loss:
  """A pure loss function, its numbers, and how it sees a batch.

  A new loss needs no more than this: `Loss(my_loss, {'beta': 0.1})`.

  Attributes:
    function: positional arguments name what it reads, keyword-only ones are
      numbers; gives a number for each example, or that and metrics by name.
    scalars: the numbers; traced, stored as sorted pairs.
    view: in which form it reads a batch.
  """

  function: LossFunction
  scalars: Mapping[str, object] | tuple[tuple[str, object], ...] = ()
  view: views.View = views.pairs

  def __post_init__(self):
    given = dict(self.scalars)
    object.__setattr__(self, 'scalars', tuple(sorted(given.items())))
    known, name = numbers(self.function), name_of(self.function)
    lacking = [
      n for n, each in known.items() if each.required and n not in given
    ]
    unknown = [n for n in given if n not in known]
    if positional := [n for n in unknown if n in reads(self.function)]:
      raise errors.InputError(
        f'{positional[0]} of {name} is a positional argument, so a column that'
        ' it reads. A number is keyword-only: write * before it, def'
        f' {name}(policy, reference, mask, *, {positional[0]}).'
      )
    if lacking or unknown:
      raise errors.InputError(
        f'{name} takes the numbers {", ".join(known) or "none"}, got'
        f' {", ".join(given) or "none"}. Give'
        f" Loss(..., {{'{(lacking or list(known) or ['beta'])[0]}': 0.1}})"
        ' and no others; in gin, bind objectives.Loss.scalars.'
      )
    for each, value in given.items():
      if isinstance(value, bool) or not isinstance(value, int | float):
        raise errors.InputError(
          f'{each} of {name} must be a number, got {value!r}.'
        )
      allowed = known[each].range
      if allowed is not None and value not in allowed:
        why = f' {allowed.why}' if allowed.why else ''
        raise errors.InputError(
          f'{each} of {name} must be {allowed}, got {value}.{why}'
        )

  @property
  def numbers(self) -> dict[str, float]:
    """The numbers by name."""
    return {
      name: cast(float, value) for name, value in dict(self.scalars).items()
    }

  def with_numbers(self, changes: Mapping[str, float]) -> 'Loss':
    """The same loss with some other numbers.

    Raises:
      errors.InputError: it takes no number of that name, or none in that range.
    """
    return dataclasses.replace(self, scalars={**self.numbers, **changes})

  def with_any_numbers(self) -> 'Loss':
    """The same for all losses that differ in numbers alone."""
    known = numbers(self.function)
    ranges = {name: known[name].range or Range() for name in self.numbers}
    return self.with_numbers({n: each.example for n, each in ranges.items()})


@runtime_checkable
class Objective(Protocol):
  """What an update minimises; a hashable value with no number in it."""

  @property
  def model(self) -> Trained:
    """The trained model."""
    ...

  def __call__(self, params: PyTree, batch: Batch, scalars: Scalars) -> Losses:
    """Losses per example, differentiable in `params`."""
    ...


@dataclasses.dataclass(frozen=True)
class LossObjective:
  """A loss of what a model says of the responses of a batch."""

  model: Trained
  function: LossFunction
  view: views.View

  def __call__(self, params: PyTree, batch: Batch, scalars: Scalars) -> Losses:
    """See `Objective`."""
    model = self.model
    if DROPOUT in scalars:
      model = dropping.dropping(model, jnp.asarray(scalars[DROPOUT]))
    said = model.outputs(params, batch.prompts, batch.responses)
    seen = {
      'mask': batch.responses.mask,
      'scores': batch.scores,
      **batch.columns,
      **{name: getattr(said, field) for name, field in OF_MODEL.items()},
    }
    seen = {name: column for name, column in seen.items() if column is not None}
    taken = numbers(self.function)
    given = {name: x for name, x in scalars.items() if name in taken}

    def loss(arguments: Mapping[str, Array | Pair[Array]]):
      named = (arguments[name] for name in reads(self.function))
      each = self.function(*named, **given)
      each, metrics = each if isinstance(each, tuple) else (each, {})
      if each.ndim != 1:
        raise errors.InputError(
          f'{name_of(self.function)} must give one number for each example,'
          f' [examples], got the shape {each.shape}. A mean over examples is'
          " the step's, which knows their weights."
        )
      return each, dict(metrics)

    return self.view(loss, seen, batch)
