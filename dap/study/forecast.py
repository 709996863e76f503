"""Layer 6. What a study will cost before it is started, and what is done."""

from pathlib import Path

from dap import costs, files, partitioning, progress
from dap.study import artefacts, evaluations, stages
from dap.study.artefacts import Job
from dap.study.design import Study

# Seconds of a stage beside its steps, measured on one core: imports of data,
# compilation, and the evaluation of one checkpoint.
_STAGE, _CHECKPOINT = 2.0, 0.4


def show(study: Study, jobs: list[Job], workers: int, root: Path) -> None:
  """Prints models, stages and the time that is left."""
  lengths = study.data.prompt_length, study.data.response_length
  mesh = partitioning.mesh((1, 1))
  named = {
    'golden': study.golden,
    'sft': study.sft,
    'proxy': study.proxy,
    'golden_policy': study.golden_policy,
    **{name: arm.run for name, arm in study.arms.items()},
  }
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
  done = {job.key for job in jobs if artefacts.is_done(job)}
  for job in jobs:
    print(f'{"done   " if job.key in done else "to run "} {job.folder.name}')
  total = sum(
    expected(job, lengths, rate) for job in jobs if job.key not in done
  )
  print(
    f'{len(jobs) - len(done)} of {len(jobs)} stages to run on'
    f' {workers} processes, about {progress.duration(total / workers)}'
  )


def expected(job: Job, lengths: tuple[int, int], rate: float) -> float:
  """Seconds of one stage, an estimate."""
  config = job.stage.config
  if isinstance(config, stages.Training):
    return _STAGE + costs.seconds(config.run, *lengths, rate)
  if isinstance(config, evaluations.Point):
    return _STAGE + _CHECKPOINT * max(1, len(config.save_steps))
  return _STAGE
