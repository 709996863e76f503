"""The campaigns of benchmarks/reliability, a few cases of each."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def run(folder, *words):
  """Runs campaigns in a warm process of its own; gives what it printed."""
  script = str(ROOT / 'benchmarks' / 'reliability')
  done = subprocess.run(
    [sys.executable, script, f'--folder={folder}', *words],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
  return done.stdout


pytestmark = pytest.mark.skipif(
  sys.platform != 'linux', reason='children are forked and killed'
)


def test_kills_damage_and_odd_inputs_have_no_fault(tmp_path):
  only = '--only=data$|convert|^rows|words|bindings|safetensors|T5X'
  printed = run(tmp_path, 'kills', 'damage', 'fuzz', '--count=4', only)
  for name in ('kills', 'damage', 'fuzz'):
    assert f'{name}: 4 cases of seed 0' in printed


def test_a_signal_and_a_second_start_lose_nothing(tmp_path):
  words = 'signals', 'doubles', '--count=1', '--only=supervised', '--seed=4'
  printed = run(tmp_path, *words)
  assert 'signals: 1 cases of seed 4' in printed
  assert 'doubles: 1 cases of seed 4' in printed
