"""Layer 5. Recorded streams: every batch that an online run trained on.

A stream is a folder with `records.bin`, fixed-size rows in the order of
training, and `stream.json`, their layout: the leaves of a `Batch` and how it
came about. Each batch carries the hash of all bytes up to it, so a changed
token or a missing batch is found before any training on it. The rows hold the
columns of the loss too, the reference's log-probs above all: offline training
on the unshuffled stream then repeats the online run bit for bit.
"""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np

from dap import errors, files
from dap.data.pairs import Pairs
from dap.records import PADDING, Batch, Collected, Prompts, Responses

VERSION = 2
_CHAIN = 32  # bytes of a sha256
_COLUMN = 'columns/'  # before the name of a column
_ALIASES = {  # parts of pairs by their sides, views of the same bytes
  'responses': ('chosen', 'rejected'),
  'columns/reference': ('reference_chosen', 'reference_rejected'),
}


def rows_of(collected: Collected, seed: int) -> np.ndarray:
  """A row for each example of a step, from arrays on the host."""
  batch, drawn = collected.batch, collected.drawn
  assert drawn is not None, 'only what was drawn is recorded'
  count = len(batch.weight)
  columns = {
    'step': np.full(count, collected.step, np.int32),
    'row': np.arange(count, dtype=np.int32),
    'policy_step': np.full(count, collected.policy_step, np.int32),
    'seed': np.full(count, seed, np.int64),
    'prompt_id': batch.prompts.ids,
    'prompt': batch.prompts.tokens,
    'responses': batch.responses.tokens,
    'mask': batch.responses.mask,
    'log_probs': batch.responses.log_probs,
    'scores': batch.scores,
    'weight': batch.weight,
    'candidates': drawn.candidates,
    'sampled_tokens': drawn.num_tokens,
    **{
      f'{_COLUMN}{name}': batch.columns[name] for name in sorted(batch.columns)
    },
  }
  arrays = {name: np.asarray(column) for name, column in columns.items()}
  dtype = np.dtype(
    [
      (name, array.dtype.newbyteorder('<'), array.shape[1:])
      for name, array in arrays.items()
    ]
  )
  rows = np.zeros(count, dtype)
  for name, array in arrays.items():
    rows[name] = array
  return rows


