"""Layer 5. How often a training keeps a point that a restart can go on from."""

import dataclasses
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Bounds:
  """What may be lost, in seconds of work, when a training is cut off.

  A twentieth of it, but no less than a minute is asked for, and never more
  than ten.

  Attributes:
    share: of the whole training.
    least: that is worth keeping a point for.
    most: whatever the share is.
  """

  share: float = 0.05
  least: float = 60.0
  most: float = 600.0

  def allowed(self, whole: float) -> float:
    """Seconds that may be lost of a training that takes `whole` seconds."""
    return min(self.most, max(self.least, self.share * whole))


class Pace:
  """Says after which steps a restart point is due.

  A step is taken to be as long as those since the last point were on average;
  a point is due as soon as one step more could lose too much.
  """

  def __init__(
    self,
    bounds: Bounds = Bounds(),  # noqa: B008 (frozen)
    clock: Callable[[], float] = time.monotonic,
  ):
    """The first step begins now.

    Args:
      bounds: of what may be lost.
      clock: seconds, monotonic.
    """
    self._bounds, self._clock = bounds, clock
    self._at, self._done = clock(), 0

  def begin(self, done: int) -> None:
    """Work goes on from `done` steps, all of which are kept."""
    self._at, self._done = self._clock(), done

  def due(self, done: int, num_steps: int) -> bool:
    """Whether to keep a point after `done` of `num_steps` steps."""
    since = self._clock() - self._at
    each = since / max(1, done - self._done)
    return since + each > self._bounds.allowed(each * num_steps)
