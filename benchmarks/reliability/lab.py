"""A warm process whose children are starts of `dap`, and what they leave.

Importing what dap needs takes seconds; a child that is forked afterwards starts
at once. The warm process itself computes nothing: a child of a process that
runs XLA's threads could hang. One child in twenty is a process of its own, as
a person starts it.

    python benchmarks/reliability/kills.py --seed=0 --count=200
"""

import argparse
import gc
import importlib
import io
import json
import os
import pathlib
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
_OWN = 20  # one start of so many is a process of its own


class Ended(NamedTuple):
  """A start of `dap` that is over.

  Attributes:
    code: its exit code; -9 after SIGKILL.
    seconds: it took, by the clock.
    cpu: seconds of the processor.
    mib: the most memory that it held, with what the warm process holds.
    out: what it printed.
    err: what it printed on standard error.
  """

  code: int
  seconds: float
  cpu: float
  mib: float
  out: str
  err: str

  @property
  def text(self) -> str:
    """All that it printed."""
    return self.out + self.err

  @property
  def faulty(self) -> bool:
    """Whether it ended by a mistake of ours."""
    return self.code not in (0, 2, 130, 143, -9) or 'Traceback' in self.text


class Start:
  """A child that runs a command, with its output in files."""

  def __init__(
    self, process: int, log: pathlib.Path, begin: float, patience: float
  ):
    self.process, self._log, self._begin = process, log, begin
    self._patience = patience
    self._ended: Ended | None = None

  def poll(self) -> Ended | None:
    """What came of it; None while it runs."""
    return self._wait(os.WNOHANG)

  def wait(self) -> Ended:
    """What came of it; what takes too long is killed."""
    if self._ended is None:
      left = self._begin + self._patience - time.monotonic()
      child = os.pidfd_open(self.process)
      try:
        if not select.select([child], [], [], max(0.0, left))[0]:
          os.kill(self.process, signal.SIGKILL)
      finally:
        os.close(child)
    ended = self._wait(0)
    assert ended is not None  # it was waited for
    return ended

  def send(self, signum: int) -> bool:
    """Sends a signal; False where the child has ended before."""
    if self.poll() is not None:
      return False
    os.kill(self.process, signum)
    return True

  def _wait(self, options: int) -> Ended | None:
    if self._ended is None:
      process, status, usage = os.wait4(self.process, options)
      if process:
        out, err = (
          self._log.with_suffix(end).read_text(errors='replace')
          for end in ('.out', '.err')
        )
        self._ended = Ended(
          os.waitstatus_to_exitcode(status),
          time.monotonic() - self._begin,
          usage.ru_utime + usage.ru_stime,
          usage.ru_maxrss / 1024,
          out,
          err,
        )
    return self._ended