class Writer:
  """Appends batches; `truncate` goes back to a checkpoint's step."""

  def __init__(self, folder: pathlib.Path, seed: int):
    """Opens or creates the stream at `folder`."""
    self.folder, self._seed = folder, seed
    with files.explained(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._file = open(folder / 'records.bin', 'ab')  # noqa: SIM115
    self._chain = b''

  def truncate(self, num_batches: int) -> None:
    """Keeps the first `num_batches`; what came after is trained again.

    Raises:
      errors.InputError: fewer are there.
    """
    self._file.flush()
    size = 0
    if num_batches:
      size = num_batches * _Layout.read(self.folder).size
    self._file.truncate(size)
    self._file.seek(0, 2)
    data = (self.folder / 'records.bin').read_bytes()
    if len(data) != size:
      raise errors.InputError(
        f'The stream {self.folder} must hold {num_batches} batches to go on'
        ' from its checkpoint, it holds fewer. Remove the run and start it'
        ' again.'
      )
    self._chain = data[-_CHAIN:]

  def append(self, collected: Collected) -> None:
    """Writes one batch and the hash of all bytes up to its end."""
    rows = rows_of(collected, self._seed)
    if collected.step == 0:
      _Layout(VERSION, len(rows), rows.dtype).write(self.folder)
    data = rows.tobytes()
    self._chain = hashlib.sha256(self._chain + data).digest()
    with files.explained(self.folder):
      self._file.write(data + self._chain)

  def flush(self) -> None:
    """Brings all batches to disk; called before each checkpoint."""
    import os

    with files.explained(self.folder):
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Flushes and closes."""
    self.flush()
    self._file.close()


@dataclasses.dataclass(frozen=True)
class _Layout:
  """What stream.json says."""

  version: int
  batch_size: int
  dtype: np.dtype

  @property
  def size(self) -> int:
    """Bytes of a batch and its hash."""
    return self.batch_size * self.dtype.itemsize + _CHAIN

  def write(self, folder: pathlib.Path) -> None:
    files.write_json(
      folder / 'stream.json',
      {
        'version': self.version,
        'batch_size': self.batch_size,
        'dtype': [list(field) for field in self.dtype.descr],
      },
    )

  @classmethod
  def read(cls, folder: pathlib.Path) -> '_Layout':
    header = json.loads((folder / 'stream.json').read_text())
    fields = [
      (name, kind, tuple(shape[0]) if shape else ())
      for name, kind, *shape in header['dtype']
    ]
    return cls(header['version'], header['batch_size'], np.dtype(fields))


def fingerprint(path: str) -> str:
  """Names the content of a stream that `read` accepts; '' for no path."""
  if not path:
    return ''
  return pathlib.Path(path, 'records.bin').read_bytes()[-_CHAIN:].hex()


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
  """A stream as rows to train on, in order of training; see `Examples`."""

  rows: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  @property
  def known(self) -> tuple[str, ...]:
    """All columns that were recorded."""
    names = self.rows.dtype.names or ()
    return tuple(n[len(_COLUMN) :] for n in names if n.startswith(_COLUMN))

  @property
  def scored(self) -> bool:
    """What annotators said was recorded."""
    return True

  @property
  def prompt_length(self) -> int:
    """Tokens of a prompt, padding included."""
    return self.rows['prompt'].shape[1]

  def batch(self, rows: np.ndarray) -> Batch:
    """These rows, as the run that recorded them had them."""
    taken = self.rows[rows]
    column = lambda name: np.ascontiguousarray(taken[name])
    return Batch(
      Prompts(column('prompt_id'), column('prompt')),
      Responses(column('responses'), column('mask'), column('log_probs')),
      column('scores'),
      column('weight'),
      {name: column(f'{_COLUMN}{name}') for name in self.known},
    )

  def pairs(self) -> Pairs:
    """The stream as pairs.

    Raises:
      errors.InputError: its groups are no pairs.
    """
    rows = self.rows
    if rows['responses'].shape[1] != 2:
      raise errors.InputError(
        'Pairs are groups of two responses; this stream has groups of'
        f' {rows["responses"].shape[1]}.'
      )
    known = 'reference' in self.known
    return Pairs(
      prompt_ids=rows['prompt_id'],
      prompts=rows['prompt'],
      chosen=rows['chosen'],
      rejected=rows['rejected'],
      weight=rows['weight'],
      reference_chosen=rows['reference_chosen'] if known else None,
      reference_rejected=rows['reference_rejected'] if known else None,
    )


def read(folder: pathlib.Path) -> Recorded:
  """The stream as rows to train on.

  Raises:
    errors.InputError: no stream is there, or its hash chain is broken.
  """
  return Recorded(read_rows(folder))


def read_rows(folder: pathlib.Path) -> np.ndarray:
  """All rows by field; checks the hash chain of every batch.

  Fields are `step`, `policy_step` (whose policy sampled), `prompt_id`,
  `prompt`, `responses` [n, length], `log_probs`, `scores`, `candidates` and
  others; of pairs also `chosen` and `rejected`. What version 0.3 recorded has
  the same fields; log-probs under the policy, which it did not keep, are nan.

  Raises:
    errors.InputError: no stream is there, or its hash chain is broken.
  """
  try:
    layout = _Layout.read(folder)
    data = (folder / 'records.bin').read_bytes()
  except FileNotFoundError as error:
    raise errors.InputError(
      'A recorded stream is a folder with stream.json and records.bin;'
      f' {folder} is none. Bind RECORD_STREAM = True in an online run.'
    ) from error
  num_batches, rest = divmod(len(data), layout.size)
  if rest:
    raise _broken(folder, num_batches)
  chain, parts = b'', []
  for index in range(num_batches):
    start = index * layout.size
    batch = data[start : start + layout.size - _CHAIN]
    chain = hashlib.sha256(chain + batch).digest()
    steps = np.frombuffer(batch, layout.dtype)['step']
    stored = data[start + layout.size - _CHAIN : start + layout.size]
    if chain != stored or np.any(steps != index):
      raise _broken(folder, index)
    parts.append(batch)
  if not parts:
    raise _broken(folder, 0)
  rows = np.frombuffer(b''.join(parts), layout.dtype)
  return _with_sides(_of_version_1(rows) if layout.version == 1 else rows)


def _with_sides(rows: np.ndarray) -> np.ndarray:
  """The rows of pairs with names for their sides: views of the same bytes."""
  dtype = rows.dtype
  assert dtype.names is not None and dtype.fields is not None
  fields = {name: kind[:2] for name, kind in dtype.fields.items()}
  for whole, sides in _ALIASES.items():
    kind = fields.get(whole)
    if kind is None or kind[0].shape[0] != 2:
      continue
    side = np.dtype((kind[0].base, kind[0].shape[1:]))
    for number, name in enumerate(sides):
      fields[name] = (side, kind[1] + number * side.itemsize)
  return rows.view(
    np.dtype(
      {
        'names': list(fields),
        'formats': [kind for kind, _ in fields.values()],
        'offsets': [offset for _, offset in fields.values()],
        'itemsize': dtype.itemsize,
      }
    )
  )


def _of_version_1(rows: np.ndarray) -> np.ndarray:
  """Rows of version 0.3 under today's names.

  Its `policy_step` was the step itself, whatever the refresh.
  """
  tokens = np.stack([rows['chosen'], rows['rejected']], axis=1)
  reference = [rows[f'reference_{side}'] for side in ('chosen', 'rejected')]
  first = rows['first_is_chosen'] > 0
  scores = np.stack([rows['p_ab'], rows['p_ba']], axis=1)
  order = np.where(first[:, None], [[0, 1]], [[1, 0]]).astype(np.int32)
  mask = (tokens > PADDING).astype(np.float32)
  columns = {
    **{n: rows[n] for n in ('step', 'row', 'policy_step', 'seed')},
    **{n: rows[n] for n in ('prompt_id', 'prompt')},
    'responses': tokens,
    'mask': mask,
    'log_probs': np.full(tokens.shape, np.nan, np.float32),
    'scores': np.take_along_axis(scores, order, axis=1),
    'weight': rows['weight'],
    'candidates': order,
    'sampled_tokens': np.sum(mask, axis=(1, 2)).astype(np.int32),
    f'{_COLUMN}reference': np.stack(reference, axis=1),
  }
  dtype = [(n, c.dtype, c.shape[1:]) for n, c in columns.items()]
  found = np.zeros(len(rows), dtype)
  for name, column in columns.items():
    found[name] = column
  return found


def _broken(folder: pathlib.Path, batch: int) -> errors.InputError:
  return errors.InputError(
    f'The stream {folder} is not what its run recorded: batch {batch} is'
    ' changed, missing or cut short. Training on it would repeat another run.'
    ' Record it again.'
  )
