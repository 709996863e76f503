"""Inputs that nobody meant: exit code 0 or 2, no traceback, soon, in 1 GiB.

  python benchmarks/reliability/fuzz.py --seed=0 --count=1500

Rows in the formats of dap/data/formats, gin files, --gin bindings, words of the
command line, SentencePiece models, safetensors, checkpoints of T5X and
configurations of Hugging Face, each changed at random from one that works. Time
is the processor's, above what the unchanged input takes.
"""

import gzip
import os
import pathlib
import random
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import lab as lab_lib
import mutations
from lab import ROOT, Lab, Outcome

_SECONDS, _MIB, _CHARACTERS = 2.0, 1024, 6_000
_WEIGHTS = {
  'rows': 400,
  'gin files': 230,
  'bindings': 330,
  'words': 120,
  'SentencePiece models': 110,
  'safetensors': 120,
  'config.json, index.json': 90,
  'T5X msgpack, .zarray': 100,
}
_FIXTURES = ROOT / 'tests' / 'fixtures'
_RAW = _FIXTURES / 'data' / 'raw'
_ROWS = {
  'jsonl': _FIXTURES / 'data' / 'pairs.jsonl',
  'hh': _RAW / 'hh-rlhf' / 'helpful-base' / 'train.jsonl',
  'helpsteer': _RAW / 'HelpSteer2' / 'train.jsonl',
  'helpsteer2_preference': _RAW / 'HelpSteer2/preference/preference.jsonl',
  'ultrafeedback': _RAW / 'UltraFeedback' / 'train.jsonl',
  'ultrafeedback_binarized': _RAW / 'ultrafeedback_binarized/train_prefs.jsonl',
  'summaries': _RAW / 'summarize_from_feedback/comparisons/train.jsonl',
  'arena': _RAW / 'chatbot_arena_conversations' / 'train.jsonl',
}
_MESSAGES = (
  b'{"prompt": [{"role": "user", "content": "Name a fruit."}], "chosen":'
  b' [{"role": "assistant", "content": "A pear."}], "rejected": [{"role":'
  b' "assistant", "content": "A stone."}]}\n'
)
_EXPERIMENTS = (
  'embedded/sft', 'embedded/online_ipo', 'embedded/ppo',
  'embedded/best_of_four', 'embedded/preference_model', 'studies/gap',
)  # fmt: skip
_NEEDS = 'INITIAL_CHECKPOINT_PATH', 'ANNOTATOR_CHECKPOINT_PATH'
_OF_LINE = re.compile(r'^([A-Za-z_][\w./]*)\s*=', re.MULTILINE)
# Wrong at every place, so that a training that takes one cannot be meant.
_OF_NO_KIND = ("'x'", "{'a': 1}", '{}', "('a', 'b')", "''", '@losses.ipo_loss')


class Case(NamedTuple):
  """A command with an input.

  Attributes:
    words: of the command line.
    told: what was changed, to repeat it.
    like: the command without the change, whose time is the start-up's.
  """

  words: Sequence[str]
  told: str
  like: str


