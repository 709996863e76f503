"""Layer 7. How a dry run finds out what trainings take: counted, or measured.

Counting takes no time and knows only matmuls and the sizes of arrays; measuring
makes some real steps of each program on this machine.
"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

from dap import costs, kept, memory
from dap.algorithms.run import Run
from dap.stages.artefacts import Stage
from dap.study.design import Study
from dap.study.forecast import effort, timing

_SMALL = 2e11  # matmul operations of a step that is timed and not computed

# By what the time of a step depends on: a run of that kind, and its time.
Steps = Mapping[Hashable, tuple[Run, timing.Timed]]
# Stages that train by what they are called.
Trainings = Mapping[str, Sequence[Stage]]


class Means(NamedTuple):
  """How a dry run finds out what trainings take.

  Attributes:
    steps: (study, trainings, known, workers) to the steps that were timed.
    keeps: memory of a gradient, see `memory.estimate`.
    advice: how sure this is, and how to get the other.
  """

  steps: Callable[[Study, Trainings, Mapping[object, float], int], Steps]
  keeps: Callable[[Run, int, int], memory.Saved]
  advice: str


def no_steps(
  study: Study, named: Trainings, known: Mapping[object, float], workers: int
) -> Steps:
  """Times nothing."""
  del study, named, known, workers
  return {}


def real_steps(
  study: Study, named: Trainings, known: Mapping[object, float], workers: int
) -> Steps:
  """Real steps of the small programs that nothing `known` tells of."""
  lengths = study.data.prompt_length, study.data.response_length
  wanted: dict[Hashable, tuple[str, Run]] = {}
  for label, group in named.items():
    trained = effort.training(group[0])
    assert trained is not None
    small = costs.step_operations(trained.run, *lengths) <= _SMALL
    if small and effort.kind(group[0]).alike not in known:
      name = re.sub(r'\W+', '_', label.split(',')[0])
      wanted.setdefault(effort.step(trained.run), (name, trained.run))
  if not wanted:
    return {}
  timings = {
    name: timing.Timing(run, *lengths, study.mesh)
    for name, run in wanted.values()
  }
  each = timing.measure(timings, workers)
  return {alike: (run, each[name]) for alike, (name, run) in wanted.items()}


COUNTED = Means(
  no_steps,
  kept.counted,
  'Counted, not measured: where no finished stage tells, times and memory may'
  ' be half or twice of what they will be. To measure real steps here, which'
  ' takes minutes: --dry_run --measure.',
)
MEASURED = Means(
  real_steps,
  memory.traced,
  'Measured: of small programs real steps, alone on a core; what evaluations'
  ' take is counted, and may be half or twice of that. To count all at once:'
  ' --dry_run alone.',
)
