"""Layer 7. What a study took: time, processor time, memory."""

from collections.abc import Callable, Iterable

import numpy as np

from dap import progress
from dap.study.report.pages import blocks
from dap.study.report.pages.blocks import Json
from dap.study.report.results import Results

_SHARED = 'shared'
_EVALUATE = 'evaluate_'  # begins the names of stages that judge a run


def report(results: Results) -> list[blocks.Block]:
  """What the stages took, by experiment and by kind; nothing where unknown."""
  if not results.costs:
    return []
  total, cpu = (
    sum(float(cost.get(name) or 0.0) for cost in results.costs)
    for name in ('seconds', 'cpu_seconds')
  )
  each = cpu / max(1, len(results.evidence.seeds))
  found: list[blocks.Block] = [
    blocks.Heading('Costs'),
    blocks.Text(
      f'{progress.duration(total)} of work in all, each stage on its own cores;'
      f' {progress.duration(cpu)} of processor time,'
      f' {progress.duration(each)} a seed. Stages that were there already cost'
      ' nothing.'
    ),
  ]
  if results.answers:
    rows = _cost_rows(results.costs, lambda name: _experiment(results, name))
    found.append(blocks.Table(_cost_header('experiment'), rows))
    found.append(
      blocks.Text(
        'What several experiments need counts where it is needed first.'
      )
    )
  stages = _cost_rows(results.costs, lambda name: _kind(results, name))
  header = _cost_header('stage')
  return [*found, blocks.Table(header, stages, folded='By stage')]


def _cost_header(first: str) -> list[str]:
  return [first, 'stages', 'time', 'CPU time', 'peak memory, MiB']


def _cost_rows(
  costs: Iterable[Json], kind: Callable[[str], str]
) -> list[tuple[str, ...]]:
  of_kind: dict[str, list[Json]] = {}
  for cost in costs:
    of_kind.setdefault(kind(str(cost.get('stage'))), []).append(cost)
  rows = []
  for name, own in of_kind.items():
    seconds, cpu, peak = (
      np.array([float(cost.get(field) or 0.0) for cost in own])
      for field in ('seconds', 'cpu_seconds', 'process_peak_mib')
    )
    spent = progress.duration(seconds.sum()), progress.duration(cpu.sum())
    row = name, str(len(own)), *spent, f'{peak.max():.0f}'
    rows.append((float(seconds.sum()), row))
  return [row for _, row in sorted(rows, key=lambda each: -each[0])]


def _kind(results: Results, stage: str) -> str:
  """The work of a stage, the runs of an arm alike: 'evaluate online_ipo'."""
  arm = _arm(results, stage)
  if arm is None:
    return stage
  return f'evaluate {arm}' if stage.startswith(_EVALUATE) else f'train {arm}'


def _experiment(results: Results, stage: str) -> str:
  """The first experiment that needs a stage."""
  arm = _arm(results, stage)
  measure = stage.removeprefix('measure_') if arm is None else None
  for answer in results.answers:
    if arm in answer.arms or measure in answer.measures:
      return answer.name
  return _SHARED


def _arm(results: Results, stage: str) -> str | None:
  run = stage.removeprefix(_EVALUATE)
  return results.arm_of.get(run)
