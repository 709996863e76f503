"""Layer 8. Arms of a study that are experiments of `dap train`.

What is compared is then what a user trains: no study states an algorithm anew.
"""

import dataclasses
from collections.abc import Mapping

from dap import errors
from dap.algorithms.run import Run
from dap.commands import COMMANDS
from dap.commands import run as commands
from dap.models.trained import Policy
from dap.study.design.grid import Arm
from dap.study.reading.settings import Setting

Settings = Mapping[str, tuple[Setting, ...]]


def arms(
  settings: Settings, model: Policy, folder: str = 'configs/embedded'
) -> tuple[Arm, ...]:
  """An arm for each experiment; its file is `folder/NAME.gin`.

  Args:
    settings: of the grid, by experiment; its name is the arm's.
    model: of the study's policies, which the experiments' stand for: theirs may
      be drawn in another way, and no arm draws one.
    folder: of the experiments, from the repository or the installed package.

  Raises:
    errors.InputError: no such file, a file that cannot be read, or settings
      that its loss does not take.
  """
  return tuple(
    Arm(name, _run(f'{folder}/{name}.gin', model), own)
    for name, own in settings.items()
  )


def _run(file: str, model: Policy) -> Run:
  """The run of an experiment, whatever its folders and checkpoints."""
  given = commands.configure(
    COMMANDS['train'], [file], (), COMMANDS, stand_ins=lambda names: None
  )
  run = given.get('run')
  if not isinstance(run, Run):
    raise errors.InputError(
      f'An arm is an experiment of `dap train`, which names its RUN; {file}'
      f' gives {run!r}.'
    )
  return dataclasses.replace(run, model=run.model.with_shared(model))
