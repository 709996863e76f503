"""Flips and cuts of one file: its reader names it or makes it again.

  python benchmarks/reliability/damage.py --seed=0 --count=500

Each case damages one file of what trainings, data caches and studies keep,
gives the command that reads it, and asks `dap check`. What came of it:

- named: exit code 2, and the message has the file or a folder that it is in;
- told: passed over or made again, with a word of it, and all results as before;
- repaired: the file is as it was again, and all results as before;
- harmless: nobody read it, all results are as before, it lies there damaged;
- unnamed: exit code 2 and a message about something else;
- traceback; silent: another result, or a damaged result, and not a word.
"""

import itertools
import pathlib
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import lab as lab_lib
from lab import Lab, Outcome

_CLASSES = (
  'named', 'told', 'repaired', 'harmless', 'unnamed', 'traceback', 'silent',
)  # fmt: skip
_DAMAGE = re.compile(
  r'damaged|changed|fails|missing|left out|not what|cannot be read|needs to be'
)
# Opened by people, or by nobody: what lies there damaged changes no result.
_UNREAD = re.compile(r'samples/|configuration\.json$|costs\.jsonl$')
_OF_PEOPLE = re.compile(
  r'^it/(report\.|verdicts|frontier|figures/|runs\.jsonl|study\.json'
  r'|samples\.json|measures/|\.report)'
)


class Kind(NamedTuple):
  """Files of one kind, and who reads them.

  Attributes:
    name: of the row.
    weight: share of the cases.
    tree: name of the folder that they are in.
    files: pattern of their paths from `work`.
    reader: name of the command.
    without: patterns of what is taken away before, so that it is read.
  """

  name: str
  weight: float
  tree: str
  files: str
  reader: str
  without: tuple[str, ...] = ()


_POINT = r'it/checkpoints/(restart|checkpoint)_\d+'
_EVALUATED = 'it/points', 'it/runs.jsonl'
_STAGE = r'it/stages/[^/]+'
_ANEW = 'it/checkpoints', 'it/metrics.jsonl', 'it/stream', 'it/samples'
_REDONE = 'it/stages/evaluate_*', 'it/runs.jsonl', 'it/stages/opponent-*'
KINDS = (
  Kind('open training: params', 7, 'open', f'{_POINT}/params/.*', 'train'),
  Kind('open training: rest', 6, 'open', f'{_POINT}/rest/.*', 'train'),
  Kind('open training: metadata.json', 6, 'open', f'{_POINT}/meta.*', 'train'),
  Kind('open training: metrics.jsonl', 8, 'open', 'it/metrics.*', 'train'),
  Kind('open training: records.bin', 8, 'open', 'it/stream/rec.*', 'train'),
  Kind('open training: stream.json', 8, 'open', 'it/stream/str.*', 'train'),
  Kind('open training: others', 6, 'open', 'it/(samples/|conf).*', 'train'),
  Kind(
    'finished training: params', 8, 'trained', f'{_POINT}/params/.*',
    'evaluate', _EVALUATED,
  ),
  Kind(
    'finished training: metadata.json', 8, 'trained', f'{_POINT}/meta.*',
    'evaluate', _EVALUATED,
  ),
  Kind('finished training: metrics', 6, 'trained', 'it/metrics.*', 'train'),
  Kind('finished training: stream', 8, 'trained', 'it/stream/.*', 'train'),
  Kind('points/, runs.jsonl', 8, 'trained', 'it/(points|runs).*', 'evaluate'),
  Kind(
    'cache, train: arrays', 18, 'trained', r'it/cache/.*\.npy', 'train', _ANEW
  ),
  Kind(
    'cache, train: facts.json', 12, 'trained', 'it/cache/.*facts.json',
    'train', _ANEW,
  ),
  Kind(
    'cache, train: rows.jsonl', 8, 'trained', 'it/cache/.*rows.jsonl', 'train',
    _ANEW,
  ),
  Kind('cache, data', 108, 'cache', 'it/.*', 'data'),
  Kind(
    'stages: arrays', 28, 'study', f'{_STAGE}/[^/]*[.]np[yz]', 'study'
  ),
  Kind('stages: prepared arrays', 22, 'study', f'{_STAGE}/arrays/.*', 'study'),
  Kind('stages: stage.json', 24, 'study', f'{_STAGE}/stage.json', 'study'),
  Kind(
    'stages: other json', 22, 'study', f'{_STAGE}/(?!stage)[^/]*[.]json',
    'study',
  ),
  Kind('stages: metrics.jsonl', 10, 'study', f'{_STAGE}/metrics.*', 'study'),
  Kind('stages: stream', 16, 'study', f'{_STAGE}/stream/.*', 'study'),
  Kind(
    'stages: checkpoints', 14, 'study',
    f'{_STAGE}/checkpoints/[^/]*/(params|meta).*', 'study', _REDONE,
  ),
  Kind('stages: rest', 6, 'study', f'{_STAGE}/checkpoints/.*/rest/.*', 'study'),
  Kind('runs.jsonl, study', 8, 'study', 'it/runs.jsonl', 'study'),
  Kind('study.json, study', 8, 'study', 'it/study.json', 'study'),
  Kind('samples.json, study', 8, 'study', 'it/samples.json', 'study'),
  Kind('sealed.json, study', 8, 'study', 'it/sealed.json', 'study'),
  Kind('verdicts.json, study', 3, 'study', 'it/verdicts.json', 'study'),
  Kind('report.html, report.md', 3, 'study', r'it/report\..*', 'study'),
  Kind('.report', 3, 'study', r'it/\.report', 'study'),
  Kind('figures', 3, 'study', 'it/(figures/.*|frontier.*)', 'study'),
  Kind('costs.jsonl, study', 4, 'study', 'it/costs.jsonl', 'study'),
  Kind('runs.jsonl, report', 6, 'study', 'it/runs.jsonl', 'report'),
  Kind(
    'study.json, samples.json, sealed.json, report', 8, 'study',
    'it/(study|samples|sealed).json', 'report',
  ),
  Kind('measures', 5, 'measured', 'it/measures/.*', 'coverage'),
  Kind(
    'arrays of points, report', 4, 'study', f'{_STAGE}/step_.*npz', 'report'
  ),
  Kind('costs.jsonl, report', 2, 'study', 'it/costs.jsonl', 'report'),
)  # fmt: skip