class Inputs:
  """Makes cases in a folder."""

  def __init__(self, lab: Lab, rng: random.Random):
    self.lab, self.rng, self.folder = lab, rng, lab.it
    self.out = lab.work / 'out'
    self.plain: dict[str, Sequence[str]] = {}
    self.model = lab.folder / 'vocabulary.model'
    self.names = {
      name: sorted(set(_OF_LINE.findall(self._whole(name))))
      for name in _EXPERIMENTS
    }

  def _whole(self, name: str) -> str:
    """An experiment with what it includes, and what those include."""
    texts, todo = [], [f'configs/{name}.gin']
    while todo:
      text = (ROOT / todo.pop()).read_text()
      texts.append(text)
      todo += re.findall(r"^include '(.*)'", text, re.MULTILINE)
    return '\n'.join(texts)

  def prepare(self) -> None:
    """A vocabulary to damage."""
    rows = self.lab.folder / 'rows.jsonl'
    row = b'{"prompt": "say one two", "chosen": "one", "rejected": "two"}\n'
    rows.write_bytes(row * 20)
    self.lab.make(
      self._data('jsonl', rows, '--gin.VOCABULARY_SIZE=275', bytewise=False)
    )
    shutil.copy(self.out / 'vocabulary.model', self.model)

  def _data(
    self, part: str, rows: pathlib.Path, *others: str, bytewise: bool = True
  ) -> list[str]:
    test = [] if part == 'ultrafeedback' else [f'--gin.TEST_FILE={str(rows)!r}']
    return [
      'data',
      f'--gin_file=gin/data/{part}.gin',
      *(['--gin_file=gin/data/bytes.gin'] if bytewise else []),
      f'--gin.TRAIN_FILE={str(rows)!r}',
      *test,
      f'--gin.data.prepare_data.cache_dir={str(self.out)!r}',
      *others,
    ]

  def case(self, kind: str) -> Case:
    """One of a kind; its files lie in the folder of work."""
    lab_lib.begin_with(self.lab, None)
    self.folder.mkdir(parents=True)
    return getattr(self, '_' + re.sub(r'\W+', '_', kind).lower().strip('_'))()

  def _rows(self) -> Case:
    part = self.rng.choice([*_ROWS, 'messages'])
    data = _MESSAGES * 3 if part == 'messages' else _ROWS[part].read_bytes()
    changed = mutations.of_rows(self.rng, data)
    rows = self.folder / 'rows.jsonl'
    if self.rng.random() < 0.1:
      rows = self.folder / 'rows.jsonl.gz'
      changed = gzip.compress(changed, mtime=0)
      if self.rng.random() < 0.5:
        changed = mutations.of_bytes(self.rng, changed)
    rows.write_bytes(changed)
    others = self.rng.choice([[], ['--gin.MISTAKES=@sources.leave_out']])
    self.plain['data'] = self._data('jsonl', _ROWS['jsonl'])
    return Case(self._data(part, rows, *others), f'{part} {others}', 'data')

  def _gin_files(self) -> Case:
    name = self.rng.choice(_EXPERIMENTS)
    path = self.folder / 'own.gin'
    text = (ROOT / 'configs' / f'{name}.gin').read_text()
    path.write_text(mutations.of_gin(self.rng, text), errors='surrogatepass')
    return self._configured(name, [f'--gin_file={path}'], f'own.gin of {name}')

  def _bindings(self) -> Case:
    if self.rng.random() < 0.1:
      return self._trained()
    name = self.rng.choice(_EXPERIMENTS)
    given = []
    for _ in range(self.rng.choice((1, 1, 2))):
      key = self.rng.choice(self.names[name])
      if self.rng.random() < 0.05:
        key = self.rng.choice(('', '.', 'a/', 'x' * 300, 'é', 'a b', '%X', '@'))
      given.append(f'--gin.{key}={self.rng.choice(mutations.ODD_WORDS)}')
    return self._configured(name, [f'--gin_file=configs/{name}.gin', *given])

  def _trained(self) -> Case:
    """A value that cannot be meant, and no dry run."""
    import tasks

    plain = tasks.sft(self.out)
    key = self.rng.choice(self.names['embedded/sft'])
    given = f'--gin.{key}={self.rng.choice(_OF_NO_KIND)}'
    self.plain['sft'] = plain
    return Case([*plain, given], f'train sft {given}', 'sft')

  def _configured(self, name: str, words: list[str], told: str = '') -> Case:
    command = 'study' if name.startswith('studies') else 'train'
    folder = 'STUDY_DIR' if command == 'study' else 'MODEL_DIR'
    how = self.rng.choice(('--dry_run', '--show_config', '--show_config'))
    rest = [f'--gin.{folder}={str(self.out)!r}', how]
    file = f'--gin_file=configs/{name}.gin'
    rest += [
      f"--gin.{needed}='x'" for needed in _NEEDS if needed in self.names[name]
    ]
    plain = [command, file, *rest]
    like = f'{name} {how}'
    self.plain[like] = plain
    return Case([command, *words, *rest], f'{told} {words} {how}', like)

  def _words(self) -> Case:
    from dap.commands import COMMANDS

    pool = [
      *COMMANDS, *(f'--{name}' for name in COMMANDS), 'trian', '', ' ', '-',
      '--', '-h', '--help', '--version', '--dry_run', '--dry-run',
      '--show_config', '--measure', '--verify', '--accept_code', '--gin_file',
      '--gin_file=', '--gin_file=nothing.gin', '--gin_file=.',
      '--gin_file=/dev/null', '--gin_file=configs/embedded/sft.gin',
      '--gin_file=configs', '--gin.', '--gin', '--gin.X', '--gin.=1',
      '--gin.X=', '--gin.BATCH_SIZE', '--gin.BATCH_SIZE=8', '--to', '--to=dap',
      '--to=hf', '--to=x', '--dtype=float16', '--dtype', 'a', 'é', '\u202e',
      '\ud800', 'x' * 5_000, '*', '~', '/nothing', 'file://x', 's3:/', '%s',
    ]  # fmt: skip
    first = [self.rng.choice(pool[: len(COMMANDS)])] * (self.rng.random() < 0.7)
    more = [self.rng.choice(pool) for _ in range(self.rng.randint(0, 4))]
    words = [*first, *more]
    self.plain['--help'] = ['--help']
    return Case(words, repr(words)[:300], '--help')

  def _sentencepiece_models(self) -> Case:
    path = self.folder / 'vocabulary.model'
    path.write_bytes(mutations.of_bytes(self.rng, self.model.read_bytes()))
    words = self._data(
      'jsonl',
      _ROWS['jsonl'],
      '--gin_file=gin/data/sentencepiece.gin',
      f'--gin.VOCABULARY_FILE={str(path)!r}',
      bytewise=False,
    )
    self.plain['data'] = self._data('jsonl', _ROWS['jsonl'])
    return Case(words, 'vocabulary.model', 'data')

  def _convert(
    self,
    source: pathlib.Path,
    files: str,
    change: Callable[[random.Random, bytes], bytes],
  ) -> Case:
    copied = self.folder / source.name
    shutil.copytree(source, copied)
    path = self.rng.choice(sorted(copied.rglob(files)))
    path.write_bytes(change(self.rng, path.read_bytes()))
    out = str(self.out / source.name)
    like = f'convert {source.name}'
    self.plain[like] = ['convert', str(source), out, '--to=dap']
    told = f'{source.name}/{path.relative_to(copied)}'
    return Case(['convert', str(copied), out, '--to=dap'], told, like)

  def _safetensors(self) -> Case:
    source = _FIXTURES / 'hf' / self.rng.choice(('t5_1_0', 't5_1_1', 'mt5'))
    return self._convert(source, '*.safetensors', mutations.of_safetensors)

  def _config_json_index_json(self) -> Case:
    name = self.rng.choice(('t5_1_0', 't5_1_1', 'mt5'))
    return self._convert(_FIXTURES / 'hf' / name, '*.json', mutations.of_file)

  def _t5x_msgpack_zarray(self) -> Case:
    import msgpack

    name = self.rng.choice(('native', 'native_scanned'))
    source = next((_FIXTURES / 't5x' / name).glob('checkpoint_*'))
    if self.rng.random() < 0.5:
      return self._convert(source, '.zarray', mutations.of_file)

    def change(rng: random.Random, data: bytes) -> bytes:
      hook = lambda code, value: msgpack.ExtType(code, value)
      read = lambda data: msgpack.unpackb(
        data, ext_hook=hook, strict_map_key=False
      )
      write = lambda value: msgpack.packb(value) or b''
      return mutations.of_file(rng, data, read, write)

    return self._convert(source, 'checkpoint', change)


