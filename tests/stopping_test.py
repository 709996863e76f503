"""Signals end work where nothing of it is lost."""

import os
import signal
import time

import pytest

from dap import errors, stopping


def send(signum):
  os.kill(os.getpid(), signum)
  time.sleep(0.01)  # the handler runs between two instructions


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_work_at_once(signum):
  before = signal.getsignal(signum)
  with pytest.raises(stopping.Stopped) as stopped, stopping.signals_heard():
    send(signum)
    pytest.fail('went on')
  assert stopped.value.exit_code == 128 + signum
  assert signal.getsignal(signum) is before


def test_a_loop_is_asked_after_its_step():
  steps = []
  with stopping.signals_heard(), stopping.at_step_ends() as stopped_by:
    for step in range(9):
      steps.append(step)
      if step == 3:
        send(signal.SIGTERM)
        send(signal.SIGTERM)  # once to the process, once to its group
        send(signal.SIGINT)
        steps.append('the rest of the step')
      if stopped_by():
        break
    assert stopped_by() == signal.SIGTERM
    with pytest.raises(stopping.Stopped):
      raise stopping.Stopped(stopped_by(), 'step 3')
    assert steps == [0, 1, 2, 3, 'the rest of the step']
    stopping._heard.signum = 0  # told


def test_a_block_that_does_not_ask_ends_with_the_signal():
  with pytest.raises(stopping.Stopped), stopping.signals_heard():
    with stopping.at_step_ends():
      send(signal.SIGTERM)
      done = True
    pytest.fail('went on')
  assert done


def test_control_c_twice_ends_at_once(monkeypatch):
  monkeypatch.setattr(stopping, '_AGAIN', 0.0)
  ends = pytest.raises(stopping.Stopped)
  with ends, stopping.signals_heard(), stopping.at_step_ends():
    send(signal.SIGINT)
    send(signal.SIGINT)
    pytest.fail('went on')


def test_nothing_is_left_for_the_next_block():
  with stopping.signals_heard():
    for _ in range(2):
      with pytest.raises(stopping.Stopped), stopping.at_step_ends():
        send(signal.SIGTERM)
    with stopping.at_step_ends() as stopped_by:
      assert not stopped_by()


def test_exit_codes_are_those_of_shells():
  assert errors.Exit.TERMINATED == 128 + signal.SIGTERM
  assert errors.Exit.INTERRUPTED == 128 + signal.SIGINT
  assert errors.Exit.UNREAD == 128 + signal.SIGPIPE
