"""Two starts of one MODEL_DIR: one trains, the other is refused by name.

  python benchmarks/reliability/doubles.py --seed=0 --count=20

The second start comes at once or at a random instant of the first. One must
train to its end, the other end with code 2 and name the first's process. A
third start then says that all is done, and what is left is an unbroken run's:
each step of metrics once, the stream's chain whole, nothing else.
"""

import pathlib
import random
import sys
import time
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import lab as lab_lib
from lab import Lab, Outcome

_WEIGHTS = {'train, supervised': 1, 'train, online with a stream': 1}
_COLUMNS = 'refused', 'not refused', 'both failed', 'third failed', 'different'


def campaign(lab: Lab, rng: random.Random, count: int) -> Outcome:
  """`count` double starts."""
  seconds: dict[str, float] = {}
  rows: dict[str, dict[str, int]] = {}
  faults: list[str] = []
  for case, kind in enumerate(lab.kinds(count, _WEIGHTS)):
    words = _words(lab, kind)
    if kind not in rows:
      rows[kind] = {each: 0 for each in _COLUMNS}
      begin = time.monotonic()
      lab.whole(words)
      seconds[kind] = time.monotonic() - begin
    share = 0.0 if rng.random() < 1 / 3 else rng.uniform(0, 0.8)
    begin = time.monotonic()
    told = _double(lab, words, share * seconds[kind], rows[kind])
    seconds[kind] = min(seconds[kind], time.monotonic() - begin)
    faults += [f'case {case}, {kind}, {share:.2f}: {each}' for each in told]
    lab_lib.say(f'{case + 1} of {count}; {kind}: {told or "refused"}')
  lines: list[Sequence[object]] = [['command', 'double starts', *_COLUMNS]]
  for kind, row in rows.items():
    tried = sum(row[each] for each in _COLUMNS[:3])
    lines.append([kind, tried, *row.values()])
  return Outcome(lab_lib.table(lines), faults)


def _words(lab: Lab, kind: str) -> Sequence[str]:
  import tasks

  if kind == 'train, supervised':
    return tasks.sft(lab.it)
  return tasks.online(tasks.starting_points(lab), lab.it)


def _double(
  lab: Lab, words: Sequence[str], instant: float, row: dict[str, int]
) -> list[str]:
  """Two starts, then a third; what of it was not as it should be."""
  own, told = lab.own(), []
  lab_lib.begin_with(lab, None)
  starts = [lab.start(words, None, own)]
  time.sleep(instant + 4.0 * own * (instant > 0))
  if starts[0].poll() is not None:  # over already
    return _double(lab, words, instant / 2, row)
  starts.append(lab.start(words, None, own))
  ended = [start.wait() for start in starts]
  codes = [each.code for each in ended]
  if codes == [0, 0] and instant > 0 and ' 0/' not in ended[1].out:
    return _double(lab, words, instant / 2, row)  # over before the second asked
  if sorted(codes) == [0, 2]:
    other, refused = starts[codes.index(0)], ended[codes.index(2)]
    named = f'process {other.process} ' in refused.err
    row['refused' if named else 'not refused'] += 1
    if not named:
      told.append(f'process {other.process} is not named: {refused.err}')
  else:
    row['not refused' if 0 in codes else 'both failed'] += 1
    told.append(f'exit codes {codes}: {ended[0].err} {ended[1].err}')
  third = lab.call(words)
  if third.code or ' 0/' in third.out:
    row['third failed'] += 1
    told.append(f'the third start: {third.code} {third.text[-400:]}')
  found = lab.differences(lab.whole(words), lab.work)
  checked = lab.call(['check', str(lab.it)])
  if any(found.values()) or checked.code:
    row['different'] += 1
    told.append(f'{found} {checked.err[-400:]}')
  return told


if __name__ == '__main__':
  lab_lib.run({'doubles': (campaign, 20)}, __doc__)
