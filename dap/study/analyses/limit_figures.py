"""Layer 7. Arms over KL before what no policy can exceed."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dap.estimators import limits
from dap.study.analyses import drawings
from dap.study.analyses.drawings import Drawn
from dap.study.analyses.limit import Judge, Known, judges
from dap.study.reading import frontiers
from dap.study.reading.evidence import Axis, Evidence, Figure, Series
from dap.study.reading.runs import Point

_GRID = np.geomspace(0.1, 8.0, 60).tolist()  # nats of the curves' marks


def figures(
  evidence: Evidence, arms: Sequence[Drawn], title: str, measure: str
) -> list[Figure]:
  """One for each judge; none for a study without the measure.

  Args:
    evidence: a study.
    arms: online, offline.
    title: of figure 1.
    measure: of `making.limit.Limit`.
  """
  return [
    _figure(evidence, arms, title, judge) for judge in judges(evidence, measure)
  ]


def _figure(
  evidence: Evidence, arms: Sequence[Drawn], title: str, judge: Judge
) -> Figure:
  best = _curve(judge.tilted().values(), f'limit by {judge.words}')
  fooled = _curve(judge.tilted('proxy').values(), 'optimum of the proxy model')
  prompts, samples = next(iter(judge.samples.values()))[judge.name].shape
  figure = drawings.frontier(
    evidence,
    arms,
    name=f'fig1_limit_{judge.name}',
    title=f'{title}: the limit by {judge.words}',
    caption=f'KL from the SFT policy against win rate by {judge.words}. Grey'
    f' lines need no training: they weigh {samples} samples of the SFT policy'
    f' to each of {prompts} prompts. Solid: what no policy can exceed at its'
    ' KL, even if it knew the response that it is held against. Dashed: the'
    ' best policy for the proxy model; where it falls, no optimiser is to'
    f' blame. Means over seeds. {best.end} {fooled.end}',
    y=_mean_of(evidence, judge.read),
    y_axis=Axis(f'win rate by {judge.words}'),
    read=judge.read,
  )
  grey = drawings.kept((best.series, fooled.series))
  return figure._replace(series=(*grey, *figure.series))


class _Curve(NamedTuple):
  """A line, and a sentence about its end."""

  series: Series
  end: str


def _curve(of_seeds: Iterable[Known], label: str) -> _Curve:
  """The mean over seeds, as far as it is known of all of them."""
  each = list(of_seeds)
  rows = [np.mean(limits.at_kl(one.limit, _GRID), axis=1) for one in each]
  means = np.mean(rows, axis=0).tolist()
  first = min(each, key=lambda one: one.end)
  return _Curve(
    Series(label, 'limit', _GRID, means, kind='line'),
    f'The {label} ends at {first.end:.1f} nats, {first.why}.',
  )


def _mean_of(evidence: Evidence, read: frontiers.Read) -> drawings.Value:
  """The win rate of a checkpoint as a judge reads it."""

  def mean(point: Point) -> float | None:
    if not point.per_prompt:
      return None
    return float(np.mean(read(evidence.folder / point.per_prompt)[1]))

  return mean
