"""Layer 0. What no message may repeat: who one is at an address, and tokens."""

import logging
import re

HIDDEN = '***'
# user:password@ of an address; a path, `hf://OWNER/NAME@REVISION`, has none.
_USER = re.compile(r'\b([a-z][a-z0-9+.-]*://)[^\s/?#\'"]*@', re.IGNORECASE)
# What stands behind ? and #: signatures, tokens, who signed.
_QUERY = re.compile(
  r'\b([a-z][a-z0-9+.-]*://[^\s?#\'"]+)[?#][^\s\'"]+', re.IGNORECASE
)
_TOKEN = re.compile(r'\b(hf_|gh[a-z]_|AKIA|sk-)[A-Za-z0-9_-]{12,}')
_NAME = re.compile(
  r'SECRET|TOKEN|KEY|PASS|CRED|AUTH|SIGN|PRIVATE|COOKIE', re.IGNORECASE
)


def hidden(text: str) -> str:
  """The text without users, passwords, queries and tokens of addresses."""
  text = _USER.sub(rf'\1{HIDDEN}@', text)
  text = _QUERY.sub(rf'\1?{HIDDEN}', text)
  return _TOKEN.sub(rf'\1{HIDDEN}', text)


def setting(name: str, value: str) -> str:
  """The value of an environment variable as a bug report may have it."""
  return HIDDEN if _NAME.search(name) else hidden(value)


class Formatter(logging.Formatter):
  """Log lines without what `hidden` hides."""

  def format(self, record: logging.LogRecord) -> str:
    """See `hidden`."""
    return hidden(super().format(record))
