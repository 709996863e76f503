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
import os
import pathlib

import numpy as np

from dap import disks, errors, files, seals
from dap.records import Collected
from dap.training import recorded

VERSION = 3  # 2 has no hash of stream.json
_CURE = 'Copy the stream again from where it came, or record it again.'
_CHAIN = 32  # bytes of a sha256


class Writer:
  """Appends batches; `truncate` goes back to a checkpoint's step."""

  def __init__(self, folder: pathlib.Path, seed: int):
    """Opens or creates the stream at `folder`."""
    self.folder, self._seed = folder, seed
    with disks.explained(folder):
      folder.mkdir(parents=True, exist_ok=True)
      self._file = open(folder / 'records.bin', 'ab')  # noqa: SIM115
    self._chain, self._size = b'', 0

  def truncate(self, num_batches: int) -> None:
    """Keeps the first `num_batches`; what came after is trained again.

    Raises:
      errors.InputError: fewer are there, or they are changed.
    """
    self._file.flush()
    layout = _Layout.read(self.folder) if num_batches else None
    chain = b'' if layout is None else self._chain_of(layout, num_batches)
    self._size = 0 if layout is None else num_batches * layout.size
    self._file.truncate(self._size)
    self._file.seek(0, 2)
    self._chain = chain

  def check(self, seal: seals.Seal) -> None:
    """Holds the batches until `seal` against it.

    Raises:
      seals.Broken: they are changed, or there are fewer.
    """
    layout = _Layout.read(self.folder)
    num_batches = seal['size'] // layout.size
    if self._chain_of(layout, num_batches).hex() != seal['sha256']:
      raise _broken(self.folder, num_batches - 1)

  def _chain_of(self, layout: '_Layout', num_batches: int) -> bytes:
    """The hash of so many batches, each of which has its own right."""
    with open(self.folder / 'records.bin', 'rb') as file:
      data = file.read(num_batches * layout.size)
    if len(data) < num_batches * layout.size:
      raise seals.Broken(
        f'The stream {self.folder} must hold {num_batches} batches to go on'
        ' from its checkpoint, it holds fewer. Copy it again from where it'
        ' came, or remove the run and start it again.'
      )
    return _checked(self.folder, layout, data)

  def append(self, collected: Collected) -> None:
    """Writes one batch and the hash of all bytes up to its end."""
    rows = recorded.rows_of(collected, self._seed)
    if collected.step == 0:
      _Layout(VERSION, len(rows), rows.dtype).write(self.folder)
    data = rows.tobytes()
    self._chain = hashlib.sha256(self._chain + data).digest()
    with disks.explained(self.folder):
      self._file.write(data + self._chain)
    self._size += len(data) + _CHAIN

  def flush(self) -> seals.Seal:
    """Brings all batches to disk; called before each checkpoint.

    Returns:
      Their size, and the last hash of the chain.

    Raises:
      errors.InputError: the file was changed or taken away meanwhile.
    """
    path = self.folder / 'records.bin'
    with disks.explained(self.folder):
      self._file.flush()
      os.fsync(self._file.fileno())
      found = path.stat().st_size if path.exists() else 0
      files.check_size(path, found, self._size)
    return {'size': self._size, 'sha256': self._chain.hex()}

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
    seals.write_json(
      folder / 'stream.json',
      {
        'version': self.version,
        'batch_size': self.batch_size,
        'dtype': [list(field) for field in self.dtype.descr],
      },
    )

  @classmethod
  def read(cls, folder: pathlib.Path) -> '_Layout':
    path = folder / 'stream.json'
    if not path.exists():
      raise errors.InputError(
        'A recorded stream is a folder with stream.json and records.bin;'
        f' {folder} is none. Bind RECORD_STREAM = True in an online run.'
      )
    header = files.read_json(path)
    if not isinstance(header, dict) or header.get('version') not in (1, 2):
      header = seals.read_json(path, _CURE)
    try:
      fields = [
        (name, kind, tuple(shape[0]) if shape else ())
        for name, kind, *shape in header['dtype']
      ]
      return cls(header['version'], header['batch_size'], np.dtype(fields))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
      raise seals.Broken(f'{path} is damaged ({error}). {_CURE}') from None


def fingerprint(path: str) -> str:
  """Names the content of a stream that `read` accepts; '' for no path."""
  if not path:
    return ''
  return pathlib.Path(path, 'records.bin').read_bytes()[-_CHAIN:].hex()


def read(folder: pathlib.Path) -> recorded.Recorded:
  """The stream as rows to train on.

  Raises:
    errors.InputError: no stream is there, or its hash chain is broken.
  """
  return recorded.Recorded(read_rows(folder))


def read_rows(folder: pathlib.Path) -> np.ndarray:
  """All rows by field; checks the hash chain of every batch.

  Fields are `step`, `policy_step` (whose policy sampled), `prompt_id`,
  `prompt`, `responses` [n, length], `log_probs`, `scores`, `candidates` and
  others; of pairs also `chosen` and `rejected`. What version 0.3 recorded has
  the same fields; log-probs under the policy, which it did not keep, are nan.

  Raises:
    errors.InputError: no stream is there, or its hash chain is broken.
  """
  layout = _Layout.read(folder)
  with disks.explained(folder):
    data = (folder / 'records.bin').read_bytes()
  if not data or len(data) % layout.size:
    raise _broken(folder, len(data) // layout.size)
  _checked(folder, layout, data)
  whole = np.frombuffer(data, np.uint8).reshape(-1, layout.size)
  rows = np.frombuffer(whole[:, :-_CHAIN].tobytes(), layout.dtype)
  return recorded.with_sides(
    recorded.of_version_1(rows) if layout.version == 1 else rows
  )


def _checked(folder: pathlib.Path, layout: _Layout, data: bytes) -> bytes:
  """The last hash of the chain, every one of which is right.

  Raises:
    seals.Broken: a batch is changed, or is not of its step.
  """
  chain, size = b'', layout.size - _CHAIN
  for index, start in enumerate(range(0, len(data), layout.size)):
    batch = memoryview(data)[start : start + size]
    chain = hashlib.sha256(chain + bytes(batch)).digest()
    steps = np.frombuffer(batch, layout.dtype)['step']
    stored = data[start + size : start + layout.size]
    if chain != stored or np.any(steps != index):
      raise _broken(folder, index)
  return chain


def _broken(folder: pathlib.Path, batch: int) -> seals.Broken:
  return seals.Broken(
    f'The stream {folder} is not what its run recorded: batch {batch} is'
    ' changed, missing or cut short. Training on it would repeat another run.'
    ' Record it again.'
  )