class Lab:
  """The warm process, with a folder to work in."""

  def __init__(self, folder: pathlib.Path, only: str = ''):
    """Imports all that commands need.

    Args:
      folder: of what is made here. A child works in `it`, in a `work` of its
        own below; what it leaves beside that is litter.
      only: a pattern of the kinds of cases to try, all when empty.
    """
    self.folder = folder
    self.work = folder / 'work'
    self.it = self.work / 'it'
    self.made = folder / 'made'
    self._only = re.compile(only)
    self.patience = 300.0  # seconds that a start may take
    self._number, self._forked = 0, 0
    self._wholes: dict[tuple[str, ...], pathlib.Path] = {}
    _warm(folder)

  def start(
    self,
    words: Sequence[str],
    before: Callable[[], object] | None = None,
    own: bool = False,
  ) -> Start:
    """Starts `dap WORDS`.

    Args:
      words: of the command line.
      before: called in the child, first.
      own: as a process of its own; `before` is not called.
    """
    self._number += 1
    log = self.folder / 'logs' / f'{self._number % 50}'
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    outputs = [
      os.open(log.with_suffix(end), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
      for end in ('.out', '.err')
    ]
    if own:
      command = [sys.executable, '-m', 'dap', *words]
      child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=outputs[0], stderr=outputs[1]
      )
      process = child.pid
      child.returncode = 0  # `Start` waits for it
    else:
      process = os.fork()
      if not process:
        _be_dap(words, outputs, before)
    for output in outputs:
      os.close(output)
    return Start(process, log, begin, self.patience)

  def call(
    self,
    words: Sequence[str],
    before: Callable[[], object] | None = None,
    own: bool = False,
  ) -> Ended:
    """Starts `dap WORDS` and waits for its end."""
    return self.start(words, before, own).wait()

  def make(
    self,
    words: Sequence[str],
    before: Callable[[], object] | None = None,
  ) -> Ended:
    """`call` of what must work."""
    ended = self.call(words, before)
    if ended.code:
      raise SystemExit(f'dap {" ".join(words)}: {ended.text[-3000:]}')
    return ended

  def whole(
    self,
    words: Sequence[str],
    base: pathlib.Path | None = None,
    before: Callable[[], object] | None = None,
  ) -> pathlib.Path:
    """What an unbroken run leaves in the folder of work, made once.

    Args:
      words: of the command line.
      base: what the run begins with.
      before: called in the child, first.
    """
    key = tuple(words)
    if key not in self._wholes:
      begin_with(self, base)
      self.make(words, before)
      self._wholes[key] = self.folder / 'whole' / f'{len(self._wholes)}'
      copy(self.work, self._wholes[key])
    return self._wholes[key]

  def kinds(self, count: int, weights: Mapping[str, float]) -> Iterator[str]:
    """So many kinds of cases, each as often as its weight says, in turn."""
    given = {name: 0.0 for name in weights if self._only.search(name)}
    for _ in range(count):
      name = min(given, key=lambda n: (given[n] + 0.5) / weights[n])
      given[name] += 1
      yield name

  def own(self) -> bool:
    """Whether the next start shall be a process of its own."""
    self._forked += 1
    return self._forked % _OWN == _OWN // 2

  def differences(
    self, whole: pathlib.Path, work: pathlib.Path
  ) -> dict[str, list[str]]:
    """What `leavings.compare` says, asked in a child: it reads arrays."""
    return self.aside(lambda: _compared(whole, work))

  def aside(self, function: Callable[[], object]):
    """What a function of JSON gives, called in a child."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
      _silently(lambda: os.write(writer, json.dumps(function()).encode()))
    os.close(writer)
    with open(reader, 'rb') as file:
      told = file.read()
    os.waitpid(process, 0)
    return json.loads(told)


def _compared(whole: pathlib.Path, work: pathlib.Path) -> dict[str, list[str]]:
  import leavings

  return leavings.compare(whole, work)


def _silently(function: Callable[[], object]) -> None:
  """Ends a child after a function."""
  try:
    function()
  except BaseException:
    traceback.print_exc()
    os._exit(1)
  os._exit(0)


def _be_dap(
  words: Sequence[str],
  outputs: Sequence[int],
  before: Callable[[], object] | None,
) -> None:
  """The rest of a forked child's life."""
  from dap import main

  code = 1
  try:
    os.dup2(outputs[0], 1)
    os.dup2(outputs[1], 2)
    sys.stdout = io.TextIOWrapper(open(1, 'wb', 0, closefd=False))  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
      open(2, 'wb', 0, closefd=False),  # noqa: SIM115
      errors='backslashreplace',  # as Python's own
      line_buffering=True,
    )
    if before is not None:
      before()
    sys.argv = ['dap', *words]
    main.main(list(words))
    code = 0
  except SystemExit as stopped:
    code = stopped.code if isinstance(stopped.code, int) else 0
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _warm(folder: pathlib.Path) -> None:
  """Settings, imports, hashes of the code: children find all three."""
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder / 'compiled'))
  for name, value in {
    'JAX_PLATFORMS': 'cpu',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    'NPROC': '1',
    'OMP_NUM_THREADS': '1',
    'PYTHONPATH': os.pathsep.join(
      filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')])
    ),
  }.items():
    os.environ[name] = value
  os.chdir(ROOT)
  for place in (ROOT, ROOT / 'tests', pathlib.Path(__file__).parent):
    if str(place) not in sys.path:
      sys.path.insert(0, str(place))
  from dap.commands import COMMANDS

  for name in (
    *(command.module for command in COMMANDS.values()),
    'matplotlib.figure', 'orbax.checkpoint', 'safetensors.numpy',
    'sentencepiece', 'tensorstore', 'leavings',
  ):  # fmt: skip
    importlib.import_module(name)
  modules = importlib.import_module('dap.stages.modules')
  modules.reached(name for name in sys.modules if name.startswith('dap.'))
  gc.freeze()  # children need not look at it again
  gc.set_threshold(50_000, 20, 20)


