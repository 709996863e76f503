import io
import itertools
import os
import pty

import pytest

from dap import progress


class Recorded:
  def __init__(self):
    self.events, self.said = [], []

  def __call__(self, event):
    self.events.append(event)

  def say(self, text):
    self.said.append(text)


def test_the_rate_leaves_out_what_was_done_before_and_the_first_unit():
  recorded = Recorded()
  # Clock: start 0; unit 101 took 30 s to compile, the next ones 0.5 s each.
  clock = iter([0.0, *(30.0 + 0.5 * i for i in range(20))]).__next__
  with (
    progress.redirected(recorded),
    progress.track('sft', 200, start=100, clock=clock) as tick,
  ):
    for done in range(101, 121):
      tick(done)
  assert recorded.events[0] == progress.Event('sft', 100, 200)
  assert recorded.events[-1].rate == pytest.approx(2.0)


def test_the_rate_follows_the_last_twenty_seconds():
  meter = progress.Meter(0, 0.0)
  for second in range(100):  # 1 unit a second, then 10 a second
    meter.record(second if second < 50 else 50 + 10 * (second - 50), second)
  assert meter.rate == pytest.approx(10.0)


def test_events_are_thinned_but_the_last_always_comes():
  recorded = Recorded()
  clock = itertools.count(0, 0.01).__next__
  with (
    progress.redirected(recorded),
    progress.track('a', 500, clock=clock) as tick,
  ):
    for done in range(1, 501):
      tick(done)
  assert len(recorded.events) < 40  # 5 s at one each 0.2 s
  assert recorded.events[-1].done == 500


def test_a_line_holds_rate_time_left_and_note():
  event = progress.Event('sft', 120, 600, 40.0, 'loss 2.31')
  assert progress.line(event) == 'sft 120/600  40/s  0:12 left  loss 2.31'
  assert progress.duration(3675) == '1:01:15'


def test_without_a_terminal_there_is_a_line_every_ten_seconds():
  stream, now = io.StringIO(), [0.0]
  lines = progress.Lines(stream, clock=lambda: now[0])
  for second in range(36):
    now[0] = float(second)
    lines(progress.Event('sft', second, 100, 1.0))
  lines(progress.Event('sft', 100, 100, 1.0))
  done = [text.split()[1] for text in stream.getvalue().splitlines()]
  assert done == ['10/100', '20/100', '30/100', '100/100']


def test_nested_work_shares_one_display():
  recorded = Recorded()
  with progress.redirected(recorded):
    with progress.track('outer', 1) as outer:
      with progress.track('inner', 1) as inner:
        inner(1)
      outer(1)
    progress.say('hello')
  names = [event.name for event in recorded.events]
  assert names == ['outer', 'inner', 'inner', 'outer']
  assert recorded.said == ['hello']


def test_on_a_terminal_there_are_bars_and_brackets_stay_text():
  parent, child = pty.openpty()
  with os.fdopen(child, 'w') as terminal, progress.display(terminal) as sink:
    assert isinstance(sink, progress.Bars)
    sink(progress.Event('run[0]', 5, 10, 2.0))
    sink.say('a [bold] word')
    sink(progress.Event('run[0]', 10, 10, 2.0))
  shown = os.read(parent, 100_000).decode()
  os.close(parent)
  assert 'a [bold] word' in shown
  assert 'run[0] 10/10' in shown
