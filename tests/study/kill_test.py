import importlib.util
import pathlib
import random
import sys

import pytest
import tiny_study

from dap import files

ROOT = pathlib.Path(__file__).parents[2]
# Long enough for a kill to fall between the checkpoints of a run. The whole
# default study, killed more often, is benchmarks/kill.py.
SIZES = {
  'study.run.num_workers': 2,
  'ONLINE_STEPS': 60,
  'ONLINE_SAVE_STEPS': tuple(range(5, 60, 5)),
  'SETTINGS': ((1e-2, 0.1),),
  'OFFLINE_STEPS': 60,
  'OFFLINE_SAVE_STEPS': (20, 40),
}


@pytest.fixture(scope='module')
def kill():
  """The module benchmarks/kill.py."""
  path = ROOT / 'benchmarks' / 'kill.py'
  spec = importlib.util.spec_from_file_location('kill', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.skipif(sys.platform != 'linux', reason='the pool is killed so')
def test_a_study_that_was_killed_ends_with_the_same_bytes(
  kill, tmp_path, monkeypatch
):
  # Compiled once for both studies, all programs, and without much care, to save
  # the test's time.
  monkeypatch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=0')
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'compiled'))
  monkeypatch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
  words = tiny_study.argv('unused', **SIZES)[1:]
  words.remove("--gin.STUDY_DIR='unused'")
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  kill.finish(words, whole)
  moments = kill.moments(whole, 1, random.Random())
  legs = [kill.kill(words, killed, moment) for moment in moments]
  assert any(leg.killed for leg in legs), legs
  last = kill.finish(words, killed)
  story = f'killed after {moments}: {legs}'
  assert tiny_study.lines(killed) == tiny_study.lines(whole), story
  for name in ('runs.jsonl', 'study.json', 'samples.json', 'verdicts.json'):
    assert (killed / name).read_bytes() == (whole / name).read_bytes(), story
  assert last.stages_done == len(kill.done(whole))
  costs = files.read_json_lines(killed / 'costs.jsonl')
  assert {cost['key'] for cost in costs} == {
    cost['key'] for cost in files.read_json_lines(whole / 'costs.jsonl')
  }
  assert not list(killed.glob('stages/*.partial'))
