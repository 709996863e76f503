"""Layer 8. The nearest known name, for error messages."""

import difflib
from collections.abc import Iterable


def names(wanted: str, known: Iterable[str]) -> list[str]:
  """Up to three known names that look like `wanted`, nearest first."""
  plain = {_plain(name): name for name in known if not name.startswith('_')}
  close = difflib.get_close_matches(_plain(wanted), plain, n=3, cutoff=0.6)
  return [plain[name] for name in close]


def _plain(name: str) -> str:
  """Capitals and small letters are alike, and so are dashes of both kinds."""
  return name.lower().replace('-', '_')


def hint(wanted: str, known: Iterable[str]) -> str:
  """A sentence that names the nearest, or lists all when they are few."""
  known = sorted(name for name in known if not name.startswith('_'))
  close = names(wanted, known)
  if close:
    return f' Nearest: {", ".join(close)}.'
  if 0 < len(known) <= 12:
    return f' Known: {", ".join(known)}.'
  return ''
