"""Layer 7. What a study will cost before it is started, and what is done."""

import heapq
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dap import costs, disks, errors, memory, progress, seals
from dap.algorithms.run import Run
from dap.stages import artefacts, differences, finished
from dap.stages.artefacts import Job, Stage
from dap.stages.schedule import Schedule
from dap.study.design import Study
from dap.study.forecast import effort
from dap.study.forecast.means import Means, Steps

# Seconds of a stage, and of each checkpoint that it evaluates, beside their
# operations, measured on one core: reading data, compilation.
_STAGE, _CHECKPOINT = 2.0, 0.1
_SETTING = re.compile(r'_lr[0-9.e+-]+(_beta[0-9.e+-]+)?$')

Trees = Mapping[int, Mapping[str, Stage]]  # by seed, by name


class Plan(NamedTuple):
  """The stages of all seeds.

  Attributes:
    jobs: inputs first, equal stages once.
    done: keys of those that are there.
    refusal: why stages could not be named, so that none is known to be done.
  """

  jobs: list[Job]
  done: frozenset[str]
  refusal: str = ''


class Clock:
  """Tells seconds of a stage by the best that is known of its kind."""

  def __init__(
    self,
    study: Study,
    measured: Mapping[object, float],
    timed: Steps,
    device: costs.Device | None,
    share: float = 1.0,
  ):
    self._study, self._measured, self._timed = study, measured, timed
    self._device, self._share = device, share
    self._lengths = study.data.prompt_length, study.data.response_length
    self._rate = self._operations_a_second()
    golden = study.golden
    self._num_pairs = golden.num_steps * golden.batch_size

  def seconds(self, stage: Stage) -> float:
    """Of one stage on one worker."""
    alike, units = effort.kind(stage)
    if alike in self._measured:
      return units * self._measured[alike]
    if (training := effort.training(stage)) is not None:
      return _STAGE + units * training.count * self.step(training.run)
    work = effort.work(stage, self._lengths, self._num_pairs)
    seconds = work.operations / self._rate
    if self._device is not None:
      seconds += sum(self._drawing(drawn) for drawn in work.drawn)
    return _STAGE + _CHECKPOINT * units + seconds

  def step(self, run: Run) -> float:
    """Of one step of a training."""
    if self._device is not None:
      return self._device.step_seconds(run, self._study.mesh, *self._lengths)
    if (alike := effort.step(run)) in self._timed:
      return self._timed[alike][1].seconds
    work = costs.step_operations(run, *self._lengths)
    return work / self._rate + costs.OVERHEAD

  def _drawing(self, drawn: effort.Drawn) -> float:
    assert self._device is not None
    read = costs.decoding_bytes(drawn.model.language_model, *self._lengths)
    batches = -(-drawn.prompts // drawn.batch)
    mesh = self._study.mesh
    return batches * self._device.drawing_seconds(read, drawn.batch, mesh)

  def _operations_a_second(self) -> float:
    if self._device is not None:
      data, split = self._study.mesh
      return data * split * self._device.rate
    rates = [
      costs.step_operations(run, *self._lengths) / each.seconds
      for run, each in self._timed.values()
    ]
    if rates:
      return statistics.median(rates)
    return self._share * costs.UTILISATION * costs.matmul_rate()


def show(
  study: Study,
  trees: Trees,
  root: Path,
  where: artefacts.Runtime,
  workers: int,
  device: costs.Device | None,
  means: Means,
) -> None:
  """Prints trainings, stages and the time that is left.

  Args:
    study: what is to be run.
    trees: its stages.
    root: folder of the study.
    where: stages are named by it.
    workers: processes.
    device: to compute times for; this machine when None, by finished stages
      of the folder, then by what `means` tells, then by its rate of matmuls.
    means: COUNTED or MEASURED.
  """
  plan = _plan(trees, root, where)
  found = _measured(plan, root)
  named = {
    label: list(group) for label, group in _trainings(study, plan.jobs).items()
  }
  timed = {} if device else means.steps(study, named, found, workers)
  clock = Clock(study, found, timed, device, _share(where))
  for label, group in named.items():
    room = _room(study, group[0], timed, device, means)
    print(_training_line(study, label, group, clock, room))
  print()
  for line in _stage_lines(plan, clock):
    print(line)
  left = [job for job in plan.jobs if job.key not in plan.done]
  for line in differences.of_code(left):
    print(line)
  processes = max(1, workers)
  seconds = makespan(left, clock.seconds, processes)
  print(
    f'{len(left)} of {len(plan.jobs)} stages to run on {processes} processes,'
    f' about {progress.duration(seconds)}'
  )
  print(_basis(study, found, timed, device, means))
  if plan.refusal:
    print(f'Which stages are done cannot be told: {plan.refusal}')


def _share(where: artefacts.Runtime) -> float:
  """Of the rate of this process's matmuls, what one of the study's reaches."""
  if where.backend != 'cpu':
    return 1.0
  return where.threads / costs.num_cores()


def makespan(
  jobs: Sequence[Job], seconds: Callable[[Stage], float], workers: int
) -> float:
  """Seconds until all are done, each as long as it is expected to be."""
  schedule = Schedule(jobs, workers)
  known = {job.key: seconds(job.stage) for job in jobs}
  running: list[tuple[float, str, int]] = []
  free, now = set(range(workers)), 0.0
  while not schedule.finished:
    for index in sorted(free):
      if job := schedule.take(index):
        heapq.heappush(running, (now + known[job.key], job.key, index))
        free.discard(index)
    now, key, index = heapq.heappop(running)
    schedule.done(key)
    free.add(index)
  return now


def _plan(trees: Trees, root: Path, where: artefacts.Runtime) -> Plan:
  targets = [stage for tree in trees.values() for stage in tree.values()]
  try:
    jobs = artefacts.plan(targets, root, where)
  except errors.InputError as error:
    return Plan(_unnamed(targets), frozenset(), str(error))
  done = frozenset(job.key for job in jobs if finished.is_done(job.folder))
  return Plan(jobs, done)


def _unnamed(targets: Iterable[Stage]) -> list[Job]:
  """Jobs that stand for stages whose content is not there to name them."""
  jobs: dict[int, Job] = {}

  def visit(stage: Stage) -> None:
    if id(stage) not in jobs:
      for read in stage.inputs.values():
        visit(read)
      needs = tuple(str(id(read)) for read in stage.inputs.values())
      place = Path(stage.name)
      jobs[id(stage)] = Job(str(id(stage)), place, stage, {}, needs, {})

  for target in targets:
    visit(target)
  return list(jobs.values())


def _measured(plan: Plan, root: Path) -> dict[object, float]:
  """Seconds a unit of each kind of stage that the folder has finished."""
  lines, changed = seals.whole_lines(root / 'costs.jsonl')
  if changed:
    progress.say(f'{root}/costs.jsonl: {changed} damaged lines are left out')
  seconds = {
    line['key']: line['seconds'] for line in lines if not line['resumed']
  }
  found: dict[object, list[float]] = {}
  for job in plan.jobs:
    if job.key in plan.done and job.key in seconds:
      kind = effort.kind(job.stage)
      found.setdefault(kind.alike, []).append(seconds[job.key] / kind.units)
  return {alike: statistics.mean(each) for alike, each in found.items()}


def _trainings(study: Study, jobs: Sequence[Job]) -> dict[str, list[Stage]]:
  """Stages that train by what they are called; equal programs together."""
  by_program: dict[object, list[Stage]] = {}
  for job in jobs:
    if (training := effort.training(job.stage)) is not None:
      run = training.run
      key = costs.program(run), run.num_steps, training.count
      by_program.setdefault(key, []).append(job.stage)
  return {
    ', '.join(dict.fromkeys(_SETTING.sub('', s.name) for s in group)): group
    for group in by_program.values()
  }


def _training_line(
  study: Study,
  label: str,
  group: Sequence[Stage],
  clock: Clock,
  room: str,
) -> str:
  run = _run(group[0])
  lengths = study.data.prompt_length, study.data.response_length
  operations = run.num_steps * costs.step_operations(run, *lengths)
  sampled = costs.sampled_tokens(run)
  parts = [
    f'{costs.num_parameters(run.model):,} parameters',
    room,
    f'{run.num_steps} steps of {run.batch_size}{_at_once(group[0])}',
    f'{operations:.2g} matmul operations',
    *([f'{sampled:,} tokens sampled at most'] if sampled else []),
    f'about {progress.duration(clock.seconds(group[0]))} each',
  ]
  runs = f' ({len(group)} runs)' if len(group) > 1 else ''
  return f'{label}{runs}: {"; ".join(parts)}'


def _run(stage: Stage) -> Run:
  training = effort.training(stage)
  assert training is not None
  return training.run


def _at_once(stage: Stage) -> str:
  training = effort.training(stage)
  count = training.count if training is not None else 1
  return f', {count} runs at once' if count > 1 else ''


def _room(
  study: Study,
  stage: Stage,
  timed: Steps,
  device: costs.Device | None,
  means: Means,
) -> str:
  """The memory of a training, as the compiler says or estimated."""
  run, size = _run(stage), disks.readable_size
  _, here = timed.get(effort.step(run), (run, None))
  if here is not None and here.memory:
    return f'update {size(here.memory)}'
  lengths = study.data.prompt_length, study.data.response_length
  needed = memory.estimate(run, study.mesh, *lengths, means.keeps)
  rollout = f', or rollout {size(needed.rollout)}' if needed.rollout else ''
  return (
    f'about {size(needed.total)} a device (state {size(needed.state)}, start'
    f' and judge {size(needed.held)}, update {size(needed.update)}{rollout})'
    f'{"; MORE THAN IT HAS" if device and needed.total > device.memory else ""}'
  )


def _stage_lines(plan: Plan, clock: Clock) -> Iterator[str]:
  """A line for each name of stages: how many are done, and the time left."""
  groups: dict[str, list[Job]] = {}
  for job in plan.jobs:
    groups.setdefault(_SETTING.sub('', job.stage.name), []).append(job)
  width = max(map(len, groups))
  for name, group in groups.items():
    left = [job for job in group if job.key not in plan.done]
    time = sum(clock.seconds(job.stage) for job in left)
    until = f'about {progress.duration(time)} of work' if left else 'done'
    done = len(group) - len(left)
    yield f'{name:{width}}  {done} of {len(group)} done; {until}'


def _basis(
  study: Study,
  found: Mapping[object, float],
  timed: Steps,
  device: costs.Device | None,
  means: Means,
) -> str:
  """What the times are told by, and how sure they are."""
  if device is not None:
    data, split = study.mesh
    return (
      f'Times are computed, not measured: {data} x {split} of {device.name} for'
      f' each process, {device.utilisation:.0%} of {device.peak:.3g} operations'
      f' a second, and {device.streaming:.0%} of {device.bandwidth:.3g} bytes a'
      ' second where tokens are drawn. Traffic between devices is not counted.'
    )
  told = []
  if found:
    told.append(f'{len(found)} kinds of finished stages of this folder')
  if timed:
    told.append(f'real steps of {len(timed)} programs on this machine')
  left = ' for what is left' if told else ''
  told.append(f'matmul operations{left}')
  return f'Times by {", ".join(told)}.\n{means.advice}'
