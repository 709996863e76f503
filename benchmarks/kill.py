"""Kills a study at random moments, starts it again, and compares the results.

  python benchmarks/kill.py --kills=10 --folder=out/kill \\
    --gin_file=configs/studies/gap.gin --gin.SEEDS='(1,)'

Every word but its own three options goes to `dap study`. The study runs once
undisturbed in FOLDER/whole, which is kept for the next time, and once in
FOLDER/killed, where SIGKILL ends all its processes at random moments, spread
over its stages by how long they took. Both must end with the same bytes of
runs.jsonl.
"""

import argparse
import bisect
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
_OFTEN = 0.02  # seconds between two looks


class Moment(NamedTuple):
  """When to kill: `delay` seconds after so many stages are done."""

  stages: int
  delay: float


class Leg(NamedTuple):
  """A start of the study: how long it ran, and whether it was killed."""

  seconds: float
  killed: bool
  stages_done: int


def start(words: Sequence[str], folder: pathlib.Path) -> subprocess.Popen:
  """`dap study` into `folder`, a process group of its own, output to a log."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, '-m', 'dap.main', 'study', *words]
  path = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
  with open(folder.with_suffix('.log'), 'a') as log:
    return subprocess.Popen(
      [*command, f'--gin.STUDY_DIR={str(folder)!r}'],
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)},
      start_new_session=True,
      stdout=log,
      stderr=log,
    )


def finish(words: Sequence[str], folder: pathlib.Path) -> Leg:
  """Runs the study to its end."""
  begin = time.monotonic()
  code = start(words, folder).wait()
  if code:
    log = folder.with_suffix('.log').read_text()
    raise SystemExit(f'dap study ended with {code}:\n{log[-2000:]}')
  return Leg(time.monotonic() - begin, False, len(done(folder)))


def kill(words: Sequence[str], folder: pathlib.Path, when: Moment) -> Leg:
  """Starts the study and kills it.

  The delay counts from when this start has changed a file of a stage and the
  stages are done. A study that ends before is not killed.
  """
  begin, before = time.monotonic(), changes(folder)
  process = start(words, folder)
  while process.poll() is None and (
    len(done(folder)) < when.stages or changes(folder) == before
  ):
    time.sleep(_OFTEN)
  end = time.monotonic() + when.delay
  while process.poll() is None and time.monotonic() < end:
    time.sleep(_OFTEN)
  killed = process.poll() is None
  if killed:
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  _await_end(process.pid)
  return Leg(time.monotonic() - begin, killed, len(done(folder)))


def moments(
  whole: pathlib.Path, count: int, rng: random.Random
) -> list[Moment]:
  """Moments spread evenly over the work of a whole study, in order."""
  lines = (whole / 'costs.jsonl').read_text().splitlines()
  ends = list(itertools.accumulate(json.loads(x)['seconds'] for x in lines))
  times = sorted(rng.uniform(0, 0.9 * ends[-1]) for _ in range(count))
  stages = [bisect.bisect(ends, time) for time in times]
  begins = [0.0, *ends]
  return [Moment(i, time - begins[i]) for i, time in zip(stages, times)]


def done(folder: pathlib.Path) -> list[str]:
  """The finished stages."""
  found = (path.parent.name for path in folder.glob('stages/*/stage.json'))
  return sorted(name for name in found if not name.endswith('.partial'))


def changes(folder: pathlib.Path) -> set[tuple[str, int]]:
  """Files of the stages with the time of their last change."""
  found = set()
  for path in folder.glob('stages/*/**/*'):
    try:
      found.add((str(path), path.stat().st_mtime_ns))
    except FileNotFoundError:  # renamed since
      continue
  return found


def _await_end(group: int, seconds: float = 10.0) -> None:
  """Waits until no process of a killed group is left."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    try:
      os.killpg(group, 0)
    except ProcessLookupError:
      return
    time.sleep(_OFTEN)
  raise SystemExit(f'Processes of the killed group {group} live on.')


def compare(
  words: Sequence[str], folder: pathlib.Path, kills: int, seed: int
) -> bool:
  """Whether a killed study ends as an undisturbed one; prints its story."""
  whole, killed = folder / 'whole', folder / 'killed'
  if not (whole / 'runs.jsonl').exists():
    leg = finish(words, whole)
    print(f'undisturbed: {leg.seconds:.1f} s, {leg.stages_done} stages')
  count = 0
  for when in moments(whole, kills, random.Random(seed)):
    leg = kill(words, killed, when)
    count += leg.killed
    print(
      f'kill {count}: {leg.seconds:.1f} s after its start, {when.delay:.2f} s'
      f' after {when.stages} stages were done; {leg.stages_done} are now'
      if leg.killed
      else f'it ended before it was to be killed, after {when.stages} stages',
      flush=True,
    )
  leg = finish(words, killed)
  print(f'last start: {leg.seconds:.1f} s, {leg.stages_done} stages')
  first, second = ((run / 'runs.jsonl').read_bytes() for run in (whole, killed))
  verdict = 'equal' if first == second else 'NOT equal'
  print(f'{count} kills; runs.jsonl of {len(first)} bytes: {verdict}')
  return first == second


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the comparison; exit code 1 where the results differ."""
  parser = argparse.ArgumentParser(
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument('--kills', type=int, default=10)
  parser.add_argument('--folder', type=pathlib.Path, default='out/kill')
  parser.add_argument('--seed', type=int, default=0, help='of the moments')
  options, words = parser.parse_known_args(argv)
  same = compare(words, options.folder.absolute(), options.kills, options.seed)
  raise SystemExit(0 if same else 1)


if __name__ == '__main__':
  main()
