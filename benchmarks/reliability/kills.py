"""kill -9 just before a random file operation; one start later all is whole.

  python benchmarks/reliability/kills.py --seed=0 --count=200

Each chain begins a command, kills it one to three times, starts it once
undisturbed, and compares what is left with an unbroken run's: lost is what is
not there, different what has other bytes, litter what no unbroken run leaves.
Four kills in five come just before a file is opened for writing, renamed,
removed or made, the fifth at a random instant.
"""

import mmap
import os
import pathlib
import random
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import lab as lab_lib
from lab import Lab, Outcome

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OPERATIONS = frozenset(
  {
    'os.rename',
    'os.remove',
    'os.mkdir',
    'os.rmdir',
    'os.truncate',
    'os.link',
    'os.symlink',
  }
)
# Of the kills, by command.
_WEIGHTS = {
  'data': 27,
  'train, supervised': 32,
  'train, online with a stream': 42,
  'evaluate': 22,
  'convert to t5x': 12,
  'convert to hf': 12,
  'convert to dap': 12,
  'study': 30,
  'report': 11,
}
_MOST = 3  # kills of a chain


class Counter:
  """File operations below a folder, counted across a fork."""

  def __init__(self, folder: pathlib.Path):
    self._shared, self._folder = mmap.mmap(-1, 8), str(folder)

  @property
  def count(self) -> int:
    """Operations of the child that was started last."""
    return struct.unpack('q', self._shared[:8])[0]

  def before(self, nth: int, then: Callable[[], None]) -> Callable[[], None]:
    """For `Lab.start`: the child is killed before its nth operation."""
    self._shared[:8] = struct.pack('q', 0)

    def hook(event: str, arguments: tuple) -> None:
      if event != 'open' and event not in _OPERATIONS:
        return
      if event == 'open' and not arguments[2] & _WRITES:
        return
      if not _text(arguments[0]).startswith(self._folder):
        return
      self._shared[:8] = struct.pack('q', self.count + 1)
      if self.count == nth:
        os.kill(os.getpid(), signal.SIGKILL)

    def arm() -> None:
      then()
      sys.addaudithook(hook)

    return arm


def _text(path: object) -> str:
  try:
    return os.fsdecode(path)  # type: ignore[arg-type]
  except TypeError:  # a descriptor
    return ''


class Task(NamedTuple):
  """A command to kill.

  Attributes:
    name: of the row.
    words: of the command line.
    whole: what an unbroken run leaves.
    operations: on files, of an unbroken run.
    seconds: that it takes.
    begin: puts the folder of work in the state it starts from; gives the share
      of operations and seconds that are left to do.
  """

  name: str
  words: Sequence[str]
  whole: pathlib.Path
  operations: int
  seconds: float
  begin: Callable[[random.Random], float]


class Row:
  """What came of the kills of one command."""

  def __init__(self) -> None:
    self.kills, self.chains, self.late = 0, 0, 0
    self.found = {'lost': 0, 'different': 0, 'litter': 0, 'failed': 0}


def campaign(lab: Lab, rng: random.Random, count: int) -> Outcome:
  """Kills `count` times."""
  rows: dict[str, Row] = {}
  made: dict[str, Task] = {}
  faults: list[str] = []
  killed = 0
  for chain, name in enumerate(lab.kinds(3 * count, _WEIGHTS)):
    if killed >= count:
      break
    if name not in made:
      made[name] = _task(lab, name)
    row = rows.setdefault(name, Row())
    told = _chain(lab, made[name], rng, row, min(_MOST, count - killed))
    killed = sum(each.kills for each in rows.values())
    faults += [f'chain {chain}, {name}: {fault}' for fault in told]
    lab_lib.say(f'{killed} of {count} kills; {name}: {told or "whole"}')
  return Outcome(_table(rows), faults)


