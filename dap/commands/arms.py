"""Layer 8. Arms of a study that are experiments of `dap train`.

What is compared is then what a user trains: no study states an algorithm anew.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from dap import errors
from dap.algorithms.run import Run
from dap.commands import COMMANDS
from dap.commands import run as commands
from dap.models.trained import Policy
from dap.study.design.grid import Arm
from dap.study.reading.settings import Setting

Settings = Mapping[str, tuple[Setting, ...]]
FOLDER = 'configs/embedded'


def arms(
  settings: Settings,
  model: Policy,
  changes: Mapping[str, object] = MappingProxyType({}),
  folder: str = FOLDER,
) -> tuple[Arm, ...]:
  """An arm for each experiment; its file is `folder/NAME.gin`.

  Args:
    settings: of the grid, by experiment; its name is the arm's.
    model: of the study's policies, see `run_of`.
    changes: of what every file binds, see `run_of`.
    folder: of the experiments, from the repository or the installed package.

  Raises:
    errors.InputError: as `run_of`; or settings that a loss does not take.
  """
  return tuple(
    Arm(name, run_of(name, model, changes, folder=folder), own)
    for name, own in settings.items()
  )


def run_of(
  experiment: str,
  model: Policy,
  changes: Mapping[str, object] = MappingProxyType({}),
  parts: tuple[str, ...] = (),
  folder: str = FOLDER,
) -> Run:
  """The run of `folder/EXPERIMENT.gin`, whatever its folders and checkpoints.

  Args:
    experiment: its file's name.
    model: of the study's policies, which the experiment's stands for: its own
      may be drawn in another way, and no arm draws one.
    changes: of what the files bind, by name, as `--gin.NAME=VALUE` has them.
    parts: gin files that are read after the experiment, such as another loss.
    folder: of the experiments.

  Raises:
    errors.InputError: no such file, or one that cannot be read or names no run.
  """
  file = f'{folder}/{experiment}.gin'
  overrides = [(name, repr(value)) for name, value in changes.items()]
  given = commands.configure(
    COMMANDS['train'],
    [file, *parts],
    overrides,
    COMMANDS,
    stand_ins=lambda names: None,
  )
  run = given.get('run')
  if not isinstance(run, Run):
    raise errors.InputError(
      f'An arm is an experiment of `dap train`, which names its RUN; {file}'
      f' gives {run!r}.'
    )
  return dataclasses.replace(run, model=run.model.with_shared(model))
