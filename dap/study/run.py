"""Layer 7. Runs what is missing of a study for each seed, then the report.

Every stage is named by what determines it, so a second start does only what is
missing and studies in one folder share what they have in common.
"""

import contextlib
import math
from pathlib import Path

from dap import costs, errors, progress
from dap.losses.ranges import Count, Seeds
from dap.models import policy
from dap.stages import artefacts, differences, machine, pool
from dap.study import verify as verify_lib
from dap.study.design import Study, check_seeds
from dap.study.forecast import forecast, means
from dap.study.making import asking, build, collect
from dap.study.report import report


def run(
  *,
  study_dir: str,
  study: Study,
  title: str = 'Online against offline',
  seeds: Seeds = (0,),
  caveats: tuple[str, ...] = (),
  num_workers: Count | None = None,
  device: costs.Device | None = None,
  accept_code: bool = False,
  verify: bool = False,
) -> None:
  """Runs what is missing of a study and writes its report.

  Args:
    study_dir: folder of this study, kept between starts.
    study: what is run, measured and read.
    title: of the plots and the report.
    seeds: of everything that is random; one whole study each.
    caveats: sentences for the report: what was tuned on what, say.
    num_workers: processes, each with one core and the accelerators of the
      study's mesh; as many as the machine has room for when None, and 0 runs
      everything in this process.
    device: that a dry run tells times for; this machine when None.
    accept_code: take what other code, or other libraries, have finished for
      done where nothing else differs; the report says so.
    verify: make a sample of the finished stages again and compare, in place of
      all else.

  Raises:
    errors.InputError: the configuration or the data cannot work.
  """
  del device
  root = Path(study_dir).absolute()
  workers = _workers(num_workers, study)
  study = _with_num_ids(study)
  built = {seed: build.build(study, seed) for seed in check_seeds(seeds)}
  targets = [stage for tree in built.values() for stage in tree.values()]
  if verify:
    verify_lib.verify(targets, root, workers, math.prod(study.mesh))
    return
  if no_panel := asking.left_out(study):
    progress.say(no_panel)
  jobs = pool.finish(
    targets,
    root=root,
    num_workers=workers,
    devices_each=math.prod(study.mesh),
    accept_code=accept_code,
  )
  places = iter(job.folder for job in jobs)
  found = {
    seed: {name: next(places) for name in tree} for seed, tree in built.items()
  }
  other_code = differences.accepted(jobs) if accept_code else {}
  limits = (*caveats, no_panel) if no_panel else caveats
  collect.write(study, found, root, title, limits, other_code)
  report.refresh(study_dir)


def dry_run(
  *,
  study_dir: str,
  study: Study,
  seeds: tuple[int, ...] = (0,),
  num_workers: int | None = None,
  device: costs.Device | None = None,
  accept_code: bool = False,
  verify: bool = False,
  measure: bool = False,
  **others: object,
) -> None:
  """Prints the stages, which are done, and what models and time they cost.

  Counted from sizes, at once; with `measure` by real steps on this machine.

  Raises:
    errors.InputError: there is nothing to measure: another device is asked for.
  """
  del others
  if measure and device is not None:
    raise errors.InputError(
      '--measure makes steps on this machine, and the times of'
      f' {device.name} are asked for. Leave out --measure, or the device.'
    )
  workers = _workers(num_workers, study)
  with contextlib.suppress(errors.InputError):  # files may not be there yet
    study = _with_num_ids(study)
  if no_panel := asking.left_out(study):
    progress.say(no_panel)
  forecast.show(
    study,
    {seed: build.build(study, seed) for seed in check_seeds(seeds)},
    Path(study_dir).absolute(),
    artefacts.runtime(threads=1 if workers else None),
    workers,
    device,
    means.MEASURED if measure else means.COUNTED,
  )


def planned(
  study: Study, seeds: tuple[int, ...], root: Path, workers: int
) -> list[artefacts.Job]:
  """The jobs of all seeds, inputs first."""
  where = artefacts.runtime(threads=1 if workers else None)
  study = _with_num_ids(study)
  targets = [
    stage for seed in seeds for stage in build.build(study, seed).values()
  ]
  return artefacts.plan(targets, root.absolute(), where)


def _with_num_ids(study: Study) -> Study:
  """The study, its policies saying the ids of the data's vocabulary alone.

  Of a vocabulary that the data stage trains they are the pieces asked for:
  fewer are refused there.
  """
  return policy.with_num_ids(study, study.data.vocabulary.size)


def _workers(num_workers: int | None, study: Study) -> int:
  if num_workers is None:
    backend = artefacts.runtime().backend
    return machine.default_workers(backend, math.prod(study.mesh))
  if num_workers < 0:
    raise errors.InputError(f'num_workers must be >= 0, got {num_workers}.')
  return num_workers
