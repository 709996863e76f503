"""Layer 6. Which exceptions are the caller's to solve, and how to say it."""

import errno
import os
import re

from dap.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# numpy's short write has no errno; tensorstore's errors are ValueErrors.
_FULL_TEXT = re.compile(
  r'No space left on device|Disk quota exceeded|requested and \d+ written'
)


def explain(error: BaseException) -> str | None:
  """What the caller should read, or None where the mistake is ours."""
  if isinstance(error, InputError):
    return str(error)
  causes = list(_causes(error))
  for cause in causes:
    if isinstance(cause, OSError) and cause.errno in _REFUSED:
      return _refused(cause)
  for cause in causes:
    if getattr(cause, 'errno', None) in _FULL or (
      isinstance(cause, OSError | ValueError) and _FULL_TEXT.search(str(cause))
    ):
      return _full(cause)
  return None


def _causes(error: BaseException):
  seen: set[int] = set()
  cause: BaseException | None = error
  while cause is not None and id(cause) not in seen:
    seen.add(id(cause))
    yield cause
    cause = cause.__cause__ or cause.__context__


def _refused(error: OSError) -> str:
  path = error.filename or 'a file'
  return (
    f'{path}: {os.strerror(error.errno or 0)}. Nothing that was finished is'
    ' lost. Give a directory that you may write to, or its owner your right to,'
    ' and start the same command again.'
  )


def _full(error: BaseException) -> str:
  path = getattr(error, 'filename', None)
  disk = f'The disk that holds {path}' if path else 'The disk'
  return (
    f'{disk} is full ({error}). Nothing that was finished is lost. Free space'
    ' there (old output directories; caches of `dap data`) or choose another'
    ' output directory, and start the same command again.'
  )