class Trees:
  """The folders that files are damaged in, and what reads them."""

  def __init__(self, lab: Lab):
    import tasks

    self._lab = lab
    self._made: dict[str, pathlib.Path] = {}
    self.words: dict[str, Sequence[str]] = {
      'train': tasks.online(lab.made, lab.it, 12, (4, 8)),
      'evaluate': tasks.evaluate(lab.made, lab.it),
      'data': tasks.data(lab.it),
      'study': tasks.study(lab.it),
      'report': tasks.report(lab.it),
      'coverage': tasks.coverage(lab.it),
    }

  def of(self, name: str) -> pathlib.Path:
    """The undamaged folder, made once."""
    if name not in self._made:
      self._made[name] = self._lab.folder / 'whole' / name
      lab_lib.begin_with(self._lab, None)
      getattr(self, f'_{name}')()
      lab_lib.copy(self._lab.work, self._made[name])
    return self._made[name]

  def after(self, name: str, reader: str) -> pathlib.Path:
    """What the reader leaves of the undamaged folder."""
    if (name, reader) == ('open', 'train'):
      return self.of('finished')
    return self.of(name)

  def _open(self) -> None:
    """Two restart points, after a checkpoint; then a signal."""
    import tasks

    tasks.starting_points(self._lab)
    start = self._lab.start(self.words['train'], _stops_at(10))
    assert start.wait().code == 143

  def _finished(self) -> None:
    lab_lib.begin_with(self._lab, self.of('open'))
    self._lab.make(self.words['train'])

  def _trained(self) -> None:
    import tasks

    tasks.starting_points(self._lab)
    self._lab.make(self.words['train'])
    self._lab.make(self.words['evaluate'])

  def _cache(self) -> None:
    self._lab.make(self.words['data'])

  def _study(self) -> None:
    self._lab.make(self.words['study'])

  def _measured(self) -> None:
    self._lab.make(self.words['coverage'])


def _stops_at(last: int) -> Callable[[], None]:
  """For `before`: restart points, and SIGTERM of itself at a step."""

  def before() -> None:
    import os

    from dap.training import metrics

    lab_lib.often(3)()
    write = metrics.MetricsLog.write

    def then(self, step, values) -> None:
      write(self, step, values)
      if step == last:
        os.kill(os.getpid(), signal.SIGTERM)

    metrics.MetricsLog.write = then

  return before


class Case(NamedTuple):
  """A damaged file: its path from `work`, how, and its bytes since."""

  name: str
  how: str
  data: bytes


def campaign(lab: Lab, rng: random.Random, count: int) -> Outcome:
  """Damages `count` files, one at a time."""
  trees, faults = Trees(lab), []
  kinds = {kind.name: kind for kind in KINDS}
  weights = {kind.name: kind.weight for kind in KINDS}
  rows: dict[str, dict[str, int]] = {
    kind.name: {each: 0 for each in (*_CLASSES, 'check')} for kind in KINDS
  }
  for number, name in enumerate(lab.kinds(count, weights)):
    kind = kinds[name]
    trees.after(kind.tree, kind.reader)
    case = _prepared(lab, rng, kind, trees)
    checked = _seen_by_check(lab, case)
    found, text = _read(lab, kind, case, trees)
    rows[name][found] += 1
    rows[name]['check'] += checked == 'named'
    told = f'case {number}, {name}, {case.name}, {case.how}: {found}'
    if found in ('unnamed', 'traceback', 'silent') or checked == 'traceback':
      faults.append(f'{told}; check: {checked}; {text[-500:]!r}')
    elif checked == 'unseen' and not _UNREAD.search(case.name):
      faults.append(f'{told}; check sees nothing')
    lab_lib.say(f'{number + 1} of {count}; {told}; check: {checked}')
  return Outcome(_table(rows), faults)


