"""Layer 8. Which exceptions are the caller's to solve, and how to say it."""

import errno
import re
from collections.abc import Iterator

from dap import disks
from dap.errors import InputError

_SOLVABLE = {
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EACCES,
  errno.EPERM,
  errno.EROFS,
}
# numpy's short write has no errno, and tensorstore raises ValueError.
_FULL = re.compile(
  r'No space left on device|Disk quota exceeded|requested and \d+ written'
)


def explain(error: BaseException) -> str | None:
  """What the caller should read, or None where the mistake is ours."""
  if isinstance(error, InputError):
    return str(error)
  for cause in _causes(error):
    if isinstance(cause, OSError) and cause.errno in _SOLVABLE:
      return _of_disk(cause)
    if isinstance(cause, OSError | ValueError) and _FULL.search(str(cause)):
      return (
        f'The disk is full: {cause}. What was finished before is whole. Free'
        ' some space, then give the same command again.'
      )
  return None


def _causes(error: BaseException) -> Iterator[BaseException]:
  cause: BaseException | None = error
  while cause is not None:
    yield cause
    cause = cause.__cause__ or cause.__context__


def _of_disk(error: OSError) -> str:
  if not error.filename:
    return (
      f'A file could not be written: {error.strerror}. What was finished before'
      ' is whole. Free some space where it writes, then give it again.'
    )
  try:
    with disks.explained(error.filename):
      raise error
  except InputError as explained:
    return str(explained)
