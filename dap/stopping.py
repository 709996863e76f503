"""Layer 0. SIGTERM and SIGINT end work where nothing of it is lost.

A scheduler sends SIGTERM some seconds before it kills; a person presses
control-C. Within `signals_heard` either raises `Stopped` at once, except in a
block of `at_step_ends`: a training asks there after every step, and saves
before it stops.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from dap.errors import Exit

_AGAIN = 1.0  # seconds: a signal that comes twice at once was sent to a group


class Stopped(BaseException):
  """A signal ended the work; the message says where it stands.

  Attributes:
    signum: of the signal.
  """

  def __init__(self, signum: int, where: str = ''):
    super().__init__(where)
    self.signum = signum

  @property
  def exit_code(self) -> Exit:
    """What the process ends with."""
    return Exit(128 + self.signum)


class _Heard:
  """What this process has been sent, and how many blocks ask for it."""

  def __init__(self):
    self.signum, self.at, self.asking = 0, 0.0, 0

  def __call__(self, signum: int, frame: FrameType | None) -> None:
    del frame
    now = time.monotonic()
    if self.asking and (
      not self.signum or signum == signal.SIGTERM or now - self.at < _AGAIN
    ):
      if not self.signum:
        self.signum, self.at = signum, now
      return
    raise Stopped(signum)


_heard = _Heard()


@contextlib.contextmanager
def signals_heard(
  *numbers: int,
) -> Iterator[None]:
  """SIGTERM and SIGINT end the block by `Stopped`; only in the main thread.

  Control-C twice, a second apart, ends at once what would have been saved.

  Args:
    *numbers: of other signals, in place of these two.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  numbers = numbers or (signal.SIGTERM, signal.SIGINT)
  before = {number: signal.signal(number, _heard) for number in numbers}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


@contextlib.contextmanager
def at_step_ends() -> Iterator[Callable[[], int]]:
  """A block that asks, by what it is given, whether it shall stop.

  That gives the signal's number, 0 while there was none. A block that ends
  without having asked in time raises `Stopped` at its end.
  """
  _heard.asking += 1
  try:
    yield lambda: _heard.signum
    if _heard.signum and _heard.asking == 1:
      raise Stopped(_heard.signum)
  finally:
    _heard.asking -= 1
    if not _heard.asking:
      _heard.signum = 0
