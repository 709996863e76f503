"""Layer 0. Runs stages that read each other, on several processes at once.

Each worker has its own cores and the same thread settings, given before jax is
imported; it lives on, so that what it has compiled serves its next stage.
"""

import contextlib
import multiprocessing
import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from dap import progress
from dap.errors import InputError
from dap.stages import artefacts, differences, machine, worker
from dap.stages.artefacts import Job, Runtime, Stage
from dap.stages.schedule import Schedule

_PATIENCE = 10.0  # seconds that a worker has to end by itself


class StageError(RuntimeError):
  """A stage failed; the message holds its name and its traceback."""


class _Worker(NamedTuple):
  process: BaseProcess
  pipe: connection.Connection


def run_stages(
  targets: Sequence[Stage],
  *,
  root: str | Path,
  num_workers: int = 0,
  threads: int = 1,
  devices_each: int = 1,
) -> list[Path]:
  """Runs what is missing of the targets and of all that they read.

  After a failure nothing more is started and what runs is finished. A call
  with the same arguments goes on from there, as it does after a kill.

  Args:
    targets: the stages whose folders are wanted.
    root: the study's folder.
    num_workers: processes; 0 runs the stages one by one in this one.
    threads: cores of each worker, and threads of its programs. The last bits of
      results depend on it, so stages are named by it.
    devices_each: accelerators of each worker, where there are any.

  Returns:
    The targets' folders.

  Raises:
    InputError: a stage refused its input.
    StageError: a stage failed.
  """
  root = Path(root).absolute()
  where = artefacts.runtime(threads=threads if num_workers else None)
  jobs = artefacts.plan(targets, root, where)
  folders = [artefacts.folder(target, root, where) for target in targets]
  wanted = [job for job in jobs if job.folder in set(folders)]
  missing = artefacts.missing(jobs, wanted)
  for notice in differences.notices(missing, jobs):
    progress.say(notice)
  if missing and num_workers:
    with progress.display() as shown:
      _Run(missing, num_workers, shown).on_workers(root, where, devices_each)
  else:
    _run_here(missing)
  return folders


def _run_here(jobs: Sequence[Job]) -> None:
  schedule = Schedule(jobs, num_workers=1)
  while job := schedule.take(0):
    try:
      artefacts.run_job(job)
    except InputError as error:
      raise InputError(_refusal(job, str(error))) from error
    except Exception as error:
      raise StageError(f'Stage {job.folder.name} failed: {error}') from error
    schedule.done(job.key)


class _Run:
  """Jobs on their way through the workers."""

  def __init__(
    self, jobs: Sequence[Job], num_workers: int, shown: progress.Sink
  ):
    self._jobs = {job.key: job for job in jobs}
    self._num_workers = min(num_workers, len(jobs))
    self._schedule = Schedule(jobs, self._num_workers)
    self._shown = shown
    self._failures: list[tuple[Job, worker.Failed]] = []
    self._start = time.monotonic()
    self._started: dict[str, float] = {}

  def on_workers(self, root: Path, where: Runtime, devices_each: int) -> None:
    number = self._num_workers
    environments = [
      machine.environment(root, where, index, number, devices_each)
      for index in range(number)
    ]
    with _workers(environments, where) as workers:
      while True:
        self._hand_out(workers)
        if self._schedule.finished:
          break
        busy = {workers[i].pipe: k for k, i in self._schedule.running.items()}
        for pipe in connection.wait(list(busy)):
          message = _received(pipe, workers)  # type: ignore[arg-type]
          self._take(self._jobs[busy[pipe]], message)  # type: ignore[index]
    _raise(self._failures)

  def _hand_out(self, workers: Sequence[_Worker]) -> None:
    busy = set(self._schedule.running.values())
    for index in set(range(len(workers))) - busy:
      if job := self._schedule.take(index):
        self._started[job.key] = time.monotonic()
        workers[index].pipe.send_bytes(_packed(job))

  def _take(self, job: Job, message: worker.Message) -> None:
    match message:
      case progress.Event():
        self._shown(message)
      case worker.Said(text):
        self._shown.say(text)
      case worker.Done():
        self._schedule.done(job.key)
        self._shown.say(self._done_line(job))
      case worker.Failed():
        self._schedule.done(job.key)
        self._schedule.drop_waiting()
        self._failures.append((job, message))
        self._shown.say(self._failure_line(job))

  def _done_line(self, job: Job) -> str:
    now = time.monotonic()
    schedule = self._schedule
    left = (now - self._start) * schedule.weight_left / schedule.weight_done
    return (
      f'{job.folder.name}: {now - self._started[job.key]:.1f} s;'
      f' {schedule.num_done} of {len(self._jobs)} stages,'
      f' about {progress.duration(left)} left'
    )

  def _failure_line(self, job: Job) -> str:
    others = [self._jobs[key].folder.name for key in self._schedule.running]
    until = f'; {", ".join(others)} will be finished first' if others else ''
    return f'{job.folder.name} failed{until}'


