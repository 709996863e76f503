"""Layer 7. Stages of an arm whose runs are trained as one program.

One stage trains the group; one more for each run links to its files, so that
whatever reads a run finds the folder that its single training would have left.
"""

import dataclasses
import os
import shutil
from pathlib import Path

from dap import partitioning
from dap.algorithms.run import Run
from dap.stages import values
from dap.study.making.stage_folders import Folders, policy_inputs
from dap.training import stacks


@dataclasses.dataclass(frozen=True)
class GroupTraining:
  """The training of a group of runs on the same data.

  Attributes:
    runs: (name, run) of each; see `stacks.check`.
    splits: of the data stage, joined; or names of a relabelled set.
    record_stream: keep every on-policy batch of each run.
    from_step: checkpoint of the policy that they start from; the newest when
      None.
    mesh: devices along (data, model).
  """

  runs: tuple[tuple[str, Run], ...]
  splits: tuple[str, ...] = ('train',)
  record_stream: bool = False
  from_step: int | None = None
  mesh: tuple[int, int] = (1, 1)

  @property
  def run(self) -> Run:
    """The first run: all share what is no number of theirs."""
    return self.runs[0][1]


def policy_runs(config: GroupTraining, inputs: Folders, work: Path) -> None:
  """As `trainings.policy_run` for each run, in a folder of its name."""
  pairs, params = policy_inputs(config, inputs)
  stacks.fit(
    dict(config.runs),
    pairs,
    params,
    work,
    mesh=partitioning.mesh(config.mesh),
    digest=values.digest(config),
    record_stream=config.record_stream,
    label=work.name.split('-')[0],
  )


def member(config: str, inputs: Folders, work: Path) -> None:
  """The run named `config`, out of the folder of its `trained` group."""
  source = inputs['trained'] / config
  shutil.copytree(source, work, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
  """A second name of a file; a copy where the disk knows no second names."""
  Path(target).unlink(missing_ok=True)  # a kill may have left half a copy
  try:
    os.link(source, target)
  except OSError:
    shutil.copyfile(source, target)