def _prepared(lab: Lab, rng: random.Random, kind: Kind, trees: Trees) -> Case:
  """Damages one file of the kind."""
  lab_lib.begin_with(lab, trees.of(kind.tree))
  pattern = re.compile(kind.files)
  paths = sorted(
    path.relative_to(lab.work).as_posix()
    for path in lab.work.rglob('*')
    if path.is_file() and path.stat().st_size
  )
  names = [name for name in paths if pattern.fullmatch(name)]
  if not names:
    raise SystemExit(f'{kind.name}: no file of {kind.tree} is {kind.files}')
  name = rng.choice(names)
  data = (lab.work / name).read_bytes()
  how, damaged = damage(rng, data)
  (lab.work / name).write_bytes(damaged)
  for pattern in kind.without:
    for path in lab.work.glob(pattern):
      shutil.rmtree(path) if path.is_dir() else path.unlink()
  return Case(name, how, damaged)


def damage(rng: random.Random, data: bytes) -> tuple[str, bytes]:
  """How, and bytes that are not `data`."""
  at = rng.randrange(len(data))
  digits = [i for i, byte in enumerate(data[:100_000]) if 48 <= byte <= 57]
  match rng.randrange(5):
    case 0:
      return f'cut to {at} bytes', data[:at]
    case 1 if digits:
      at = rng.choice(digits)
      new = bytes([48 + (data[at] - 48 + rng.randint(1, 9)) % 10])
      return f'another digit at {at}', data[:at] + new + data[at + 1 :]
    case 2:
      new = bytes(16)[: len(data) - at]
      if data[at : at + 16] != new:
        return f'zeros from {at}', data[:at] + new + data[at + 16 :]
  bit = 1 << rng.randrange(8)
  new = bytes([data[at] ^ bit])
  return f'bit {bit} at {at}', data[:at] + new + data[at + 1 :]


def _seen_by_check(lab: Lab, case: Case) -> str:
  ended = lab.call(['check', str(lab.it)])
  if ended.faulty:
    return 'traceback'
  if ended.code == 0:
    return 'unseen'
  return 'named' if _mentions(ended.err, lab, case.name) else 'unnamed'


def _read(lab: Lab, kind: Kind, case: Case, trees: Trees) -> tuple[str, str]:
  """What the reader makes of it, and what it printed."""
  ended = lab.call(trees.words[kind.reader], None, lab.own())
  if ended.faulty:
    return 'traceback', ended.text
  if ended.code:
    named = _mentions(ended.err, lab, case.name)
    return 'named' if named else 'unnamed', ended.text
  path = lab.work / case.name
  still = path.exists() and path.read_bytes() == case.data
  found = lab.differences(trees.after(kind.tree, kind.reader), lab.work)
  others = [
    name
    for name in itertools.chain(*found.values())
    if name != case.name and not _is_part(name, case.name)
  ]
  told = any(
    _DAMAGE.search(line) and _mentions(line, lab, case.name)
    for line in ended.text.splitlines()
  )
  if others or (still and _OF_PEOPLE.match(case.name) and not told):
    return 'silent', f'{ended.text} {others}'
  if told:
    return 'told', ''
  return 'harmless' if still else 'repaired', ''


def _is_part(name: str, damaged: str) -> bool:
  """Whether a file is the metadata.json of the damaged file's checkpoint."""
  folder = name.removesuffix('metadata.json')
  return folder != name and damaged.startswith(folder)


def _mentions(text: str, lab: Lab, name: str) -> bool:
  """Whether a text has the file, or a folder of it below the one of work."""
  return any(place in text for place in _places(lab, name))


def _places(lab: Lab, name: str) -> Iterator[str]:
  path = lab.work / name
  yield path.name
  while path != lab.it:
    yield str(path)
    path = path.parent


def _table(rows: dict[str, dict[str, int]]) -> str:
  lines: list[Sequence[object]] = [
    ['file', 'tried', *_CLASSES, 'named by `dap check`']
  ]
  for name, row in rows.items():
    tried = sum(row[each] for each in _CLASSES)
    if tried:
      lines.append([name, tried, *row.values()])
  columns = list(zip(*(line[1:] for line in lines[1:])))
  return lab_lib.table([*lines, ['all', *map(sum, columns)]])


if __name__ == '__main__':
  lab_lib.run({'damage': (campaign, 500)}, __doc__)
