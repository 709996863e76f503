"""Layer 0. Which stage a free worker takes next; no processes, no clocks."""

from collections.abc import Hashable, Iterable, Sequence

from dap.stages.artefacts import Job


class Schedule:
  """Jobs that wait, run and are done.

  The stage with the longest way still to go (its own weight and the heaviest
  chain of stages that wait for it) goes first. Of stages that are not urgent a
  worker prefers those of a group it has run before, whose programs it has
  compiled, then those of a group that nobody has run. No worker is left idle
  for a preference.
  """

  def __init__(self, jobs: Sequence[Job], num_workers: int):
    self._jobs = {job.key: job for job in jobs}
    self._num_workers = num_workers
    self._readers = _readers(self._jobs)
    self._remaining = _longest_ways(self._jobs, self._readers)
    self._waiting = dict.fromkeys(self._jobs)
    # How many of its inputs each job still waits for.
    self._needs = {
      key: len(self._jobs.keys() & set(job.needs))
      for key, job in self._jobs.items()
    }
    self._running: dict[str, int] = {}
    groups: dict[Hashable, set[int]] = {}
    # Workers that have run a job of the same group, by job.
    self._had = {
      key: groups.setdefault(job.stage.group, set())
      for key, job in self._jobs.items()
    }
    self.num_done = 0
    self.weight_done = 0.0

  @property
  def running(self) -> dict[str, int]:
    """Workers by the key of the job they are at."""
    return dict(self._running)

  @property
  def weight_left(self) -> float:
    """Of all jobs that are not done."""
    left = [*self._waiting, *self._running]
    return sum(self._jobs[key].stage.weight for key in left)

  @property
  def finished(self) -> bool:
    return not self._waiting and not self._running

  def take(self, worker: int) -> Job | None:
    """The job that a free worker starts now; None while all must wait."""
    ready = [self._jobs[key] for key in self._waiting if not self._needs[key]]
    if not ready:
      return None
    longest = max(ready, key=lambda job: self._remaining[job.key])
    share = self.weight_left / self._num_workers
    if self._remaining[longest.key] < share:
      longest = min(ready, key=lambda job: self._preference(job, worker))
    del self._waiting[longest.key]
    self._running[longest.key] = worker
    if longest.stage.group is not None:
      self._had[longest.key].add(worker)
    return longest

  def done(self, key: str) -> None:
    """Counts a running job as done."""
    del self._running[key]
    for reader in self._readers[key]:
      self._needs[reader] -= 1
    self.num_done += 1
    self.weight_done += self._jobs[key].stage.weight

  def drop_waiting(self) -> None:
    """Starts nothing more."""
    self._waiting.clear()

  def _preference(self, job: Job, worker: int) -> tuple[int, float]:
    workers = self._had[job.key]
    rank = 0 if worker in workers else 2 if workers else 1
    return rank, -self._remaining[job.key]


def _readers(jobs: dict[str, Job]) -> dict[str, list[str]]:
  """The jobs that read each."""
  readers: dict[str, list[str]] = {key: [] for key in jobs}
  for key, job in jobs.items():
    for need in set(job.needs) & jobs.keys():
      readers[need].append(key)
  return readers


def _longest_ways(
  jobs: dict[str, Job], readers: dict[str, list[str]]
) -> dict[str, float]:
  """Weight of the heaviest chain of jobs that begins with each."""
  ways: dict[str, float] = {}
  for key in reversed(_inputs_first(jobs)):
    after = max((ways[reader] for reader in readers[key]), default=0.0)
    ways[key] = jobs[key].stage.weight + after
  return ways


def _inputs_first(jobs: dict[str, Job]) -> list[str]:
  order: dict[str, None] = {}

  def visit(keys: Iterable[str]) -> None:
    for key in keys:
      if key in jobs and key not in order:
        visit(jobs[key].needs)
        order[key] = None

  visit(jobs)
  return list(order)
