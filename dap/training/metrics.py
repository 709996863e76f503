"""Layer 5. The numbers of a training, by step: JSON lines and TensorBoard."""

import hashlib
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

from dap import disks, errors, files, seals
from dap.checkpoints import points


class MetricsLog:
  """`metrics.jsonl`, and whoever else wants the same numbers.

  Attributes:
    path: of the file.
    also: called with (step, numbers), TensorBoard for one.
  """

  def __init__(
    self,
    model_dir: pathlib.Path,
    also: Callable[[int, dict[str, float]], None] | None = None,
  ):
    """Lines go to `model_dir/metrics.jsonl`."""
    self.path = model_dir / 'metrics.jsonl'
    self.also = also
    self._hash, self._size = hashlib.sha256(), 0

  def truncate(self, step: int) -> None:
    """Drops lines of steps that will be trained again."""
    files.truncate_json_lines(self.path, lambda line: line['step'] <= step)
    self._take(self.path.read_bytes() if self.path.exists() else b'')

  def check(self, seal: seals.Seal) -> None:
    """Holds the beginning of the file, as long as it was then, against `seal`.

    Raises:
      seals.Broken: lines are missing or changed.
    """
    data = self._beginning(seal)
    if seals.of_bytes(data) != seal:
      raise seals.Broken(
        f'{self.path} is not what the training wrote until then: its first'
        f' {seal["size"]} bytes are changed or missing. Copy it again from'
        ' where it came, or remove the folder to train anew.'
      )

  def go_back(self, seal: seals.Seal) -> None:
    """Drops what was written after `seal`, which `check` has found true."""
    data = self._beginning(seal)
    if self.path.exists() and self.path.stat().st_size > len(data):
      files.write_atomically(self.path, data)
    self._take(data)

  def flush(self) -> seals.Seal:
    """Brings all lines to disk.

    Returns:
      The seal of the file.

    Raises:
      errors.InputError: the file was changed or taken away meanwhile.
    """
    if self._size:
      with disks.explained(self.path), open(self.path, 'rb') as file:
        os.fsync(file.fileno())
        files.check_size(self.path, os.fstat(file.fileno()).st_size, self._size)
    return {'size': self._size, 'sha256': self._hash.hexdigest()}

  def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
    """One line.

    Raises:
      errors.InputError: the loss is not a finite number, or the file was
        changed or taken away since the last line.
    """
    numbers = {name: float(value) for name, value in values.items()}
    if not all(map(math.isfinite, numbers.values())):
      wrong = sorted(k for k, v in numbers.items() if not math.isfinite(v))
      raise errors.InputError(
        f'Training needs finite numbers; at step {step} {", ".join(wrong)} is'
        f' not. {points.go_on_from(self.path.parent / "checkpoints")}'
      )
    line = files.append_json_lines(
      self.path, [{'step': step, **numbers}], at=self._size
    )
    self._hash.update(line)
    self._size += len(line)
    if self.also is not None:
      self.also(step, numbers)

  def _beginning(self, seal: seals.Seal) -> bytes:
    if not self.path.exists():
      return b''
    with open(self.path, 'rb') as file:
      return file.read(seal['size'])

  def _take(self, data: bytes) -> None:
    self._hash, self._size = hashlib.sha256(data), len(data)


def tensorboard(
  model_dir: pathlib.Path,
) -> Callable[[int, dict[str, float]], None]:
  """A writer of TensorBoard scalars, for `MetricsLog.also`.

  It opens its file with the first numbers and says there that all later ones
  of an earlier start are void: a restart repeats them.
  """
  writer: Any = None  # tensorboardX has no types

  def write(step: int, numbers: dict[str, float]) -> None:
    nonlocal writer
    if writer is None:
      import tensorboardX

      writer = tensorboardX.SummaryWriter(
        str(model_dir / 'tensorboard'), purge_step=step, flush_secs=10
      )
    for name, value in numbers.items():
      writer.add_scalar(name, value, step)
    writer.flush()

  return write
