"""Layer 7. Names of arms and measures in an analysis, checked."""

import re
from collections.abc import Sequence
from typing import Any

from dap import errors
from dap.study.reading.evidence import Setting


def check(analysis: Any, arms: Sequence[str]) -> None:
  """Refuses names that no arm can have, and arms compared with themselves."""
  kind = type(analysis).__name__
  for arm in arms:
    if not isinstance(arm, str) or not re.fullmatch('[a-z0-9_]+', arm):
      raise errors.InputError(
        f'{kind} needs names of arms: small letters, digits and "_"; got'
        f' {arm!r}.'
      )
  twice = sorted({arm for arm in arms if list(arms).count(arm) > 1})
  if twice:
    raise errors.InputError(
      f'{kind} compares arms that differ, got {twice[0]} twice.'
    )


def set_setting(analysis: Any, value: Any) -> None:
  """Keeps `setting` as (learning rate, beta), a beta of None for none."""
  if value is not None:
    object.__setattr__(analysis, 'setting', setting(analysis, value))


def setting(analysis: Any, value: Any) -> Setting:
  """(learning rate, beta) of a pair of numbers."""
  kind = type(analysis).__name__
  try:
    rate, beta = value
    return float(rate), None if beta is None else float(beta)
  except (TypeError, ValueError) as error:
    raise errors.InputError(
      f'{kind} needs setting=(learning rate, beta) of a run, got {value!r}.'
    ) from error