def begin_with(lab: Lab, base: pathlib.Path | None) -> None:
  """The folder of work becomes `base`, or empty."""
  shutil.rmtree(lab.work, ignore_errors=True)
  lab.work.mkdir(parents=True)
  if base is not None:
    shutil.copytree(base, lab.work, dirs_exist_ok=True, symlinks=True)


def often(every: int = 3) -> Callable[[], None]:
  """For `before`: restart points every few steps, as of a long training."""

  def before() -> None:
    from dap.training import pace

    pace.Pace.due = lambda self, done, num_steps: done - self._done >= every

  return before


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """`target` becomes what `source` is."""
  shutil.rmtree(target, ignore_errors=True)
  shutil.copytree(source, target, symlinks=True)


def table(rows: Sequence[Sequence[object]]) -> str:
  """A table of Markdown; the first row is its head."""
  lines = [f'| {" | ".join(map(str, row))} |' for row in rows]
  lines.insert(1, '|' + '---|' * len(rows[0]))
  return '\n'.join(lines)


def say(text: str) -> None:
  """A line of progress."""
  print(f'{time.strftime("%H:%M:%S")} {text}', flush=True)


class Outcome(NamedTuple):
  """A campaign's table, and what of it was not as it must be."""

  table: str
  faults: Sequence[str]


Campaign = Callable[[Lab, random.Random, int], Outcome]


def run(
  campaigns: Mapping[str, tuple[Campaign, int]],
  doc: str | None,
  argv: Sequence[str] | None = None,
) -> None:
  """The main function of campaigns; exit code 1 where there were faults.

  Args:
    campaigns: by their names, each with its number of cases.
    doc: of the script.
    argv: the words of the command line.
  """
  parser = argparse.ArgumentParser(
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument('--seed', type=int, default=0, help='of all choices')
  parser.add_argument('--count', type=int, help='of cases')
  parser.add_argument('--only', default='', help='a pattern of kinds of cases')
  parser.add_argument(
    '--folder', type=pathlib.Path, help='to work in; a new one, removed after'
  )
  if len(campaigns) > 1:
    parser.add_argument(
      'names', nargs='*', metavar='NAME', help=f'of {", ".join(campaigns)}'
    )
  options = parser.parse_args(argv)
  names = getattr(options, 'names', []) or list(campaigns)
  with tempfile.TemporaryDirectory(prefix='dap_reliability_') as made:
    folder = (options.folder or pathlib.Path(made)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('work', 'made', 'whole'):
      shutil.rmtree(folder / name, ignore_errors=True)
    lab = Lab(folder, options.only)
    faults = 0
    for name in names:
      campaign, usual = campaigns[name]
      count = usual if options.count is None else options.count
      faults += _told(lab, name, campaign, options.seed, count)
  raise SystemExit(1 if faults else 0)


def _processor_seconds() -> float:
  """What this process and those that it waited for have taken."""
  spent = map(
    resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _told(
  lab: Lab, name: str, campaign: Campaign, seed: int, count: int
) -> int:
  """Prints what came of a campaign; gives the number of its faults."""
  begin, before = time.monotonic(), _processor_seconds()
  found = campaign(lab, random.Random(seed), count)
  minutes = (time.monotonic() - begin) / 60
  cpu = _processor_seconds() - before
  print(f'\n{found.table}\n')
  for fault in found.faults:
    print(f'- {fault}')
  print(
    f'\n{name}: {count} cases of seed {seed} in {minutes:.1f} minutes,'
    f' {cpu / 60:.1f} of them on the processor; {len(found.faults)} faults',
    flush=True,
  )
  return len(found.faults)
