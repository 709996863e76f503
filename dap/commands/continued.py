"""Layer 8. Whether the training in a folder is the one that is asked for.

What changes numbers names a training. How far it goes and what is kept of it
does not (`run.WITHOUT_NUMBERS`): these may change from one start to the next.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from dap import files, secrets
from dap.algorithms import run as run_lib
from dap.algorithms.run import Run
from dap.checkpoints import metadata, points
from dap.commands import show
from dap.data.datasets import PairData
from dap.errors import InputError
from dap.stages import code, differences, values

_FILE = 'configuration.json'
_GIVEN = 'data_as_given'
_UNCOUNTED = (*run_lib.WITHOUT_NUMBERS, _GIVEN)
_MOST = 12  # differences that a message shows

Description = dict[str, object]


def described(run: Run, data: PairData, **others: object) -> Description:
  """A training as JSON: the fields of its run, and what is beside it.

  Data are named by their content; `_GIVEN` has them as they were given.
  """
  own = values.describe(run)
  assert isinstance(own, dict)
  beside = {'data': data, **others}
  return {
    **own,
    **{name: values.describe(each) for name, each in beside.items()},
    _GIVEN: secrets.hidden(show.text({'data': data})).splitlines(),
  }


def name(description: Mapping[str, object]) -> str:
  """A digest of what changes numbers."""
  counted = {
    key: value for key, value in description.items() if key not in _UNCOUNTED
  }
  return code.sha256(values.canonical(counted))


def keep(description: Description, run: Run, folder: Path) -> bool:
  """Writes what is trained into the folder of a training, if it is that one.

  Returns:
    Whether it was written: not where the newest point is damaged.

  Raises:
    InputError: the folder holds another training, naming what differs, or one
      that cannot go on as far as this one.
  """
  places = points.restartable(folder / 'checkpoints')
  if places:
    try:
      found = metadata.read(places[0])
    except InputError:  # it is damaged, which the restart tells or mends
      return False
    if found['digest'] != name(description):
      raise InputError(_of_another(folder, found['digest'], description))
    _check_steps(run, folder, found['step'], found['rest'])
  files.write_json(folder / _FILE, description)
  return True


def _check_steps(
  run: Run, folder: Path, step: int, rest: Mapping[str, object]
) -> None:
  if step > run.num_steps:
    raise InputError(
      f'{folder} holds {step} steps of this run, which is to have'
      f' {run.num_steps}: steps are not taken back. Ask for {step} or more, or'
      ' give another MODEL_DIR.'
    )
  kept = any(each.startswith(('behaviour/', 'pending/')) for each in rest)
  if step < run.num_steps and run.algorithm.behaviour.keeps and not kept:
    raise InputError(
      f'{folder} ended at step {step} with rollouts ahead of their update and'
      ' drew none beyond it, so a longer run would have other numbers. Train'
      f' all {run.num_steps} steps with another MODEL_DIR.'
    )


def _of_another(folder: Path, digest: str, description: Description) -> str:
  start = f'{folder} holds the run of another configuration'
  instead = 'Give another MODEL_DIR, or remove that folder.'
  try:
    before = json.loads((folder / _FILE).read_text())
    is_its_own = name(before) == digest
  except (OSError, ValueError, AttributeError):
    is_its_own = False
  if not is_its_own:
    return (
      f'{start} (digest {digest}, this one {name(description)}); no {_FILE} of'
      f' that run is there to say what differs. {instead}'
    )
  here = json.loads(json.dumps(description))
  found = [
    line
    for key in {**before, **here}
    if key not in _UNCOUNTED
    for line in _changes(before.get(key), here.get(key), key)
  ]
  if any(line.startswith('data.') for line in found):
    found += _of_given(before.get(_GIVEN, []), here.get(_GIVEN, []))
  more = len(found) - _MOST
  lines = found[:_MOST] + ([f'and {more} more'] if more > 0 else [])
  return (
    f'{start}. What differs:\n  ' + '\n  '.join(lines) + '\nTo go on, give what'
    f' is there. To train anew: {instead[0].lower()}{instead[1:]}'
    f'{_of_schedule(found)}'
  )


def _changes(there: object, here: object, key: str) -> Iterable[str]:
  """What differs in one part of the description of a training."""
  if key == 'arrays' and there != here:
    return ['arrays: the same texts gave other ids (other code prepared them)']
  return differences.changes(there, here, key)


def _of_given(there: list[str], here: list[str]) -> list[str]:
  return [
    *(f'{line.strip()} there' for line in there if line not in here),
    *(f'{line.strip()} here' for line in here if line not in there),
  ]


def _of_schedule(found: list[str]) -> str:
  if not any(line.startswith('schedule.num_steps:') for line in found):
    return ''
  return (
    '\nA schedule that ends with the run has another rate at every step of a'
    ' longer one. To train on from the end, start a new run there:'
    ' INITIAL_CHECKPOINT_PATH; a run of constant rate (optimizers.Constant)'
    ' goes on to more steps as it is.'
  )
