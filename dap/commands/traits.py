"""Layer 8. What an algorithm is and needs, derived from its slots."""

import dataclasses
import inspect
from typing import NamedTuple

from dap import costs
from dap.algorithms import objectives, refresh
from dap.algorithms.algorithm import Algorithm
from dap.algorithms.objectives import Loss
from dap.algorithms.run import Run
from dap.annotators import models
from dap.annotators.host import Rule
from dap.commands.resolve import Bound

NONE = '-'


class Traits(NamedTuple):
  """What follows from the slots.

  Attributes:
    data: what a step takes of the data set.
    responses: what it trains on.
    annotator: who is asked; '-' where nobody is.
    asked: responses that the annotator scores, to a prompt.
    behaviour: when the policy that samples follows; '-' without samples.
    reference: when the reference follows; '-' where none is read.
    models: the distinct sets of parameters that are resident.
    human_labels: whether labels of people decide, in pairs or through a model
      that was fitted to them.
    own: how many responses are the policy's own: 'O' all, 'X' none, '△' some.
    online: whether what it trains on follows the policy.
    external: whether somebody outside is asked: a judge on the host that is no
      rule.
  """

  data: str
  responses: str
  annotator: str
  asked: int
  behaviour: str
  reference: str
  models: tuple[str, ...]
  human_labels: bool
  own: str
  online: bool
  external: bool


def of(run: Run) -> Traits:
  """The traits of a run of a policy."""
  algorithm, sampler = run.algorithm, run.algorithm.sampler
  anchored = algorithm.needs_reference
  reference = when(algorithm.reference) if anchored else NONE
  sets = resident(run)
  if sampler is None:
    return Traits(
      'pairs', 'pairs', NONE, 0, NONE, reference, sets, True, 'X', False, False
    )
  given, drawn = sampler.num_data, sampler.num_samples - sampler.num_data
  beside = f'{given} given, ' if given else ''
  annotator = _annotator(algorithm)
  behind = algorithm.behaviour == refresh.Never()
  return Traits(
    data=f'prompts{("", ", responses", ", pairs")[given]}',
    responses=f'{beside}{drawn} drawn',
    annotator=annotator,
    asked=0 if annotator == NONE else sampler.num_samples,
    behaviour=when(algorithm.behaviour),
    reference=reference,
    models=sets,
    human_labels=algorithm.annotator is not None,
    own='△' if given or behind else 'O',
    online=not behind,
    external=not isinstance(algorithm.host_annotator, Rule | None),
  )


def _annotator(algorithm: Algorithm) -> str:
  """Who is asked about samples, in words."""
  match algorithm.annotator or algorithm.host_annotator:
    case None:
      return NONE
    case models.PreferenceAnnotator():
      return 'preference model'
    case models.RewardAnnotator():
      return 'reward model'
    case other:
      return type(other).__name__


def when(schedule: refresh.Schedule) -> str:
  """A schedule in a word or two."""
  match schedule:
    case refresh.Current():
      return 'now'
    case refresh.Never():
      return 'start'
    case refresh.Every(steps):
      return f'every {steps}'
    case refresh.Lagged(steps):
      return f'{steps} behind'
    case refresh.Ema(rate):
      return f'ema {rate:g}'
    case _:
      return spelled(schedule)


def resident(run: Run) -> tuple[str, ...]:
  """Distinct sets of parameters, see `costs.parameter_sets`, in words."""
  found = []
  for each in costs.parameter_sets(run):
    name = ' and '.join(each.roles)
    if each.schedule is not None:
      name += f' ({when(each.schedule)})'
    found.append(_annotator(run.algorithm) if name == 'annotator' else name)
  return tuple(found)


def slots(algorithm: Algorithm) -> dict[str, str]:
  """Every slot of an algorithm as text."""
  return {
    field.name: spelled(getattr(algorithm, field.name))
    for field in dataclasses.fields(algorithm)
  }


def spelled(value: object) -> str:
  """A value as Python would build it, without defaults or sizes of models."""
  match value:
    case Loss():
      numbers = ', '.join(f'{k}={v:g}' for k, v in value.numbers.items())
      name = objectives.name_of(value.function)
      return f'{name}({numbers}) of {spelled(value.view)}'
    case Bound(function, arguments):
      return f'{_name(function)}({_given(dict(arguments))})'
    case tuple():
      return ', '.join(map(spelled, value)) or NONE
    case None:
      return NONE
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    if type(value).__module__.startswith('dap.models'):
      return type(value).__name__
    changed = {
      field.name: getattr(value, field.name)
      for field in dataclasses.fields(value)
      if getattr(value, field.name) != field.default
    }
    return f'{type(value).__name__}({_given(changed)})'
  return _name(value) if callable(value) else repr(value)


def _given(arguments: dict[str, object]) -> str:
  return ', '.join(f'{k}={spelled(v)}' for k, v in arguments.items())


def _name(value: object) -> str:
  named = inspect.unwrap(value) if callable(value) else value
  return getattr(named, '__name__', type(value).__name__)
