"""Layer 0. A worker process of the pool: takes jobs, reports, dies in time.

Nothing here imports jax before the process has its cores and its settings.
"""

import contextlib
import ctypes
import io
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import NamedTuple

from dap import progress, stopping
from dap.errors import InputError
from dap.stages import artefacts

_PR_SET_PDEATHSIG = 1


class Said(NamedTuple):
  """A line of text from a worker."""

  text: str


class Done(NamedTuple):
  """A job is done."""


class Stopped(NamedTuple):
  """A signal ended a job; the text says what of it is kept."""

  signum: int
  text: str


class Failed(NamedTuple):
  """A job failed; `refused` when the caller's input was at fault."""

  refused: bool
  text: str


Message = progress.Event | Said | Done | Stopped | Failed


class _Sender:
  """A progress sink, and standard output, that send to the parent."""

  def __init__(self, connection: Connection):
    self._connection, self._lock = connection, threading.Lock()

  def __call__(self, event: progress.Event) -> None:
    self.send(event)

  def say(self, text: str) -> None:
    self.send(Said(text))

  def send(self, message: Message) -> None:
    with self._lock:
      self._connection.send(message)


class _Output(io.TextIOBase):
  """Standard output whose whole lines are sent."""

  def __init__(self, sender: _Sender):
    self._sender, self._rest = sender, ''

  def write(self, text: str) -> int:
    *lines, self._rest = (self._rest + text).split('\n')
    for line in lines:
      self._sender.say(line)
    return len(text)

  def writable(self) -> bool:
    return True


def work(connection: Connection, parent: int, where: artefacts.Runtime) -> None:
  """Runs the jobs that arrive until None does.

  Args:
    connection: to the parent.
    parent: its process id; when that process ends, so does this one.
    where: the runtime that stages were named by.
  """
  _end_with(parent)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
  sender = _Sender(connection)
  with (
    progress.redirected(sender),
    contextlib.redirect_stdout(_Output(sender)),
    # The parent is gone, or a signal came while there was nothing to do.
    contextlib.suppress(EOFError, ConnectionError, stopping.Stopped),
    stopping.signals_heard(signal.SIGTERM),
  ):
    while (packed := connection.recv_bytes()) != b'':
      sender.send(_outcome(packed, where))


def _outcome(packed: bytes, where: artefacts.Runtime) -> Message:
  try:
    return _worked(packed, where)
  except stopping.Stopped as stopped:
    return Stopped(stopped.signum, str(stopped))


def _worked(packed: bytes, where: artefacts.Runtime) -> Done | Failed:
  try:
    _take_settings(where)
  except Exception:
    return Failed(False, traceback.format_exc())
  try:
    job = pickle.loads(packed)
  except Exception as error:
    return Failed(
      True,
      f'its configuration cannot be read in a worker process ({error}): define'
      ' its functions and classes in a module, or run without workers.',
    )
  try:
    artefacts.run_job(job)
  except InputError as error:
    return Failed(True, str(error))
  except Exception:
    return Failed(False, traceback.format_exc())
  return Done()


def _take_settings(where: artefacts.Runtime) -> None:
  """The parent's settings of jax; refuses to run under another runtime."""
  import jax

  for name, value in where.settings:
    jax.config.update(name, value)
  if (here := artefacts.runtime()) != where:
    raise RuntimeError(f'A worker runs under {here}, stages under {where}.')


def _end_with(parent: int) -> None:
  """Kills this process when the parent dies, even of kill -9."""
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
  while os.getppid() == parent:
    time.sleep(1.0)
  os._exit(1)
