"""SIGTERM and SIGINT at random instants: no step is lost, all ends are equal.

  python benchmarks/reliability/signals.py --seed=0 --count=100

Each case begins a training or a study, sends a signal, at a random instant or
after a random number of steps, and looks: the exit code (143, 130), one line on
standard error, how long it took, whether the newest restart point has every
step of metrics.jsonl. Then the command is given again, for a second signal, and
once more, undisturbed; what is left is compared with an unbroken run's.
"""

import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import lab as lab_lib
from lab import Lab, Outcome

_WEIGHTS = {
  'train, supervised': 52,
  'train, online with a stream': 38,
  'study': 6,
  'study of two workers': 4,
}
_CHAIN = 2  # signals to one training, one start after the other
_IMPORTS = 4.0  # seconds, of a process of its own
_STUDY = 15.0  # seconds, of a study less two trainings; the first start tells
_STEPS = 15  # half of the signals come after so many at most
_POINT = re.compile(r'(checkpoint|restart)_(\d+)')


class Task(NamedTuple):
  """A command to stop; `begin` puts the folder in the state it starts from."""

  name: str
  words: Sequence[str]
  whole: pathlib.Path
  begin: Callable[[], None]


class Row:
  """What came of the signals to one command."""

  def __init__(self) -> None:
    self.signals, self.late, self.within, self.lost = 0, 0, 0, 0
    self.seconds: list[float] = []
    self.wrong = {'exit code': 0, 'lines': 0, 'different': 0, 'litter': 0}


def campaign(lab: Lab, rng: random.Random, count: int) -> Outcome:
  """Sends `count` signals; those that came too late are not counted."""
  rows: dict[str, Row] = {}
  made: dict[str, Task] = {}
  seconds: dict[str, float] = {}
  faults: list[str] = []
  for case, name in enumerate(lab.kinds(2 * count, _WEIGHTS)):
    sent = sum(row.signals for row in rows.values())
    if sent >= count:
      break
    if name not in made:
      made[name], seconds[name] = _task(lab, name)
    row = rows.setdefault(name, Row())
    begin, before = time.monotonic(), row.signals
    told = _chain(lab, made[name], seconds[name], rng, row)
    # What is compiled is stored from the second start on. A whole run takes as
    # long as two starts that share it.
    share = 2 / (1 + max(1, row.signals - before))
    spent = share * (time.monotonic() - begin)
    seconds[name] = min(seconds[name], spent)
    faults += [f'case {case}, {name}: {fault}' for fault in told]
    sent = sum(row.signals for row in rows.values())
    lab_lib.say(f'{sent} of {count} signals; {name}: {told or "kept"}')
  return Outcome(_table(rows), faults)


