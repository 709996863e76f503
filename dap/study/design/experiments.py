"""Layer 7. An experiment: what is run and measured, and how it is read."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, runtime_checkable

from dap import errors
from dap.stages.artefacts import Stage
from dap.study.design.grid import Arm
from dap.study.reading.evidence import Analysis


@runtime_checkable
class _Named(Protocol):
  @property
  def name(self) -> str: ...


N = TypeVar('N', bound=_Named)


@runtime_checkable
class Measure(Protocol):
  """A measure beside the checkpoints, see `dap/study/making/measures.py`."""

  @property
  def name(self) -> str:
    """Of its arrays."""
    ...

  @property
  def stage(self) -> Callable[..., Stage]:
    """Gives the stage that leaves its arrays, of a `build.Tree`."""
    ...


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A question to a study.

  Experiments share arms by name: an arm that two of them need is run once.

  Attributes:
    analysis: reads the results; names the arms and measures that it needs.
    arms: that must be run for it, those they take their data from included.
    measures: beside the checkpoints' evaluations.
  """

  analysis: Analysis
  arms: tuple[Arm, ...]
  measures: tuple[Measure, ...] = ()

  def __post_init__(self):
    lacking = sorted(set(self.analysis.arms) - {arm.name for arm in self.arms})
    if lacking:
      raise errors.InputError(
        f'{type(self.analysis).__name__} needs the arm {lacking[0]}, the'
        f' experiment has {", ".join(arm.name for arm in self.arms) or "none"}.'
        ' Add it to the arms of the experiment.'
      )


def arms(experiments: Iterable[Experiment]) -> dict[str, Arm]:
  """All arms by name."""
  return _by_name((arm for each in experiments for arm in each.arms), 'arms')


def measures(experiments: Iterable[Experiment]) -> dict[str, Measure]:
  """All measures by name."""
  return _by_name(
    (measure for each in experiments for measure in each.measures), 'measures'
  )


def _by_name(values: Iterable[N], what: str) -> dict[str, N]:
  found: dict[str, N] = {}
  for value in values:
    if found.setdefault(value.name, value) != value:
      raise errors.InputError(
        f'Two different {what} of this study are called {value.name}. Give'
        ' them names that differ, or bind both alike.'
      )
  return found
