import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from dap import files, progress
from dap.errors import InputError
from dap.stages import pool
from dap.stages.artefacts import Stage

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # for workers


@dataclasses.dataclass(frozen=True)
class Work:
  number: int = 0
  seconds: float = dataclasses.field(default=0.0, compare=False)
  function: Any = None


def add(config, inputs, work_dir):
  """Its number plus its inputs' sums, in steps that survive a kill."""
  files.append_json_lines(
    work_dir.parents[1] / 'log.jsonl', [{'n': os.getpid()}]
  )
  total = sum(int((each / 'sum').read_text()) for each in inputs.values())
  done = work_dir / 'done'
  begun = int(done.read_text()) if done.exists() else 0
  with progress.track(f'add {config.number}', 10, start=begun) as tick:
    for step in range(begun, 10):
      time.sleep(config.seconds / 10)
      files.write_atomically(done, str(step + 1))
      tick(step + 1)
  files.write_atomically(work_dir / 'sum', str(config.number + total))


def sum_of_matrix(config, inputs, work_dir):
  import jax
  import jax.numpy as jnp

  product = jax.jit(lambda x: jnp.sum(x @ x))(jnp.ones((64, 64)))
  report = {
    'value': float(product),
    'cores': len(os.sched_getaffinity(0)),
    'threads': os.environ['NPROC'],
    'malloc': os.environ['GLIBC_TUNABLES'],
  }
  files.write_json(work_dir / 'report.json', report)
  print('a line from a worker')


def refuse(config, inputs, work_dir):
  raise InputError('beta must be > 0, got -1.')


def fail(config, inputs, work_dir):
  raise RuntimeError('our own mistake')


def die(config, inputs, work_dir):
  os.kill(os.getpid(), signal.SIGKILL)


def study(seconds=0.0):
  """Twelve stages, each of which reads the two before it."""
  stages = []
  for i in range(12):
    inputs = {f'input{k}': stages[k] for k in range(max(0, i - 2), i)}
    inputs = inputs if i % 3 else {}
    stages.append(Stage(f'add{i}', add, Work(i, seconds), inputs))
  return stages


def results(folders):
  names = [folder.name.split('-')[0] for folder in folders]
  return {
    name: {
      path.name: path.read_bytes()
      for path in sorted(folder.iterdir())
      if path.name != 'stage.json'  # says who made it, when
    }
    for name, folder in zip(names, folders)
  }


def test_workers_and_this_process_give_the_same_results(tmp_path):
  here = pool.run_stages(study(), root=tmp_path / 'here')
  there = pool.run_stages(study(), root=tmp_path / 'there', num_workers=2)
  sums = [(folder / 'sum').read_text() for folder in there]
  # 0, 1 = 1 + 0, 2 + 1 + 0, 3, 4 + 3 + 2 + 1 + 0, ...
  assert sums[:5] == ['0', '1', '3', '3', '10']
  assert sums == [(folder / 'sum').read_text() for folder in here]
  log = files.read_json_lines(tmp_path / 'there' / 'log.jsonl')
  assert len(log) == 12
  assert len({line['n'] for line in log} - {os.getpid()}) == 2


def test_a_worker_has_its_cores_threads_and_malloc(tmp_path, capsys):
  (folder,) = pool.run_stages(
    [Stage('matrix', sum_of_matrix)], root=tmp_path, num_workers=1
  )
  report = files.read_json(folder / 'report.json')
  assert report['value'] == 64**3
  assert report['cores'] == 1
  assert report['threads'] == '1'
  assert 'glibc.malloc.hugetlb=1' in report['malloc']
  assert 'NPROC' not in os.environ
  shown = capsys.readouterr().out
  assert 'a line from a worker' in shown
  assert re.search(r'matrix-[0-9a-f]{16}: .* s; 1 of 1 stages', shown)


REFUSED = r'beta must be > 0(.|\n)*in stage bad-'
FAILED = r'Stage bad-.* failed(.|\n)*our own mistake'


@pytest.mark.parametrize(
  ('num_workers', 'function', 'kind', 'message'),
  [
    (0, refuse, InputError, REFUSED),
    (0, fail, pool.StageError, FAILED),
    (1, refuse, InputError, REFUSED),
    (1, fail, pool.StageError, FAILED),
  ],
)
def test_a_failure_names_its_stage_and_a_restart_goes_on(
  tmp_path, num_workers, function, kind, message
):
  good = Stage('good', add, Work(1), weight=2.0)
  bad = Stage('bad', function, None, {'good': good})
  after = Stage('after', add, Work(2), {'bad': bad})
  for _ in range(2 - num_workers):
    with pytest.raises(kind, match=message):
      pool.run_stages([after], root=tmp_path, num_workers=num_workers)
  assert len(files.read_json_lines(tmp_path / 'log.jsonl')) == 1  # good, once


def test_a_worker_that_is_killed_is_reported(tmp_path):
  with pytest.raises(InputError, match='SIGKILL.*memory.*num_workers=1'):
    pool.run_stages([Stage('bad', die)], root=tmp_path, num_workers=1)


def test_what_cannot_be_sent_to_a_worker_is_refused(tmp_path):
  stage = Stage('local', add, Work(function=lambda x: x))
  with pytest.raises(InputError, match='cannot be sent.*in a module'):
    pool.run_stages([stage], root=tmp_path, num_workers=1)


PROGRAM = f"""
import sys
import {__name__} as pool_test
from dap.stages import pool
if __name__ == '__main__':
  pool.run_stages(pool_test.study(0.3), root=sys.argv[1], num_workers=2)
"""


def alive_in_group(group):
  """Processes of a process group that still run."""
  found = []
  for entry in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      state, _, of_group = entry.read_text().rpartition(')')[2].split()[:3]
    except (FileNotFoundError, ProcessLookupError):
      continue
    if int(of_group) == group and state != 'Z':
      found.append(entry.parent.name)
  return found


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_a_killed_study_leaves_no_process_and_ends_the_same(
  tmp_path, monkeypatch
):
  (tmp_path / 'program.py').write_text(PROGRAM)
  root = tmp_path / 'study'
  log = root / 'log.jsonl'
  for lines in (1, 6):
    process = subprocess.Popen(
      [sys.executable, tmp_path / 'program.py', root],
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
      start_new_session=True,
      stdout=subprocess.DEVNULL,
    )
    while len(files.read_json_lines(log)) < lines:
      assert process.poll() is None
      time.sleep(0.02)
    time.sleep(0.1)
    process.kill()
    process.wait()
    end = time.monotonic() + 5
    while alive := alive_in_group(process.pid):
      assert time.monotonic() < end, alive
      time.sleep(0.02)
  interrupted = pool.run_stages(study(), root=root, num_workers=2)
  monkeypatch.setenv('NPROC', '1')  # the threads of a worker
  unbroken = pool.run_stages(study(), root=tmp_path / 'b')
  assert results(interrupted) == results(unbroken)
  costs = files.read_json_lines(root / 'costs.jsonl')
  assert len({cost['key'] for cost in costs}) == 12
  assert any(cost['resumed'] for cost in costs)
