"""Layer 7. What experiments ask of a finished study.

An analysis is a frozen dataclass of names and plain numbers, so that it can be
kept beside the results and read again.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import cast

from dap.errors import InputError
from dap.study.analyses.algorithms import Algorithms
from dap.study.analyses.best_of_n import BestOfN
from dap.study.analyses.classification import Classification
from dap.study.analyses.contrasts import Contrasts
from dap.study.analyses.coverage import Coverage
from dap.study.analyses.data_quality import DataQuality
from dap.study.analyses.gap import Gap
from dap.study.analyses.judge import Judge
from dap.study.analyses.losses import Losses
from dap.study.analyses.non_contrastive import NonContrastive
from dap.study.analyses.on_policy_data import OnPolicyData
from dap.study.analyses.scaling import Scaling
from dap.study.analyses.staleness import Staleness
from dap.study.reading.evidence import Analysis

KINDS = {
  kind.__name__: kind
  for kind in (
    Gap,
    Judge,
    Coverage,
    DataQuality,
    Classification,
    NonContrastive,
    Scaling,
    OnPolicyData,
    Losses,
    Staleness,
    Algorithms,
    Contrasts,
    BestOfN,
  )
}

__all__ = [
  'KINDS',
  'Algorithms',
  'BestOfN',
  'Classification',
  'Contrasts',
  'Coverage',
  'DataQuality',
  'Gap',
  'Judge',
  'Losses',
  'NonContrastive',
  'OnPolicyData',
  'Scaling',
  'Staleness',
  'from_json',
  'to_json',
]


def to_json(analysis: Analysis) -> dict[str, object]:
  """What json writes: the kind and the fields, tuples as lists."""
  fields = dataclasses.fields(analysis)  # pyright: ignore
  return {
    'kind': type(analysis).__name__,
    **{each.name: _listed(getattr(analysis, each.name)) for each in fields},
  }


def from_json(value: Mapping[str, object]) -> Analysis:
  """The analysis that `to_json` was given.

  Raises:
    InputError: no kind of analysis, or fields that it cannot have.
  """
  fields = dict(value)
  kind = fields.pop('kind', None)
  if not isinstance(kind, str) or kind not in KINDS:
    raise InputError(
      f'An analysis needs a kind, one of {", ".join(KINDS)}; got {kind!r}.'
      ' Write study.json anew with this version: start the study again.'
    )
  fields = {name: _tupled(each) for name, each in fields.items()}
  try:
    return cast(Callable[..., Analysis], KINDS[kind])(**fields)
  except (TypeError, ValueError) as error:
    if isinstance(error, InputError):
      raise
    wanted = ', '.join(each.name for each in dataclasses.fields(KINDS[kind]))
    raise InputError(
      f'{kind} needs {wanted}; got {", ".join(fields) or "nothing"} ({error}).'
    ) from error


def _listed(value: object) -> object:
  return [_listed(v) for v in value] if isinstance(value, tuple) else value


def _tupled(value: object) -> object:
  if isinstance(value, list | tuple):
    return tuple(_tupled(each) for each in value)
  return value