@contextlib.contextmanager
def _workers(
  environments: Sequence[Mapping[str, str]], where: Runtime
) -> Iterator[list[_Worker]]:
  """Worker processes for a block; those still at work after it are ended."""
  context = multiprocessing.get_context('spawn')
  workers: list[_Worker] = []
  try:
    for index, environment in enumerate(environments):
      ours, theirs = context.Pipe()
      process = context.Process(
        target=worker.work, args=(theirs, os.getpid(), where), daemon=True
      )
      with _inherited(machine.cores(index, where.threads), environment):
        process.start()
      theirs.close()
      workers.append(_Worker(process, ours))
    yield workers
    for each in workers:
      with contextlib.suppress(OSError):
        each.pipe.send_bytes(b'')
    for each in workers:
      each.process.join(_PATIENCE)
  finally:
    for each in workers:
      each.process.kill()
      each.process.join()
      each.pipe.close()


@contextlib.contextmanager
def _inherited(
  cores: set[int], environment: Mapping[str, str]
) -> Iterator[None]:
  """What a process that is started in the block has from its first moment."""
  own_cores, own = os.sched_getaffinity(0), dict(os.environ)
  try:
    os.environ.update(environment)
    os.sched_setaffinity(0, cores)
    yield
  finally:
    os.sched_setaffinity(0, own_cores)
    for name in environment:
      if name in own:
        os.environ[name] = own[name]
      else:
        del os.environ[name]


def _packed(job: Job) -> bytes:
  try:
    return pickle.dumps(job)
  except (pickle.PicklingError, AttributeError, TypeError) as error:
    raise InputError(
      _refusal(
        job,
        f'its configuration cannot be sent to a worker process ({error}):'
        ' define its functions and classes in a module, or run with'
        ' num_workers=0.',
      )
    ) from error


def _received(
  pipe: connection.Connection, workers: Sequence[_Worker]
) -> worker.Message:
  try:
    return pipe.recv()
  except (EOFError, ConnectionError):
    process = next(each.process for each in workers if each.pipe is pipe)
    process.join()
    why = ' (killed: out of memory?)' if process.exitcode == -9 else ''
    return worker.Failed(
      False, f'Its process ended with exit code {process.exitcode}{why}.'
    )


def _raise(failures: Sequence[tuple[Job, worker.Failed]]) -> None:
  if not failures:
    return
  if all(failed.refused for _, failed in failures):
    raise InputError(
      '\n'.join(_refusal(job, failed.text) for job, failed in failures)
    )
  raise StageError(
    '\n'.join(
      f'Stage {job.folder.name} failed:\n{failed.text}'
      for job, failed in failures
    )
  )


def _refusal(job: Job, text: str) -> str:
  return f'{text}\n  in stage {job.folder.name}'
