import json
import time

import numpy as np
import pytest
import tensorboardX

from dap import errors
from dap.training import metrics


def lines(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_numbers_are_written_by_step_and_passed_on(tmp_path):
  seen = []
  log = metrics.MetricsLog(tmp_path, lambda *given: seen.append(given))
  log.write(5, {'loss': np.float32(0.5)})
  log.write(10, {'loss': np.float32(0.25)})
  assert lines(tmp_path) == [
    {'step': 5, 'loss': 0.5},
    {'step': 10, 'loss': 0.25},
  ]
  assert seen == [(5, {'loss': 0.5}), (10, {'loss': 0.25})]


def test_a_restart_drops_what_it_trains_again(tmp_path):
  log = metrics.MetricsLog(tmp_path)
  log.truncate(0)  # there is no file yet
  for step in (5, 10, 15):
    log.write(step, {'loss': 1.0})
  log.truncate(10)
  assert [line['step'] for line in lines(tmp_path)] == [5, 10]


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_stops_the_run_and_is_not_written(
  tmp_path, value
):
  log = metrics.MetricsLog(tmp_path)
  with pytest.raises(errors.InputError, match='at step 7 grad_norm is not'):
    log.write(7, {'loss': 1.0, 'grad_norm': value})
  assert not (tmp_path / 'metrics.jsonl').exists()


def test_tensorboard_gets_the_same_numbers(tmp_path, monkeypatch):
  writer = tensorboardX.SummaryWriter
  monkeypatch.setattr(
    tensorboardX,
    'SummaryWriter',
    lambda path, **given: writer(path, **{**given, 'flush_secs': 0.01}),
  )
  write = metrics.tensorboard(tmp_path)
  assert not list(tmp_path.iterdir())  # nothing before the first numbers
  write(5, {'loss': 0.5})
  write(10, {'loss': 0.25})
  (path,) = (tmp_path / 'tensorboard').glob('events.*')
  end = time.monotonic() + 10
  while path.read_bytes().count(b'loss') < 2:  # written by a thread
    assert time.monotonic() < end
    time.sleep(0.05)
