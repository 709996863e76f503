"""Layer 0. How far a long piece of work is: its rate and the time left.

Where standard output is a terminal there are bars, otherwise a plain line
every ten seconds. Work in another process shows in the process that started
it: a pool puts its own sink in place of the display.
"""

import collections
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, Protocol, cast, runtime_checkable

from dap import secrets

_WINDOW = 20.0  # seconds over which a rate is taken
_OFTEN = 0.2  # seconds between two events of one piece of work


@runtime_checkable
class Stream(Protocol):
  """A text file: standard output, or what a test puts in its place."""

  def write(self, text: str, /) -> object: ...

  def flush(self) -> None: ...

  def isatty(self) -> bool: ...


class Event(NamedTuple):
  """`done` of `total` units of `name`; `rate` is units a second, 0 unknown."""

  name: str
  done: int
  total: int
  rate: float = 0.0
  note: str = ''


@runtime_checkable
class Sink(Protocol):
  """Takes the events of all work and shows them or passes them on."""

  def __call__(self, event: Event) -> None: ...

  def say(self, text: str) -> None: ...


Tick = Callable[..., None]
_sinks: list[Sink] = []


@contextlib.contextmanager
def track(
  name: str,
  total: int,
  *,
  start: int = 0,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[Tick]:
  """Shows a loop: `tick(done, note='')` says how many units are done.

  Args:
    name: what is being done, shown at the left.
    total: units in all.
    start: units that an earlier run had done; they do not count in the rate.
    clock: seconds, monotonic.
  """
  with display() as sink:
    meter, last = Meter(start, clock()), -_OFTEN

    def tick(done: int, note: str = '') -> None:
      nonlocal last
      now = clock()
      meter.record(done, now)
      if done >= total or now - last >= _OFTEN:
        sink(Event(name, done, total, meter.rate, note))
        last = now

    sink(Event(name, start, total))
    yield tick


@contextlib.contextmanager
def display(stream: Stream | None = None) -> Iterator[Sink]:
  """The display in place, else a new one that stays for the block."""
  if _sinks:
    yield _sinks[-1]
    return
  output: Stream = stream or sys.stdout
  shown = Bars(output) if output.isatty() else Lines(output)
  with redirected(shown), contextlib.closing(shown):
    yield shown


@contextlib.contextmanager
def redirected(sink: Sink) -> Iterator[None]:
  """Sends all events and messages of the block to `sink`."""
  _sinks.append(sink)
  try:
    yield
  finally:
    _sinks.remove(sink)


def say(text: str) -> None:
  """A message of its own, above the bars where there are bars."""
  if _sinks:
    _sinks[-1].say(text)
  else:
    _put(text, sys.stdout)


class Meter:
  """Units a second over the last 20 seconds, the first unit left out.

  The first unit of a loop holds the compilation; counting it would make every
  estimate of the time left far too long.
  """

  def __init__(self, start: int, now: float):
    self._start = start
    self._seen = collections.deque([(now, start)])
    self._compiled = False

  def record(self, done: int, now: float) -> None:
    if not self._compiled and done > self._start:
      self._compiled = True
      self._seen.clear()
    self._seen.append((now, done))
    while len(self._seen) > 2 and now - self._seen[1][0] > _WINDOW:
      self._seen.popleft()

  @property
  def rate(self) -> float:
    (first, before), (last, done) = self._seen[0], self._seen[-1]
    return (done - before) / (last - first) if last > first else 0.0


class Lines:
  """A plain line for each piece of work every ten seconds, and at its end."""

  def __init__(
    self,
    stream: Stream,
    interval: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._stream, self._interval, self._clock = stream, interval, clock
    self._last: dict[str, float] = {}

  def __call__(self, event: Event) -> None:
    now = self._clock()
    last = self._last.setdefault(event.name, now)
    if event.done >= event.total:
      self.say(line(event))
      del self._last[event.name]
    elif now - last >= self._interval:
      self.say(line(event))
      self._last[event.name] = now

  def say(self, text: str) -> None:
    _put(text, self._stream)

  def close(self) -> None:
    self._last.clear()


class Bars:
  """A bar for each piece of work; finished ones turn into a line above."""

  def __init__(self, stream: Stream):
    from rich import console, progress

    self._bars = progress.Progress(
      progress.TextColumn('{task.description}'),
      progress.BarColumn(bar_width=24),
      progress.MofNCompleteColumn(),
      progress.TextColumn('{task.fields[speed]}'),
      console=console.Console(file=cast(IO[str], stream)),
    )
    self._tasks: dict[str, progress.TaskID] = {}
    self._bars.start()

  def __call__(self, event: Event) -> None:
    if event.name not in self._tasks:
      self._tasks[event.name] = self._bars.add_task(
        _escaped(event.name), total=event.total, speed=''
      )
    task = self._tasks[event.name]
    if event.done >= event.total:
      self._bars.remove_task(self._tasks.pop(event.name))
      self.say(line(event))
    else:
      speed = _escaped(_speed(event))
      self._bars.update(task, completed=event.done, speed=speed)

  def say(self, text: str) -> None:
    shown = secrets.hidden(text)
    self._bars.console.print(shown, markup=False, highlight=False)

  def close(self) -> None:
    self._bars.stop()


def _put(text: str, stream: Stream) -> None:
  """A line, with ? for letters that the stream's encoding lacks."""
  text = secrets.hidden(text)
  encoding = getattr(stream, 'encoding', None) or 'utf-8'
  print(
    text.encode(encoding, 'replace').decode(encoding), file=stream, flush=True
  )


def line(event: Event) -> str:
  """'sft 120/600  41.2/s  0:12 left  loss 2.31'."""
  return f'{event.name} {event.done}/{event.total}  {_speed(event)}'.rstrip()


def duration(seconds: float) -> str:
  """75 -> '1:15'; 3675 -> '1:01:15'."""
  minutes, second = divmod(round(seconds), 60)
  hours, minute = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minute:02}:{second:02}'
  return f'{minute}:{second:02}'


def _speed(event: Event) -> str:
  words = []
  if event.rate > 0:
    words.append(f'{event.rate:.3g}/s')
    if event.done < event.total:
      left = (event.total - event.done) / event.rate
      words.append(f'{duration(left)} left')
  return '  '.join([*words, event.note]).rstrip()


def _escaped(text: str) -> str:
  return text.replace('[', r'\[')
