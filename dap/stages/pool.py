"""Layer 0. Runs stages that read each other, on several processes at once.

Each worker has its own cores and the same thread settings, given before jax is
imported; it lives on, so that what it has compiled serves its next stage.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from dap import progress, stopping
from dap.errors import InputError
from dap.stages import artefacts, differences, finished, machine, worker
from dap.stages.artefacts import Job, Runtime, Stage
from dap.stages.schedule import Schedule

_PATIENCE = 10.0  # seconds that a worker has to end by itself
_TO_SAVE = 60.0  # seconds that a worker has to save after a signal


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
  """Runs what is missing of the targets; gives their folders, see `finish`."""
  jobs = finish(
    targets,
    root=root,
    num_workers=num_workers,
    threads=threads,
    devices_each=devices_each,
  )
  return [job.folder for job in jobs]


def finish(
  targets: Sequence[Stage],
  *,
  root: str | Path,
  num_workers: int = 0,
  threads: int = 1,
  devices_each: int = 1,
  accept_code: bool = False,
) -> list[Job]:
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
    accept_code: see `artefacts.plan`.

  Returns:
    The targets' jobs; every file in their folders is as it was finished.

  Raises:
    InputError: a stage refused its input.
    StageError: a stage failed.
    stopping.Stopped: a signal came; trainings have kept their steps.
  """
  root = Path(root).absolute()
  where = artefacts.runtime(threads=threads if num_workers else None)
  jobs, wanted = artefacts.plan_for(
    targets, root, where, accept_code=accept_code
  )
  missing = artefacts.missing(jobs, wanted)
  for notice in [
    *differences.of_code(missing),
    *differences.notices(missing, jobs),
  ]:
    progress.say(notice)
  run_jobs(missing, root, num_workers, threads, devices_each)
  for job in wanted:
    finished.check(job.folder)
  return wanted


def run_jobs(
  jobs: Sequence[Job],
  root: Path,
  num_workers: int,
  threads: int = 1,
  devices_each: int = 1,
) -> None:
  """Runs jobs, whose inputs are among them or done; see `finish`."""
  if jobs and num_workers:
    where = artefacts.runtime(threads=threads)
    with progress.display() as shown:
      _Run(jobs, num_workers, shown).on_workers(root, where, devices_each)
  else:
    _run_here(jobs)


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
    self._stopped: list[worker.Stopped] = []
    self._start = time.monotonic()
    self._started: dict[str, float] = {}

  def on_workers(self, root: Path, where: Runtime, devices_each: int) -> None:
    number = self._num_workers
    environments = [
      machine.environment(root, where, index, number, devices_each)
      for index in range(number)
    ]
    with _workers(environments, where) as workers:
      try:
        while not self._schedule.finished:
          self._hand_out(workers)
          self._listen(workers)
      except stopping.Stopped as stopped:
        self._stop(workers)
        raise stopping.Stopped(stopped.signum, self._kept()) from None
    if self._stopped:  # a signal went to the worker alone
      raise stopping.Stopped(self._stopped[0].signum, self._kept())
    _raise(self._failures)

  def _listen(
    self, workers: Sequence[_Worker], timeout: float | None = None
  ) -> None:
    busy = {workers[i].pipe: k for k, i in self._schedule.running.items()}
    for pipe in connection.wait(list(busy), timeout):
      message = _received(pipe, workers)  # type: ignore[arg-type]
      self._take(self._jobs[busy[pipe]], message)  # type: ignore[index]

  def _stop(self, workers: Sequence[_Worker]) -> None:
    """Lets the workers save what they are at."""
    self._schedule.drop_waiting()
    for index in set(self._schedule.running.values()):
      workers[index].process.terminate()  # SIGTERM
    end = time.monotonic() + _TO_SAVE
    while not self._schedule.finished and time.monotonic() < end:
      self._listen(workers, timeout=1.0)

  def _kept(self) -> str:
    return ', '.join(each.text for each in self._stopped if each.text)

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
      case worker.Stopped():
        self._schedule.done(job.key)
        self._schedule.drop_waiting()
        self._stopped.append(message)
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
    if process.exitcode == -signal.SIGKILL:
      return worker.Failed(
        True,
        'Its process was killed by SIGKILL, as the system does when memory runs'
        ' out. What was finished is whole. Give the same command again with'
        ' fewer processes at once: --gin.study.run.num_workers=1.',
      )
    return worker.Failed(
      False, f'Its process ended with exit code {process.exitcode}.'
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
