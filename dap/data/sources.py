"""Layer 3. Where preference data comes from: files, read and checked.

A source is a value with `load(split)`, the rows of a split as dictionaries, and
`fingerprint()`, which names the content of its files and never their paths.
Rows of pairs have `prompt`, `chosen` and `rejected`; rows of targets, for
supervised training, have `prompt` and `response`; other keys are kept.

Files are JSON lines in UTF-8, gzipped or not, a line ending at a line feed and
nowhere else. Every mistake in them is an InputError with file and line.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dap.errors import InputError

Row = dict[str, Any]
SPLITS = ('train', 'test', 'stress')

_GZIP_MAGIC = b'\x1f\x8b'
_PAIR_KEYS = ('prompt', 'chosen', 'rejected')
_TARGET_KEYS = ('prompt', 'response')
_LAST_TURN = '\n\nAssistant:'


@runtime_checkable
class Source(Protocol):
  """What `arrays.prepare` needs of a source."""

  def load(self, split: str) -> list[Row]: ...

  def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class JsonlPairs:
  """Preference pairs, one object a line: prompt, chosen, rejected.

  Attributes:
    train: path of a .jsonl or .jsonl.gz file, for the split `train`.
    test: the same for `test`, or None where there is none.
  """

  train: str | None
  test: str | None = None

  def load(self, split: str) -> list[Row]:
    return _load(self, split, _checked(_PAIR_KEYS))

  def fingerprint(self) -> str:
    return _fingerprint('pairs', self.train, self.test)


@dataclass(frozen=True)
class JsonlTargets:
  """Texts to imitate, one object a line: prompt, response."""

  train: str | None
  test: str | None = None

  def load(self, split: str) -> list[Row]:
    return _load(self, split, _checked(_TARGET_KEYS))

  def fingerprint(self) -> str:
    return _fingerprint('targets', self.train, self.test)


@dataclass(frozen=True)
class HHDialogues:
  """Pairs as whole dialogues (Anthropic's hh-rlhf): chosen, rejected.

  The last turn of each, after the last "\\n\\nAssistant:", is the response; all
  before it, that mark included, is the prompt and must be the same in both.
  """

  train: str | None
  test: str | None = None

  def load(self, split: str) -> list[Row]:
    return _load(self, split, _split_dialogues)

  def fingerprint(self) -> str:
    return _fingerprint('dialogues', self.train, self.test)


@dataclass(frozen=True)
class BothResponses:
  """Targets from pairs: chosen and rejected alike, to imitate a writer."""

  pairs: Source

  def load(self, split: str) -> list[Row]:
    return [
      {'prompt': row['prompt'], 'response': row[side]}
      for row in self.pairs.load(split)
      for side in ('chosen', 'rejected')
    ]

  def fingerprint(self) -> str:
    return f'both-{self.pairs.fingerprint()}'


@dataclass(frozen=True)
class ChosenResponses:
  """Targets from pairs: the chosen response of each."""

  pairs: Source

  def load(self, split: str) -> list[Row]:
    return [
      {'prompt': row['prompt'], 'response': row['chosen']}
      for row in self.pairs.load(split)
    ]

  def fingerprint(self) -> str:
    return f'chosen-{self.pairs.fingerprint()}'


# Takes an object and where it stands, gives the row or raises InputError.
_Convert = Callable[[dict[str, Any], str], Row]


def _load(
  source: JsonlPairs | JsonlTargets | HHDialogues, split: str, convert: _Convert
) -> list[Row]:
  if split == 'stress':
    return []  # only the embedded corpus has such pairs
  if split not in SPLITS:
    raise InputError(f'A split is one of {", ".join(SPLITS)}; got {split!r}.')
  path = {'train': source.train, 'test': source.test}[split]
  name = type(source).__name__
  if path is None:
    raise InputError(
      f'The {split} split is needed, but this {name} names no file for it: give'
      f' {name}({split}=PATH).'
    )
  rows = [convert(value, where) for where, value in _read_objects(path)]
  if not rows:
    raise InputError(
      f'{path}: no examples. The {split} split needs at least one line.'
    )
  return rows


def _read_objects(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
  """Each line's place, for messages, and its object; blank lines are none."""
  for number, line in enumerate(_read_lines(path), start=1):
    where = f'{path}, line {number}'
    if not line.strip():
      continue
    try:
      text = line.decode('utf-8-sig' if number == 1 else 'utf-8')
    except UnicodeDecodeError as error:
      raise InputError(
        f'{where}: byte {error.start + 1} of the line,'
        f' 0x{line[error.start]:02x}, is no UTF-8. Save the file as UTF-8.'
      ) from error
    try:
      value = json.loads(text.rstrip())
    except (ValueError, RecursionError) as error:
      what = getattr(error, 'msg', 'too deep, or a number too long')
      column = getattr(error, 'colno', 1)
      raise InputError(
        f'{where}: not JSON at column {column}: {what}. Each line must be one'
        ' whole JSON object.'
      ) from error
    if not isinstance(value, dict):
      raise InputError(
        f'{where}: each line must be a JSON object, got'
        f' {_json_type(value)}: {_shortened(text)}.'
      )
    yield where, value


def _read_lines(path: str) -> Iterator[bytes]:
  try:
    with open(path, 'rb') as file:
      is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    with (gzip.open if is_gzip else open)(path, 'rb') as lines:
      yield from lines
  except FileNotFoundError as error:
    raise InputError(f'{path}: no such file. Give the path of one.') from error
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise InputError(
      f'{path}: the gzip data is damaged or cut short ({error}). Copy the file'
      ' again.'
    ) from error
  except OSError as error:
    raise InputError(f'{path}: cannot be read: {error.strerror}.') from error


def _checked(keys: tuple[str, ...]) -> _Convert:
  def convert(value: dict[str, Any], where: str) -> Row:
    require_texts(value, keys, where)
    return value

  return convert


def require_texts(value: Row, keys: tuple[str, ...], where: str) -> None:
  """Raises an InputError unless each key has a text that is not empty."""
  for key in keys:
    _require_text(value, key, keys, where)


def _require_text(
  value: dict[str, Any], key: str, keys: tuple[str, ...], where: str
) -> str:
  if key not in value:
    raise InputError(
      f'{where}: each line needs the keys {", ".join(keys)}; {key} is missing,'
      f' there are {", ".join(value) or "none"}.'
    )
  text = value[key]
  if not isinstance(text, str):
    raise InputError(
      f'{where}: {key} must be a text, got {_json_type(text)}:'
      f' {_shortened(json.dumps(text))}.'
    )
  if not text.strip():
    raise InputError(
      f'{where}: {key} is empty. Remove the line or give a text.'
    )
  try:
    text.encode('utf-8')
  except UnicodeEncodeError as error:
    raise InputError(
      f'{where}: {key} has half of a surrogate pair at character'
      f' {error.start + 1}, which is no Unicode text. Remove it.'
    ) from error
  return text


def _split_dialogues(value: dict[str, Any], where: str) -> Row:
  prompts, responses = [], []
  for key in ('chosen', 'rejected'):
    dialogue = _require_text(value, key, ('chosen', 'rejected'), where)
    before, mark, response = dialogue.rpartition(_LAST_TURN)
    if not mark:
      raise InputError(
        f'{where}: {key} needs a turn that begins {_LAST_TURN!r}; got'
        f' {_shortened(dialogue)}.'
      )
    if not response.strip():
      raise InputError(
        f'{where}: the last turn of {key} is empty. Remove the line.'
      )
    prompts.append(before + mark)
    responses.append(response.strip())
  if prompts[0] != prompts[1]:
    raise InputError(
      f'{where}: chosen and rejected must be the same dialogue up to the last'
      f' {_LAST_TURN!r}; they part at character {_parting(*prompts)}.'
      ' Remove the line.'
    )
  return value | {
    'prompt': prompts[0],
    'chosen': responses[0],
    'rejected': responses[1],
  }


def _parting(first: str, second: str) -> int:
  same = (i for i, (a, b) in enumerate(zip(first, second), 1) if a != b)
  return next(same, 1 + min(len(first), len(second)))


def _fingerprint(kind: str, *paths: str | None) -> str:
  """Names the kind and the bytes of each file."""
  digest = hashlib.sha256()
  for path in paths:
    if path is None:
      digest.update(b'none')
      continue
    try:
      with open(path, 'rb') as file:
        content = hashlib.file_digest(file, 'sha256').hexdigest()
    except OSError as error:
      raise InputError(
        f'{path}: cannot be read: {error.strerror}. Give the path of a file.'
      ) from error
    digest.update(content.encode())
  return f'{kind}-{digest.hexdigest()}'


def _json_type(value: Any) -> str:
  names = {dict: 'an object', list: 'a list', str: 'a text', bool: 'a boolean'}
  return 'null' if value is None else names.get(type(value), 'a number')


def _shortened(text: str, limit: int = 60) -> str:
  text = text.strip()
  return text if len(text) <= limit else text[: limit - 3] + '...'
