"""Layer 7. Names of arms and measures in an analysis, checked."""

import re
from collections.abc import Sequence

from dap import errors
from dap.study.reading import settings
from dap.study.reading.evidence import Analysis
from dap.study.reading.settings import Setting


def check(analysis: Analysis, arms: Sequence[str]) -> None:
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


def set_setting(analysis: Analysis, value: Setting | None) -> None:
  """Keeps `setting` as (learning rate, *numbers), see `settings.frozen`."""
  if value is not None:
    whose = f'setting of {type(analysis).__name__}'
    object.__setattr__(analysis, 'setting', settings.frozen(value, whose))
