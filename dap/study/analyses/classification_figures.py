"""Layer 7. Figures 6, 7 and 8, and classification of own pairs."""

from collections.abc import Mapping

import numpy as np

from dap.study.analyses import comparisons, drawings, pairs
from dap.study.analyses.claims import Unreached
from dap.study.analyses.drawings import Drawn
from dap.study.reading import frontiers
from dap.study.reading.evidence import Axis, Evidence, Figure, Series, Setting

_STEP = Axis('training step')
_ON_GOLDEN = Axis('accuracy on training pairs of D_golden')
_CHANCE = drawings.flat('chance', 'sft', 0.5)
_MEANS = 'Means over seeds with 95 % intervals.'
_RATIO = Axis('mean log-ratio to the SFT policy, nats per response')
_EMPTY = (
  Figure(
    'fig8_top',
    'Policies as classifiers along training',
    'How often a policy prefers the chosen response, by its log-ratios to the'
    f' SFT policy, on training pairs of D_golden. {_MEANS}',
    _STEP,
    _ON_GOLDEN,
    (_CHANCE,),
  ),
  Figure(
    'fig8_bottom',
    'Likelihood of the chosen responses',
    'Log-probability of the chosen responses of D_golden less that under the'
    f' SFT policy. {_MEANS}',
    _STEP,
    _RATIO,
    (drawings.flat('SFT policy', 'sft', 0.0),),
  ),
  Figure(
    'fig8_rejected',
    'Likelihood of the rejected responses',
    'As for the chosen responses. Ours: the paper shows the chosen ones.'
    f' {_MEANS}',
    _STEP,
    _RATIO,
    (drawings.flat('SFT policy', 'sft', 0.0),),
  ),
)


def figures(
  evidence: Evidence,
  sides: Mapping[str, str],
  setting: Setting,
  stream: str,
  own: str,
) -> list[Figure]:
  """All of them; without marks where there are no data.

  Args:
    evidence: a study.
    sides: arms by role: online, shuffled, offline.
    setting: of the one run of each.
    stream: measure of figure 6.
    own: measure of own pairs.
  """
  runs = _by_step(evidence, sides, setting)
  return [
    _along_stream(evidence, sides, stream),
    _against_win_rate(evidence, sides, setting),
    *(_along_training(runs, place, each) for place, each in enumerate(_EMPTY)),
    _on_own_pairs(evidence, sides, own),
  ]


def _along_stream(
  evidence: Evidence, sides: Mapping[str, str], measure: str
) -> Figure:
  roles = {arm: role for role, arm in sides.items()}
  series: list[Series] = []
  try:
    _, arrays = pairs.measured(evidence, measure)
    steps = arrays[0]['step'].tolist()
    for name in ('proxy', *pairs.policies(arrays)):
      role = roles.get(name, name)
      label = 'proxy model' if name == 'proxy' else f'{role}, last checkpoint'
      effects = pairs.stream_accuracies(arrays, name)
      series.append(drawings.lines(label, role, steps, effects))
  except Unreached:
    series = []
  return Figure(
    'fig6',
    'Classifiers along the online stream',
    'Agreement with the golden model on the pairs that the online run sampled'
    f' near a step; golden ties are left out. {_MEANS}',
    Axis('step of the online run'),
    Axis('accuracy against the golden model'),
    (*series, _CHANCE),
  )


def _against_win_rate(
  evidence: Evidence, sides: Mapping[str, str], setting: Setting
) -> Figure:
  series = [
    drawings.dots(
      evidence,
      Drawn(arm, role, role, setting),
      x=lambda point: point.classification_accuracy,
    )
    for role, arm in sides.items()
  ]
  return Figure(
    'fig7',
    'Accuracy against win rate',
    'Each dot is a checkpoint of one run: how well it classifies pairs that'
    ' offline training sees, and how often its responses win.',
    _ON_GOLDEN,
    drawings.WIN_AXIS,
    drawings.kept(series),
  )


def _by_step(
  evidence: Evidence, sides: Mapping[str, str], setting: Setting
) -> list[tuple[str, list[int], list[np.ndarray]]]:
  """(role, steps, [seeds] of [steps, 3, pairs]) of each arm's run.

  The three are those of `pairs.OfGolden`; steps that a seed lacks are left out.
  """
  found = []
  for role, arm in sides.items():
    of_seeds = [
      {p.step: p for p in evidence.of(arm, setting) if p.seed == seed}
      for seed in evidence.seeds
    ]
    of_seeds = [points for points in of_seeds if points]
    steps = sorted(set.intersection(*map(set, of_seeds))) if of_seeds else []
    if steps:
      values = [
        np.stack([pairs.of_golden(evidence, own[step]) for step in steps])
        for own in of_seeds
      ]
      found.append((role, steps, values))
  return found


def _along_training(runs, place: int, empty: Figure) -> Figure:
  """`empty` with the mean over pairs of one of the three along each run."""
  series = []
  for role, steps, of_seeds in runs:
    rows = frontiers.mean_rows(
      [values[:, place] for values in of_seeds], comparisons.rng()
    )
    y, low, high = (column.tolist() for column in rows.T)
    series.append(Series(role, role, steps, y, low, high, kind='line'))
  return empty._replace(series=(*series, *empty.series))


def _on_own_pairs(
  evidence: Evidence, sides: Mapping[str, str], measure: str
) -> Figure:
  roles = {arm: role for role, arm in sides.items()}
  try:
    _, arrays = pairs.measured(evidence, measure)
    found = pairs.own_accuracies(arrays)
  except Unreached:
    found = {}
  series = [
    drawings.lines(
      roles.get(arm, arm),
      roles.get(arm, arm),
      [step for (own, step) in found if own == arm],
      [effect for (own, _), effect in found.items() if own == arm],
    )
    for arm in dict.fromkeys(arm for arm, _ in found)
  ]
  return Figure(
    'own_pairs',
    'Policies as classifiers of their own responses',
    'How often a policy prefers, of two of its own responses, the one that the'
    f' golden model prefers; golden ties are left out. {_MEANS}',
    _STEP,
    Axis('accuracy against the golden model'),
    (*series, _CHANCE),
  )
