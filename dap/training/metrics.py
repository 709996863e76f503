"""Layer 5. The numbers of a training, by step: JSON lines and TensorBoard."""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

from dap import errors, files
from dap.checkpoints import state


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

  def truncate(self, step: int) -> None:
    """Drops lines of steps that will be trained again."""
    files.truncate_json_lines(self.path, lambda line: line['step'] <= step)

  def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
    """One line.

    Raises:
      errors.InputError: the loss is not a finite number.
    """
    numbers = {name: float(value) for name, value in values.items()}
    if not all(map(math.isfinite, numbers.values())):
      wrong = sorted(k for k, v in numbers.items() if not math.isfinite(v))
      raise errors.InputError(
        f'Training needs finite numbers; at step {step} {", ".join(wrong)} is'
        f' not. {state.go_on_from(self.path.parent / "checkpoints")}'
      )
    files.append_json_lines(self.path, [{'step': step, **numbers}])
    if self.also is not None:
      self.also(step, numbers)


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
