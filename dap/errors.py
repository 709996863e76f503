"""Layer 0. The caller's mistakes, told apart from our own, and exit codes."""

import enum
import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class InputError(ValueError):
  """Bad input: the message says what is needed, what came, and what to do.

  The command line prints the message alone and exits with code 2.
  """


def shown(value: object) -> str:
  """A value of the caller's as a message has it: no longer than a line."""
  return _SHORT.repr(value)


class Exit(enum.IntEnum):
  """How `dap` ends, for a shell and for a scheduler.

  The codes of signals are 128 and the signal's number, as shells have them.
  """

  DONE = 0
  FAULT = 1  # a mistake of ours; its traceback is printed
  REFUSED = 2  # the caller's to solve: input, a full disk, a folder in use
  INTERRUPTED = 130  # SIGINT, control-C
  UNREAD = 141  # SIGPIPE: nobody reads what is printed
  TERMINATED = 143  # SIGTERM, a scheduler's notice
