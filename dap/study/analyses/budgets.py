"""Layer 7. What a win rate costs beside KL: samples, computation, and fits."""

import contextlib
from collections.abc import Sequence

import numpy as np

from dap import estimators
from dap.errors import InputError
from dap.estimators import Effect
from dap.study.analyses import claims, comparisons, drawings
from dap.study.analyses.drawings import Drawn
from dap.study.reading import frontiers
from dap.study.reading.evidence import Axis, Evidence, Figure, Series
from dap.study.reading.runs import Point

_FORMS = (
  ('d (α − β d)', estimators.BEST_OF_N),
  ('d (α − β ln d)', estimators.LEARNT),
)


def figures(
  evidence: Evidence, arms: Sequence[Drawn], title: str
) -> list[Figure]:
  """Win rate over sampled tokens and over operations, and fits over KL.

  Args:
    evidence: a study.
    arms: online, offline.
    title: of figure 1.
  """
  return [
    _tokens(evidence, arms, title),
    _operations(evidence, arms, title),
    _fits(evidence, arms, title),
  ]


def _tokens(evidence: Evidence, arms: Sequence[Drawn], title: str) -> Figure:
  online, offline = arms
  series = [
    *_over_cost(evidence, online, lambda point: point.sampled_tokens),
    _best_of_all(evidence, offline),
  ]
  return Figure(
    'fig1_tokens',
    f'{title}: sampled tokens',
    'Win rate against the tokens that training sampled up to the checkpoint.'
    ' The line is the best checkpoint of at most that cost, chosen on one half'
    ' of the prompts and judged on the other, mean over seeds with its 95 %'
    ' interval. Offline training samples nothing, so its best checkpoint is a'
    ' level: the pairs that others wrote and labelled for it are not counted.',
    Axis('tokens sampled by training', log=True),
    drawings.WIN_AXIS,
    drawings.kept(series),
  )


def _operations(
  evidence: Evidence, arms: Sequence[Drawn], title: str
) -> Figure:
  series = [
    each
    for arm in arms
    for each in _over_cost(evidence, arm, lambda point: point.train_flops)
  ]
  return Figure(
    'fig1_flops',
    f'{title}: computation',
    'Win rate against the matrix operations of one run up to the checkpoint,'
    ' rollouts and their labels by the proxy model included. A line is the best'
    ' checkpoint of an arm for at most that much, chosen on one half of the'
    ' prompts and judged on the other. Neither arm is charged for its pairs and'
    ' their labels, by people or by the golden model, nor for the proxy model'
    ' that online training needs, nor for the other runs of its grid.',
    Axis('operations of training, FLOP', log=True),
    drawings.WIN_AXIS,
    drawings.kept(series),
  )


def _over_cost(evidence: Evidence, arm: Drawn, cost) -> list[Series]:
  return [
    drawings.dots(evidence, arm, x=cost),
    drawings.band(evidence, arm, cost, frontiers.up_to),
  ]


def _best_of_all(evidence: Evidence, arm: Drawn) -> Series:
  try:
    effect = comparisons.best(evidence, arm.arm)
  except claims.Unreached:
    return drawings.level(evidence, '', arm.role, arm.label)
  return drawings.flat(
    f'{arm.label}, best', arm.role, effect.mean, *effect.interval
  )


def _fits(evidence: Evidence, arms: Sequence[Drawn], title: str) -> Figure:
  sft = {point.seed: point.win_rate for point in evidence.of(drawings.SFT)}
  series, words = [], []
  for arm in arms:
    points = [
      point
      for point in evidence.of(arm.arm, arm.setting)
      if point.kl_nats > 0 and point.seed in sft
    ]
    if not points:
      continue
    d = np.sqrt([point.kl_nats for point in points])
    gains = [point.win_rate - sft[point.seed] for point in points]
    series.append(Series(arm.label, arm.role, d.tolist(), gains, points=points))
    grid = np.linspace(np.min(d), np.max(d), 60)
    for formula, form in _FORMS:
      found = _coefficients(points, sft, form)
      if found is None:
        continue
      rise, fall = found
      curve = estimators.overoptimisation(form, grid, rise.mean, fall.mean)
      label = f'{arm.label}, {formula}'
      series.append(
        Series(label, arm.role, grid.tolist(), curve.tolist(), kind='line')
      )
      words.append(f'{label}: α {claims.level(rise)}, β {claims.level(fall)}.')
  return Figure(
    'fig1_fits',
    f'{title}: fits of over-optimisation',
    'Win rate less that of the SFT policy, over d, the square root of the KL,'
    ' with the two forms of Gao et al. 2023 fitted by least squares to all'
    ' checkpoints of an arm. They are meant for rewards without a ceiling, and'
    ' Tang et al. fit none. Coefficients are means over seeds; their 95 %'
    f' intervals draw whole runs. {" ".join(words)}',
    Axis('d = √KL(policy ‖ SFT), √nats'),
    Axis('win rate less that of the SFT policy'),
    drawings.kept(series),
  )


def _coefficients(
  points: Sequence[Point], sft: dict[int, float], form: estimators.Form
) -> tuple[Effect, Effect] | None:
  """(α, β) over the seeds with enough checkpoints; None without any.

  Whole runs are drawn within seeds.
  """
  fits = []
  for seed in sorted({point.seed for point in points}):
    own = [point for point in points if point.seed == seed]
    # Too few checkpoints for a fit are no mistake of the reader of a report.
    with contextlib.suppress(InputError):
      fits.append(
        estimators.fit_overoptimisation(
          form,
          np.array([point.kl_nats for point in own]),
          np.array([point.win_rate - sft[seed] for point in own]),
          [point.run for point in own],
          comparisons.rng(),
          num_resamples=comparisons.RESAMPLES,
        )
      )
  if not fits:
    return None
  rises, falls = zip(*(fit[:2] for fit in fits))
  return (
    estimators.combine(rises, comparisons.rng()),
    estimators.combine(falls, comparisons.rng()),
  )
