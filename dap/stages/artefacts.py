"""Layer 0. Stages: folders of files named by all that they are made of.

A stage's folder is named by a hash of its configuration, of the stages that it
reads, of the code that it can reach and of what else changes bits. It appears
by a rename once it is whole; until then the work is in `<folder>.partial`,
which outlives a kill so that the stage can go on from what it had saved. What
it says of itself then is in `dap/stages/finished.py`.
"""

import contextlib
import dataclasses
import os
import re
import resource
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dap import disks, files, folders, progress, seals
from dap.errors import InputError
from dap.stages import code, finished, modules, provenance, values

# The configuration is of any type: each function has one of its own.
StageFunction = Callable[[Any, dict[str, Path], Path], None]


# Settings of jax that change numbers.
_JAX_SETTINGS = (
  'jax_default_matmul_precision',
  'jax_default_prng_impl',
  'jax_enable_x64',
  'jax_numpy_dtype_promotion',
  'jax_threefry_partitionable',
)


@dataclasses.dataclass(frozen=True)
class Stage:
  """A step of a study: a function from configuration and folders to a folder.

  Attributes:
    name: letters, digits, `_`, `.` and `-`: the beginning of the folder's name.
    function: called with the configuration, the folders of the inputs by name
      and the folder to write in, which may hold what a killed run left.
    config: a value that `values.describe` can describe.
    inputs: the stages whose folders the function reads, by the function's name
      for them.
    group: stages of one group share compiled programs: they go to one worker
      where that leaves no core idle. Not part of the name.
    weight: expected seconds, or any measure of cost. Not part of the name.
  """

  name: str
  function: StageFunction
  config: Any = None  # of the type that its function takes
  inputs: Mapping[str, 'Stage'] = dataclasses.field(
    default_factory=dict, hash=False
  )
  group: Hashable = dataclasses.field(default=None, compare=False)
  weight: float = dataclasses.field(default=1.0, compare=False)

  def __post_init__(self):
    if not re.fullmatch(r'[A-Za-z0-9_.-]+', self.name):
      raise InputError(
        'A stage is named with letters, digits, "_", "." and "-", as its name'
        f' begins a folder name; got {self.name!r}.'
      )


class Runtime(NamedTuple):
  """What changes the bits of a stage beside its configuration.

  On a CPU the number of threads does: it decides how sums are split.
  """

  libraries: tuple[tuple[str, str], ...]
  backend: str
  threads: int
  xla_flags: str
  settings: tuple[tuple[str, object], ...]


class Job(NamedTuple):
  """A stage with its place on the disk; it can be sent to another process.

  `needs` are the keys of the inputs; `inputs` their folders by name. `content`
  is what the key would be if all code and all libraries were the same.
  """

  key: str
  folder: Path
  stage: Stage
  inputs: dict[str, Path]
  needs: tuple[str, ...]
  description: files.Record  # JSON; as stage.json has it
  content: str = ''


def runtime(*, threads: int | None = None) -> Runtime:
  """The runtime of this process, or of workers with so many threads each.

  The backend is taken from JAX_PLATFORMS where that is set, so that a process
  which only starts workers leaves the accelerator to them.
  """
  import jax

  platform = os.environ.get('JAX_PLATFORMS', '').split(',')[0]
  own = int(os.environ.get('NPROC') or len(os.sched_getaffinity(0)))
  return Runtime(
    tuple(provenance.libraries().items()),
    {'cuda': 'gpu'}.get(platform, platform) or jax.default_backend(),
    own if threads is None else threads,
    ' '.join(sorted(os.environ.get('XLA_FLAGS', '').split())),
    tuple((name, _setting(name)) for name in _JAX_SETTINGS),
  )


def plan(
  targets: Sequence[Stage],
  root: Path,
  where: Runtime,
  *,
  accept_code: bool = False,
) -> list[Job]:
  """The jobs of the targets and of all that they read, inputs first.

  Stages that are equal in content are one job.

  Args:
    targets: wanted.
    root: of the study.
    where: the runtime of all stages.
    accept_code: take what other code or other libraries have finished for done,
      where nothing else differs.
  """
  return plan_for(targets, root, where, accept_code=accept_code)[0]


def plan_for(
  targets: Sequence[Stage],
  root: Path,
  where: Runtime,
  *,
  accept_code: bool = False,
) -> tuple[list[Job], list[Job]]:
  """What `plan` gives, and of these the job of each target."""
  jobs: dict[str, Job] = {}
  keys: dict[int, str] = {}

  def visit(stage: Stage) -> str:
    if id(stage) not in keys:
      needs = {name: visit(read) for name, read in stage.inputs.items()}
      reads = {name: jobs[key] for name, key in needs.items()}
      job = _job(stage, Path(root), where, reads)
      if accept_code and not job.folder.exists():
        job = _accepted(job)
      keys[id(stage)] = job.key
      jobs.setdefault(job.key, job)
    return keys[id(stage)]

  wanted = [visit(target) for target in targets]
  return list(jobs.values()), [jobs[key] for key in wanted]


