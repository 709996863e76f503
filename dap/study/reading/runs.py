"""Layer 7. runs.jsonl: one evaluated checkpoint a line, and its arrays.

The file holds no clock and no path outside its folder, its lines have one
order and its numbers one spelling: equal studies have equal bytes.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from dap import files
from dap.errors import InputError

SCHEMA = 3
_OF_0_3_0 = 2  # had one number of the loss, `beta`

_WORDS = ('run', 'algorithm', 'per_prompt')
_SCALARS = 'scalars'
_COUNTS = (
  'seed', 'step', 'sampled_tokens', 'annotator_calls', 'parameter_sets',
)  # fmt: skip
_RATES = (
  'win_rate',
  'win_rate_low',
  'win_rate_high',
  'proxy_win_rate',
  'classification_accuracy',
  'held_out_accuracy',
  'truncated_fraction',
)
_NEEDED = ('run', 'algorithm', 'seed', 'step', 'kl_nats', 'win_rate')


class Point(NamedTuple):
  """A checkpoint on the plot; a line of runs.jsonl, fields in this order.

  Attributes:
    run: name of the training run, without its seed.
    algorithm: name of the run's arm, or `sft`, `sft_<size>`, `golden_policy`.
    seed: of the study.
    step: updates done.
    lr: learning rate.
    scalars: the numbers of the loss by name, those of the grid first.
    kl_nats: mean KL from policy to reference per response, on its own samples.
    kl_sem: standard error of that mean.
    win_rate: against the golden policy's responses, by the golden model.
    win_rate_low: low end of its 95 % interval.
    win_rate_high: high end.
    proxy_win_rate: the same by the proxy model.
    classification_accuracy: of the policy as a classifier of golden labels, on
      pairs that offline runs train on.
    held_out_accuracy: the same on pairs that nothing trains on.
    chosen_log_ratio: mean log-ratio of chosen responses of those training
      pairs, nats per response.
    rejected_log_ratio: the same of the rejected ones.
    response_length: mean tokens, the end of sequence included.
    truncated_fraction: of responses without an end of sequence.
    hidden_utility: mean true utility, where the data have one.
    sampled_tokens: that the training and the rounds before it had drawn up to
      this step, counted where the run recorded its stream, else by the mean
      length that it logged; 0 offline.
    annotator_calls: responses that the annotator had scored by then.
    parameter_sets: distinct ones that the training holds.
    train_flops: matmul operations of the training up to this step and of the
      rounds before it, rollouts and annotators included, padding too.
    per_prompt: file of the arrays, relative to the folder of runs.jsonl.
  """

  run: str
  algorithm: str
  seed: int
  step: int
  lr: float | None = None
  scalars: Mapping[str, float] = {}  # noqa: RUF012
  kl_nats: float = 0.0
  kl_sem: float | None = None
  win_rate: float = 0.0
  win_rate_low: float | None = None
  win_rate_high: float | None = None
  proxy_win_rate: float | None = None
  classification_accuracy: float | None = None
  held_out_accuracy: float | None = None
  chosen_log_ratio: float | None = None
  rejected_log_ratio: float | None = None
  response_length: float | None = None
  truncated_fraction: float | None = None
  hidden_utility: float | None = None
  sampled_tokens: int | None = None
  annotator_calls: int | None = None
  parameter_sets: int | None = None
  train_flops: float | None = None
  per_prompt: str | None = None


def make_point(fields: Mapping[str, object]) -> Point:
  """Of fields by name, which `write` and `read` check."""
  return cast(Callable[..., Point], Point)(**fields)


def write(path: str | Path, points: Iterable[Point]) -> None:
  """Writes the file anew, atomically, in the order of (run, seed, step).

  Raises:
    InputError: two points of one checkpoint, or a value that cannot be.
  """
  ordered = sorted(points, key=_place)
  for before, after in zip(ordered, ordered[1:]):
    if _place(before) == _place(after):
      raise InputError(
        f'{path}: run {after.run!r}, seed {after.seed}, step {after.step}'
        ' comes twice. Give runs that differ names that differ.'
      )
  lines = [line(point, f'{path}, run {point.run!r}') for point in ordered]
  files.write_atomically(path, ''.join(lines))


def line(point: Point, where: str = 'point') -> str:
  """A line of the file; `where` begins an error's message."""
  fields = {'schema': SCHEMA, **point._asdict()}
  fields['scalars'] = {n: float(x) for n, x in point.scalars.items()}
  _check(fields, where)
  return json.dumps(fields, allow_nan=False, ensure_ascii=False) + '\n'


def read(path: str | Path) -> list[Point]:
  """The points of a file, checked.

  Raises:
    InputError: no such file, no points, or a line that is not one of this
      schema; the message has its number.
  """
  path = Path(path)
  if not path.exists():
    raise InputError(
      f'{path} is not there. It is written by `dap study` and `dap evaluate`:'
      ' give the folder of a study whose evaluations have ended.'
    )
  records = files.read_json_lines(path)
  if not records:
    raise InputError(f'{path} holds no points. Run the study to its end first.')
  return [
    _point(record, f'{path}, line {number}')
    for number, record in enumerate(records, start=1)
  ]


def read_arrays(
  path: str | Path, names: Sequence[str]
) -> dict[str, np.ndarray]:
  """The named per-prompt arrays of a point."""
  cure = 'Evaluate the checkpoint again: remove the folder of its stage.'
  return files.read_arrays(path, names, cure)


def _place(point: Point) -> tuple[str, int, int]:
  return point.run, point.seed, point.step


def _point(record: dict[str, object], where: str) -> Point:
  record = dict(record)
  schema = record.pop('schema', None)
  if schema == _OF_0_3_0:
    record = _of_0_3_0(record)
  elif schema != SCHEMA:
    raise InputError(
      f'{where}: needs schema {SCHEMA}, got {schema!r}. The file was written by'
      ' another version: repeat the evaluations with this one.'
    )
  unknown = sorted(record.keys() - set(Point._fields))
  if unknown:
    raise InputError(f'{where}: unknown field {unknown[0]!r}.')
  _check(record, where)
  return make_point(record)


def _of_0_3_0(record: dict[str, object]) -> dict[str, object]:
  """A record as this schema has it."""
  weight = record.pop('beta', None)
  return {**record, 'scalars': {} if weight is None else {'beta': weight}}


def _check(fields: dict[str, object], where: str) -> None:
  for name in _NEEDED:
    if fields.get(name) is None:
      raise InputError(f'{where}: {name!r} is missing.')
  for name in Point._fields:
    value = fields.get(name)
    if value is not None and not _fits(name, value):
      raise InputError(
        f'{where}: {name!r} must be {_must(name)}, got {value!r}.'
      )


def _fits(name: str, value: object) -> bool:
  if name in _WORDS:
    return isinstance(value, str) and value != ''
  if name == _SCALARS:
    return isinstance(value, Mapping) and all(
      isinstance(key, str) and _is_finite(each) for key, each in value.items()
    )
  if name in _COUNTS:
    return type(value) is int and value >= 0
  if name in _RATES and isinstance(value, int | float):
    return _is_finite(value) and 0 <= value <= 1
  return _is_finite(value)


def _is_finite(value: object) -> bool:
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return math.isfinite(value)


def _must(name: str) -> str:
  if name in _WORDS:
    return 'text'
  if name == _SCALARS:
    return 'finite numbers by name'
  if name in _COUNTS:
    return 'a whole number >= 0'
  return 'a number from 0 to 1' if name in _RATES else 'a finite number'
