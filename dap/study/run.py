"""Layer 6. The controlled study: stages A to G for each seed, then the report.

Every stage is named by what determines it, so a second start does only what is
missing and two studies in one folder share what they have in common.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dap import costs, errors, files, partitioning, progress
from dap.data.datasets import PairData
from dap.evaluation.points import DEFAULT, Evaluation
from dap.study import artefacts, build, collect, pool, report, stages
from dap.study.build import Study
from dap.study.grid import Arm
from dap.train import Run


def run(
  *,
  study_dir: str,
  data: PairData,
  golden: Run,
  sft: Run,
  proxy: Run,
  golden_policy: Run,
  arms: Mapping[str, Arm],
  title: str = 'Online against offline',
  seeds: tuple[int, ...] = (0,),
  num_golden_pairs: int = 3000,
  evaluation: Evaluation = DEFAULT,
  kl_range: tuple[float, float] = (2.25, 6.0),
  caveats: tuple[str, ...] = (),
  num_workers: int | None = None,
) -> None:
  """Runs what is missing of a study and writes its report.

  Args:
    study_dir: folder of this study, kept between starts.
    data: see `Study`, as the next six.
    golden: ...
    sft: ...
    proxy: ...
    golden_policy: ...
    arms: ...
    title: of the plots and the report.
    seeds: of everything that is random; one whole study each.
    num_golden_pairs: see `Study`.
    evaluation: see `Study`.
    kl_range: nats between which online and offline are compared.
    caveats: sentences for the report: what was tuned on what, say.
    num_workers: processes of one core each; a core is what is there when None,
      and 0 runs everything in this process.

  Raises:
    errors.InputError: the configuration or the data cannot work.
  """
  study = build.make(
    data, golden, sft, proxy, golden_policy, arms, num_golden_pairs, evaluation
  )
  root = Path(study_dir).absolute()
  workers = _workers(num_workers)
  built = {seed: build.build(study, seed) for seed in build.check_seeds(seeds)}
  targets = [stage for tree in built.values() for stage in tree.values()]
  folders = pool.run_stages(targets, root=root, num_workers=workers)
  places = iter(folders)
  found = {
    seed: {name: next(places) for name in tree} for seed, tree in built.items()
  }
  collect.write(study, found, root, title, kl_range, caveats)
  report.report(study_dir=study_dir)


def _workers(num_workers: int | None) -> int:
  if num_workers is None:
    return len(os.sched_getaffinity(0))
  if num_workers < 0:
    raise errors.InputError(f'num_workers must be >= 0, got {num_workers}.')
  return num_workers


def dry_run(
  *,
  study_dir: str,
  data: PairData,
  golden: Run,
  sft: Run,
  proxy: Run,
  golden_policy: Run,
  arms: Mapping[str, Arm],
  seeds: tuple[int, ...] = (0,),
  num_golden_pairs: int = 3000,
  evaluation: Evaluation = DEFAULT,
  num_workers: int | None = None,
  **others: Any,
) -> None:
  """Prints the stages, which are done, and what models and time they cost."""
  del others
  study = build.make(
    data, golden, sft, proxy, golden_policy, arms, num_golden_pairs, evaluation
  )
  workers = _workers(num_workers)
  lengths = data.prompt_length, data.response_length
  mesh = partitioning.mesh((1, 1))
  named = {
    'golden': golden, 'sft': sft, 'proxy': proxy,
    'golden_policy': golden_policy,
    **{name: arm.run for name, arm in study.arms},
  }  # fmt: skip
  rate = costs.matmul_rate()
  for name, training in named.items():
    compiled = costs.compiled_update(training, mesh, *lengths)
    needed = costs.memory(compiled) or 0
    seconds = costs.seconds(training, *lengths, rate)
    print(
      f'{name}: {costs.num_parameters(training.model):,} parameters;'
      f' update {files.readable_size(needed)}; {training.num_steps} steps of'
      f' {training.batch_size}, about {progress.duration(seconds)} each'
    )
  jobs = planned(study, build.check_seeds(seeds), Path(study_dir), workers)
  done = {job.key for job in jobs if artefacts.is_done(job)}
  for job in jobs:
    print(f'{"done   " if job.key in done else "to run "} {job.folder.name}')
  total = sum(
    _expected(job, lengths, rate) for job in jobs if job.key not in done
  )
  print(
    f'{len(jobs) - len(done)} of {len(jobs)} stages to run on'
    f' {max(1, workers)} processes, about'
    f' {progress.duration(total / max(1, workers))}'
  )


def planned(
  study: Study, seeds: tuple[int, ...], root: Path, workers: int
) -> list[artefacts.Job]:
  """The jobs of all seeds, inputs first."""
  where = artefacts.runtime(threads=1 if workers else None)
  targets = [
    stage for seed in seeds for stage in build.build(study, seed).values()
  ]
  return artefacts.plan(targets, root.absolute(), where)


# Seconds of a stage beside its steps, measured on one core: imports of data,
# compilation, and the evaluation of one checkpoint.
_STAGE, _CHECKPOINT = 3.0, 0.8


def _expected(
  job: artefacts.Job, lengths: tuple[int, int], rate: float
) -> float:
  """Seconds of one stage, an estimate."""
  config = job.stage.config
  if isinstance(config, stages.Training):
    return _STAGE + costs.seconds(config.run, *lengths, rate)
  if isinstance(config, stages.Point):
    return _STAGE + _CHECKPOINT * max(1, len(config.save_steps))
  return _STAGE