def _accepted(job: Job) -> Job:
  """The job as other code has done it, the newest such; itself if none has."""
  found = [
    (path, record)
    for path, record in finished.records(job.folder)
    if record.get('content') == job.content
  ]
  if not found:
    return job
  path, _ = found[0]
  return job._replace(key=path.name.rpartition('-')[2], folder=path)


def folder(stage: Stage, root: Path, where: Runtime) -> Path:
  """Where the stage's files are or will be."""
  return plan_for([stage], root, where)[1][0].folder


def missing(jobs: Sequence[Job], targets: Sequence[Job]) -> list[Job]:
  """The jobs to run for the targets, inputs first.

  What only a finished job reads is not looked at: it may have been removed.
  """
  by_key = {job.key: job for job in jobs}
  found: dict[str, Job] = {}
  seen: set[str] = set()

  def visit(job: Job) -> None:
    if job.key in seen:
      return
    seen.add(job.key)
    if not finished.is_done(job.folder):
      for need in job.needs:
        visit(by_key[need])
      found[job.key] = job

  for target in targets:
    visit(target)
  return list(found.values())


def run_stage(
  stage: Stage, root: Path, *, where: Runtime | None = None
) -> Path:
  """Runs a stage, and before it what is missing of its inputs, in this process.

  Returns:
    The stage's folder. Nothing is done when it is there.
  """
  jobs = plan([stage], root, where or runtime())
  for job in missing(jobs, [jobs[-1]]):
    run_job(job)
  return jobs[-1].folder


def run_job(job: Job) -> None:
  """Runs one job whose inputs are done; a job in work elsewhere is awaited."""
  with _locked(job):
    if finished.is_done(job.folder):
      return
    for folder in job.inputs.values():
      finished.check(folder)
    partial = job.folder.with_name(job.folder.name + '.partial')
    resumed = partial.exists()
    with disks.explained(partial):
      partial.mkdir(parents=True, exist_ok=True)
      for aside in partial.rglob('.*.aside'):
        aside.unlink()
    clock, processor = time.monotonic(), time.process_time()
    with disks.explained(partial, disks.FULL_DISK):
      job.stage.function(job.stage.config, dict(job.inputs), partial)
    cost = {
      'stage': job.stage.name,
      'key': job.key,
      'seconds': round(time.monotonic() - clock, 3),
      'cpu_seconds': round(time.process_time() - processor, 3),
      'resumed': resumed,
      'process_peak_mib': _peak_mib(),
      'ended': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    }
    finished.write(partial, job.description, job.content)
    costs = job.folder.parents[1] / 'costs.jsonl'
    files.append_json_lines(costs, [seals.sealed(cost)])
    files.publish_folder(partial, job.folder)


def _job(
  stage: Stage, root: Path, where: Runtime, inputs: Mapping[str, Job]
) -> Job:
  config = values.describe(stage.config)
  runtime = {**where._asdict(), 'settings': dict(where.settings)}
  libraries = dict(runtime.pop('libraries'))
  described = {
    'schema': 2,
    'stage': stage.name,
    'function': code.name(stage.function),
    'config': config,
    'inputs': {name: job.key for name, job in inputs.items()},
    'runtime': runtime,
  }
  own = stage.function.__module__
  named = {
    'libraries': libraries,
    'modules': modules.reached([own, *modules.named_in(config)]),
  }
  if not code.is_library(stage.function):  # of a notebook, say
    named['text'] = values.describe(stage.function)
  content = modules.without_code(described) | {
    'inputs': {name: job.content for name, job in inputs.items()}
  }
  key = code.sha256(values.canonical({**described, **named}))
  return Job(
    key,
    root / 'stages' / f'{stage.name}-{key}',
    dataclasses.replace(stage, inputs={}),
    {name: job.folder for name, job in inputs.items()},
    tuple(sorted({job.key for job in inputs.values()})),
    {**described, **named},
    code.sha256(values.canonical(content)),
  )


@contextlib.contextmanager
def _locked(job: Job) -> Iterator[None]:
  """Holds the job's lock, which the kernel drops when the process dies."""
  path = job.folder.parent / '.locks' / job.folder.name
  told: list[str] = []

  def wait(holder: str) -> None:
    if holder not in told:
      progress.say(f'{job.folder.name}: waiting for {holder}, which runs it')
      told.append(holder)

  with folders.held(path, wait):
    yield
  with contextlib.suppress(OSError):  # a killed start may have made it
    path.parent.rmdir()


def _setting(name: str) -> bool | int | str | None:
  import jax

  value = getattr(jax.config, name)
  return value if isinstance(value, bool | int | None) else str(value)


def _peak_mib() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