def _chain(
  lab: Lab, task: Task, rng: random.Random, row: Row, most: int
) -> list[str]:
  """Kills, one undisturbed start, and what is then not as it should be."""
  left = task.begin(rng)
  counter, story, ended = Counter(lab.work), [], None
  done = 0
  row.chains += 1
  for _ in range(rng.randint(1, most)):
    operations = max(3, round(left * task.operations) - done)
    if rng.random() < 0.2:
      instant = rng.uniform(0, left * task.seconds)
      ended = _killed_at(lab, task, instant)
      story.append(f'after {instant:.2f} s')
    else:
      nth = rng.randint(1, operations)
      arm = counter.before(nth, lab_lib.often())
      ended = lab.call(task.words, arm)
      done += max(0, counter.count - 2)
      story.append(f'before operation {nth}')
    if ended.code != -signal.SIGKILL:
      row.late += 1
      story[-1] += f' (it had ended with {ended.code})'
      break
    row.kills += 1
  if not (ended and ended.code == 0 and task.name.startswith('convert')):
    ended = lab.call(task.words, None, lab.own())
  told = _judged(lab, task, row, ended)
  return [f'killed {", ".join(story)}: {each}' for each in told]


def _killed_at(lab: Lab, task: Task, instant: float) -> lab_lib.Ended:
  own = lab.own()
  start = lab.start(task.words, lab_lib.often(), own)
  time.sleep(instant + 4.0 * own)  # of imports
  start.send(signal.SIGKILL)
  return start.wait()


def _judged(lab: Lab, task: Task, row: Row, ended: lab_lib.Ended) -> list[str]:
  told = []
  if ended.code:
    row.found['failed'] += 1
    told.append(f'the next start ended with {ended.code}: {ended.text[-400:]}')
  for kind, names in lab.differences(task.whole, lab.work).items():
    if names:
      row.found[kind] += 1
      told.append(f'{kind}: {", ".join(names[:5])} ({len(names)})')
  return told


def _task(lab: Lab, name: str) -> Task:
  """Runs the command once, unbroken."""
  import tasks

  base = None
  match name:
    case 'data':
      words = tasks.data(lab.it)
    case 'train, supervised':
      words = tasks.sft(lab.it)
    case 'train, online with a stream':
      words = tasks.online(tasks.starting_points(lab), lab.it)
    case 'evaluate':
      made = tasks.starting_points(lab)
      base = lab.whole(tasks.online(made, lab.it))
      words = tasks.evaluate(made, lab.it)
    case 'study' | 'report':
      return _study(lab, name)
    case _:
      words = tasks.convert(lab.it, name.split()[-1])
  counter = Counter(lab.work)
  begun = time.monotonic()
  whole = lab.whole(words, base, counter.before(-1, lambda: None))
  seconds = time.monotonic() - begun

  def begin(rng: random.Random) -> float:
    lab_lib.begin_with(lab, base)
    return 1.0

  return Task(name, words, whole, counter.count or 40, seconds, begin)


def _study(lab: Lab, name: str) -> Task:
  """A study less some of its stages and outputs; or its report alone."""
  import tasks

  words = tasks.study(lab.it)
  counter = Counter(lab.work)
  whole = lab.whole(words)
  if name == 'report':
    words = tasks.report(lab.it)
  lab_lib.begin_with(lab, whole)
  if name == 'study':
    _less(lab.it, random.Random(0), 2)
  ended = lab.call(words, counter.before(-1, lambda: None))
  assert not ended.code, ended.text

  def begin(rng: random.Random) -> float:
    lab_lib.begin_with(lab, whole)
    if name == 'report':
      return 1.0
    number = rng.randint(1, 4)
    _less(lab.it, rng, number)
    return 0.5 + 0.25 * number

  return Task(name, words, whole, counter.count, ended.seconds, begin)


def _less(folder: pathlib.Path, rng: random.Random, number: int) -> None:
  """Takes stages away, and what they were written into."""
  stages = sorted((folder / 'stages').glob('*-*'))
  for stage in rng.sample(stages, number):
    shutil.rmtree(stage)
  for name in ('runs.jsonl', 'study.json', 'samples.json', 'sealed.json'):
    if rng.random() < 0.5:
      (folder / name).unlink()
  if rng.random() < 0.5:
    shutil.rmtree(folder / 'figures')


def _table(rows: dict[str, Row]) -> str:
  head = 'command', 'kills', 'chains', 'too late'
  kinds = 'lost', 'different', 'litter', 'failed'
  lines = [[*head, *kinds]]
  for name, row in rows.items():
    counts = [str(row.found[kind]) for kind in kinds]
    lines.append([name, *map(str, (row.kills, row.chains, row.late)), *counts])
  columns = list(zip(*(line[1:] for line in lines[1:])))
  sums = [str(sum(map(int, column))) for column in columns]
  return lab_lib.table([*lines, ['all', *sums]])


if __name__ == '__main__':
  lab_lib.run({'kills': (campaign, 200)}, __doc__)
