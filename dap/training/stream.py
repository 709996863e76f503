"""Layer 5. Recorded streams: every batch that an online run trained on.

A stream is a folder with `records.bin`, fixed-size rows in the order of
training, and `stream.json`, their layout. Each batch carries the hash of all
bytes up to it, so a changed token or a missing batch is found before any
training on it. The rows hold the reference's log-probs too: offline training
on the unshuffled stream then repeats the online run bit for bit.
"""

import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from dap import errors, files
from dap.data.pairs import Pairs
from dap.records import Pair
from dap.training.steps import Rollout

VERSION = 1
_CHAIN = 32  # bytes of a sha256


def layout(prompt_length: int, response_length: int) -> np.dtype:
  """The fields of a row."""
  tokens = ('<i4', (response_length,))
  nats = ('<f4', (response_length,))
  return np.dtype(
    [
      ('step', '<i4'),
      ('row', '<i4'),
      ('prompt_id', '<i4'),
      ('policy_step', '<i4'),
      ('seed', '<i8'),
      ('prompt', '<i4', (prompt_length,)),
      ('chosen', *tokens),
      ('rejected', *tokens),
      ('reference_chosen', *nats),
      ('reference_rejected', *nats),
      ('p_ab', '<f4'),
      ('p_ba', '<f4'),
      ('first_is_chosen', '<f4'),
      ('tie', '<f4'),
      ('weight', '<f4'),
    ]
  )


class Writer:
  """Appends batches; `truncate` goes back to a checkpoint's step."""

  def __init__(self, folder: pathlib.Path, batch_size: int, dtype: np.dtype):
    """Opens or creates the stream at `folder`."""
    self.folder, self.batch_size, self.dtype = folder, batch_size, dtype
    with files.explained(folder):
      folder.mkdir(parents=True, exist_ok=True)
      files.write_json(
        folder / 'stream.json',
        {
          'version': VERSION,
          'batch_size': batch_size,
          'dtype': [list(field) for field in dtype.descr],
        },
      )
      self._file = open(folder / 'records.bin', 'ab')  # noqa: SIM115
    self._chain = b''

  @property
  def _size(self) -> int:
    return self.batch_size * self.dtype.itemsize + _CHAIN

  def truncate(self, num_batches: int) -> None:
    """Keeps the first `num_batches`; what came after is trained again."""
    self._file.flush()
    self._file.truncate(num_batches * self._size)
    self._file.seek(0, 2)
    if num_batches == 0:
      self._chain = b''
      return
    data = (self.folder / 'records.bin').read_bytes()
    if len(data) != num_batches * self._size:
      raise errors.InputError(
        f'The stream {self.folder} must hold {num_batches} batches to go on'
        f' from its checkpoint, it holds {len(data) / self._size:.1f}. Remove'
        ' the run and start it again.'
      )
    self._chain = data[-_CHAIN:]

  def append(
    self, step: int, policy_step: int, seed: int, batch: Any, rollout: Any
  ) -> None:
    """Writes one batch and the hash of all bytes up to its end."""
    rows = np.zeros(self.batch_size, self.dtype)
    rows['step'], rows['policy_step'], rows['seed'] = step, policy_step, seed
    rows['row'] = np.arange(self.batch_size)
    rows['prompt_id'] = batch.prompts.ids
    rows['prompt'] = batch.prompts.tokens
    for side in Pair._fields:
      rows[side] = getattr(batch.responses, side)
      rows[f'reference_{side}'] = getattr(batch.reference_log_probs, side)
    for name in Rollout._fields:
      rows[name] = getattr(rollout, name)
    rows['weight'] = batch.weight
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


def fingerprint(path: str) -> str:
  """Names the content of a stream that `read` accepts; '' for no path."""
  if not path:
    return ''
  return pathlib.Path(path, 'records.bin').read_bytes()[-_CHAIN:].hex()


def read(folder: pathlib.Path) -> Pairs:
  """The stream as pairs with reference log-probs, in order of training.

  Raises:
    errors.InputError: no stream is there, or its hash chain is broken.
  """
  rows = read_rows(folder)
  return Pairs(
    prompt_ids=rows['prompt_id'],
    prompts=rows['prompt'],
    chosen=rows['chosen'],
    rejected=rows['rejected'],
    weight=rows['weight'],
    reference_chosen=rows['reference_chosen'],
    reference_rejected=rows['reference_rejected'],
  )


def read_rows(folder: pathlib.Path) -> np.ndarray:
  """All rows with their fields; checks the hash chain of every batch."""
  try:
    header = json.loads((folder / 'stream.json').read_text())
    data = (folder / 'records.bin').read_bytes()
  except FileNotFoundError as error:
    raise errors.InputError(
      'A recorded stream is a folder with stream.json and records.bin;'
      f' {folder} is none. Bind RECORD_STREAM = True in an online run.'
    ) from error
  fields = [
    (name, kind, tuple(shape[0]) if shape else ())
    for name, kind, *shape in header['dtype']
  ]
  dtype = np.dtype(fields)
  size = header['batch_size'] * dtype.itemsize
  num_batches, rest = divmod(len(data), size + _CHAIN)
  if rest:
    raise _broken(folder, num_batches)
  chain, parts = b'', []
  for index in range(num_batches):
    start = index * (size + _CHAIN)
    batch = data[start : start + size]
    chain = hashlib.sha256(chain + batch).digest()
    rows = np.frombuffer(batch, dtype)
    stored = data[start + size : start + size + _CHAIN]
    if chain != stored or np.any(rows['step'] != index):
      raise _broken(folder, index)
    parts.append(rows)
  if not parts:
    raise _broken(folder, 0)
  return np.concatenate(parts)


def _broken(folder: pathlib.Path, batch: int) -> errors.InputError:
  return errors.InputError(
    f'The stream {folder} is not what its run recorded: batch {batch} is'
    ' changed, missing or cut short. Training on it would repeat another run.'
    ' Record it again.'
  )