def _chain(
  lab: Lab, task: Task, seconds: float, rng: random.Random, row: Row
) -> list[str]:
  """Signals to one task, and what is not as it should be, then and at its end.

  Args:
    lab: to work in.
    task: to stop.
    seconds: that it takes unbroken.
    rng: of instants and signals.
    row: counts what came of them.
  """
  task.begin()
  told, sent = [], 0
  for place in range(1, _CHAIN + 1):
    # A later start has less to do.
    instant = rng.uniform(0, 0.9 * seconds / place)
    steps = rng.randint(1, _STEPS // place)
    when = (instant, 0) if rng.random() < 0.5 else (0.0, steps)
    found = _stopped(lab, task, when, rng, row)
    if found is None:
      break
    sent += 1
    told += found
  if not sent:
    return []
  again = lab.call(task.words)
  if again.code:
    told.append(f'the next start ended with {again.code}: {again.text[-400:]}')
  for kind, names in lab.differences(task.whole, lab.work).items():
    if names:
      row.wrong['litter' if kind == 'litter' else 'different'] += 1
      told.append(f'{kind}: {", ".join(names[:5])} ({len(names)})')
  return told


def _stopped(
  lab: Lab, task: Task, when: tuple[float, int], rng: random.Random, row: Row
) -> list[str] | None:
  """One signal, and what is wrong then; None where it came too late."""
  signum = rng.choice((signal.SIGTERM, signal.SIGINT))
  own = lab.own()
  instant, steps = when
  before = _steps(lab)
  start = lab.start(task.words, None, own)
  time.sleep(0.02 + instant + _IMPORTS * own)
  while steps and start.poll() is None and _steps(lab) < before + steps:
    time.sleep(0.001)
  begin = time.monotonic()
  if not start.send(signum):
    row.late += 1
    return None
  ended = start.wait()
  if ended.code == 0:  # it was at its end
    row.late += 1
    return None
  row.signals += 1
  row.seconds.append(time.monotonic() - begin)
  story = f'{signum.name} after {instant:.2f} s and {steps} steps'
  told = _judged(lab, row, ended, signum)
  return [f'{story}{", own process" * own}: {each}' for each in told]


def _steps(lab: Lab) -> int:
  """Of all trainings in the folder of work."""
  return sum(done for _, done, _ in trainings(lab.work))


def _judged(
  lab: Lab, row: Row, ended: lab_lib.Ended, signum: signal.Signals
) -> list[str]:
  told = []
  if ended.code != 128 + signum:
    row.wrong['exit code'] += 1
    told.append(f'exit code {ended.code}: {ended.text[-400:]}')
  # Warnings of the data may stand before it.
  lines = [line for line in ended.err.splitlines() if line.strip()]
  if [n for n, line in enumerate(lines) if 'stopped by' in line] != [
    len(lines) - 1
  ]:
    row.wrong['lines'] += 1
    told.append(f'standard error: {ended.err[-400:]}')
  row.within += 'is kept' in ended.err
  for folder, done, kept in trainings(lab.work):
    if done > kept:
      row.lost += done - kept
      told.append(f'{folder}: {done} steps were done, {kept} are kept')
  said = re.search(r'step (\d+) of \d+ is kept', ended.err)
  steps = [kept for _, _, kept in trainings(lab.work)]
  if said and int(said.group(1)) not in steps:
    told.append(f'{said.group()}, but of those in work are {steps}')
  return told


def trainings(folder: pathlib.Path):
  """Trainings below a folder: name, steps of metrics, newest step kept."""
  # `rglob` stops where a folder is renamed while it looks.
  places = [
    pathlib.Path(place)
    for place, _, names in os.walk(folder)
    if 'metrics.jsonl' in names
  ]
  for path in (place / 'metrics.jsonl' for place in places):
    try:
      done = path.read_bytes().count(b'\n')  # a line is a step
    except FileNotFoundError:  # renamed since
      continue
    found = [
      int(match.group(2))
      for place in path.parent.glob('checkpoints/*')
      if (match := _POINT.fullmatch(place.name)) and (place / 'rest').exists()
    ]
    yield path.parent.name, done, max(found, default=0)


def _task(lab: Lab, name: str) -> tuple[Task, float]:
  """Runs the command once, unbroken; with the seconds that this took."""
  import tasks

  if name.startswith('study'):
    return _study(lab, name)
  if name == 'train, supervised':
    words = tasks.sft(lab.it, 30)
  else:
    made = tasks.starting_points(lab)
    words = tasks.online(made, lab.it, 24, (9, 18))
  begin = time.monotonic()
  whole = lab.whole(words)
  seconds = time.monotonic() - begin
  return Task(
    name, words, whole, lambda: lab_lib.begin_with(lab, None)
  ), seconds


def _study(lab: Lab, name: str) -> tuple[Task, float]:
  """A study less two trainings; all stages log each step."""
  import tasks

  changes: dict[str, object] = {
    name: 1
    for name in ('golden/train.Run.log_every', 'proxy/train.Run.log_every')
  }
  changes |= {
    'study.run.num_workers': 2 if name.endswith('workers') else 0,
    'PROXY_STEPS': 40,
    'ONLINE_STEPS': 20,
    'online/train.Run.log_every': 1,
  }
  words = tasks.study(lab.it, **changes)
  whole = lab.whole(words)

  def begin() -> None:
    lab_lib.begin_with(lab, whole)
    stages = sorted((lab.it / 'stages').iterdir())
    for stage in stages:
      if re.match(r'proxy-|online_.*0\.03-', stage.name):
        shutil.rmtree(stage)

  return Task(name, words, whole, begin), _STUDY


def _table(rows: dict[str, Row]) -> str:
  kinds = 'exit code', 'lines', 'different', 'litter'
  head = (
    'command', 'signals', 'within a step', 'steps lost',
    *(f'wrong {kind}' if kind in kinds[:2] else kind for kind in kinds),
    'median s', 'most s',
  )  # fmt: skip
  lines: list[Sequence[object]] = [head]
  for name, row in rows.items():
    counts = [row.wrong[kind] for kind in kinds]
    times = row.seconds or [0.0]
    spent = f'{statistics.median(times):.2f}', f'{max(times):.2f}'
    lines.append([name, row.signals, row.within, row.lost, *counts, *spent])
  return lab_lib.table(lines)


if __name__ == '__main__':
  lab_lib.run({'signals': (campaign, 100)}, __doc__)