class Row:
  """What came of one kind of inputs."""

  def __init__(self) -> None:
    self.codes = {0: 0, 2: 0}
    self.tracebacks, self.others, self.slow, self.large, self.left = [0] * 5
    self.seconds, self.mib, self.characters = 0.0, 0.0, 0

  def take(self, ended: lab_lib.Ended, usual: float) -> list[str]:
    """Counts it; gives what of it should not be."""
    told = []
    if ended.faulty:
      self.tracebacks += 1
      told.append(f'traceback, exit code {ended.code}: {ended.err[-700:]}')
    elif ended.code not in (0, 2):
      self.others += 1
      told.append(f'exit code {ended.code}: {ended.err[-400:]}')
    else:
      self.codes[ended.code] += 1
    above = ended.cpu - usual
    if above > _SECONDS:
      self.slow += 1
      told.append(f'{above:.1f} s above start-up')
    if ended.mib > _MIB:
      self.large += 1
      told.append(f'{ended.mib:.0f} MiB')
    if len(ended.err) > _CHARACTERS:
      told.append(f'a message of {len(ended.err)} characters')
    self.seconds = max(self.seconds, above)
    self.mib = max(self.mib, ended.mib)
    self.characters = max(self.characters, len(ended.err))
    return told


def campaign(lab: Lab, rng: random.Random, count: int) -> Outcome:
  """Gives `count` inputs."""
  inputs, usual = Inputs(lab, rng), {}
  rows = {kind: Row() for kind in _WEIGHTS}
  faults: list[str] = []
  inputs.prepare()
  lab.patience = 60.0
  for number, kind in enumerate(lab.kinds(count, _WEIGHTS)):
    case = inputs.case(kind)
    if case.like not in usual:
      plain = inputs.plain[case.like]
      lab_lib.copy(lab.work, lab.folder / 'aside')
      for _ in range(2):
        shutil.rmtree(inputs.out, ignore_errors=True)
        usual[case.like] = lab.make(plain).cpu
      lab_lib.begin_with(lab, lab.folder / 'aside')
    own = lab.own() and not any('\ud800' in word for word in case.words)
    before = None if kind != 'words' else lambda: os.chdir(lab.it)
    ended = lab.call(case.words, before, own and before is None)
    told = rows[kind].take(ended, usual[case.like] + 8.0 * own)
    if ended.code and case.words[:1] == ['convert'] and _half(inputs.out):
      rows[kind].left += 1
      told.append('something half-written is left')
    if told:
      kept = lab.folder / 'kept' / f'{number}'
      lab_lib.copy(lab.it, kept)
      faults.append(f'case {number}, {kind}, {case.told}: {"; ".join(told)}')
      lab_lib.say(faults[-1])
    if number % 50 == 49:
      lab_lib.say(f'{number + 1} of {count}; {len(faults)} faults')
  return Outcome(_table(rows), faults)


def _half(folder: pathlib.Path) -> bool:
  return folder.exists() and any(folder.iterdir())


def _table(rows: dict[str, Row]) -> str:
  lines: list[Sequence[object]] = [
    [
      'input', 'cases', 'exit 0', 'exit 2', 'tracebacks', 'other exits',
      'over 2 s', 'over 1 GiB', 'half-written', 'most s above start-up',
      'most MiB', 'longest message',
    ]
  ]  # fmt: skip
  for kind, row in rows.items():
    counts = [row.tracebacks, row.others]
    cases = sum(row.codes.values()) + sum(counts)
    lines.append(
      [
        kind, cases, *row.codes.values(), *counts, row.slow, row.large,
        row.left, f'{row.seconds:.1f}', f'{row.mib:.0f}', row.characters,
      ]
    )  # fmt: skip
  return lab_lib.table(lines)


if __name__ == '__main__':
  lab_lib.run({'fuzz': (campaign, 1500)}, __doc__)
