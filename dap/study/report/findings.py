"""Layer 7. What a report says: results in, blocks of a page out."""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from dap import progress
from dap.stages import provenance
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
  Evidence,
  Figure,
  Predicate,
)
from dap.study.report import care, fitness
from dap.study.report.pages import blocks, data, numbers
from dap.study.report.pages.blocks import Json

_ENOUGH_SEEDS = 4
_MOST_CUT = 0.05  # of responses, beyond which a caveat says so
_FEW = 3  # samples in Markdown
_ORDER = (REPRODUCED, CONTRADICTED, UNDECIDED, NOT_REACHED)
_SHARED = 'shared'
_EVALUATE = 'evaluate_'  # begins the names of stages that judge a run


class Answer(NamedTuple):
  """What one analysis says.

  Attributes:
    name: of the question.
    arms: that were run for it.
    measures: that were made for it.
    predicates: in its order.
    figures: in its order.
  """

  name: str
  arms: Sequence[str]
  measures: Sequence[str]
  predicates: Sequence[Predicate]
  figures: Sequence[Figure]


class Results(NamedTuple):
  """All that a report is made of; what a study lacks is empty.

  Attributes:
    evidence: points and measures.
    study: study.json.
    samples: samples.json.
    costs: lines of costs.jsonl.
    answers: of the analyses, in the order of the study.
    made: by what and when, see `provenance.of_process`.
  """

  evidence: Evidence
  study: Json
  samples: Json
  costs: Sequence[Json]
  answers: Sequence[Answer]
  made: Json = MappingProxyType({})  # type: ignore[assignment]

  @property
  def arms(self) -> list[str]:
    """Of the analyses, in their order."""
    return list(
      dict.fromkeys(arm for each in self.answers for arm in each.arms)
    )

  @property
  def arm_of(self) -> dict[str, str]:
    """Arms by the names of their runs."""
    return {point.run: point.algorithm for point in self.evidence.points}

  @property
  def predicates(self) -> list[Predicate]:
    """Of all analyses; those that rest on an unfit judge say so."""
    return [each for answer in self.told for each in answer.predicates]

  @property
  def told(self) -> list[Answer]:
    """The answers, with what makes a verdict doubtful beside it."""
    if not fitness.of_judge(self.study):
      return list(self.answers)
    return [
      answer._replace(predicates=[*map(_doubted, answer.predicates)])
      for answer in self.answers
    ]


def _doubted(predicate: Predicate) -> Predicate:
  if predicate.estimate is None:  # there is nothing to doubt
    return predicate
  detail = f'{fitness.UNFIT} {predicate.detail}'.rstrip()
  return predicate._replace(detail=detail)


def title(results: Results) -> str:
  """'Online against offline: EmbeddedCorpus, seeds 0, 1'."""
  named = results.study.get('title', 'KL budget against win rate')
  of_data = results.study.get('data_set')
  seeds = results.evidence.seeds
  word = 'seed' if len(seeds) == 1 else 'seeds'
  listed = ', '.join(map(str, seeds))
  return f'{named}: {f"{of_data}, " if of_data else ""}{word} {listed}'


def report(
  results: Results, charts: Sequence[tuple[str, Sequence[blocks.Chart]]]
) -> list[blocks.Block]:
  """The report in the order of its pages; absent results are left out.

  The main figure, the first, stands above the verdicts.

  Args:
    results: of a study.
    charts: its figures under the names of their questions.
  """
  main, others = _all(charts)[:1], _all(charts)[1:]
  return [
    *_warnings(results.study),
    *headlines(results),
    *main,
    *_verdicts(results.told),
    *([blocks.Heading('Figures'), *others] if others else []),
    *_samples(results),
    *_models(results.study),
    blocks.Heading('Read with care'),
    blocks.Bullets(caveats(results)),
    *_costs(results),
    blocks.Heading('Points'),
    blocks.AllPoints(len(results.evidence.points)),
    *_configurations(results.study),
    *_made(results.made),
  ]


def _warnings(study: Json) -> list[blocks.Block]:
  """Before anything else: why the numbers below may mean less than they say."""
  notes = [*fitness.of_judge(study), *fitness.of_data(study)]
  if not notes:
    return []
  return [blocks.Heading('Warnings'), blocks.Bullets(notes)]


def headlines(results: Results) -> list[blocks.Block]:
  """The primary endpoint in a sentence, then how the others came out."""
  found: list[blocks.Block] = [
    blocks.Text(_headline(each), strong=True)
    for each in results.predicates
    if each.primary
  ]
  count = len(results.predicates)
  if count == 0:
    num_points = len(results.evidence.points)
    return [blocks.Text(f'{num_points} points, no analysis.', strong=True)]
  verdicts = collections.Counter(each.verdict for each in results.predicates)
  parts = [f'{verdicts[word]} {word}' for word in _ORDER if verdicts[word]]
  noun = 'claim' if count == 1 else 'claims'
  summary = f'{count} {noun} tested: {", ".join(parts)}.'
  return [*found, blocks.Text(summary, strong=not found)]


def lines(results: Results) -> list[str]:
  """A line for each claim, for a terminal."""
  return [
    f'{each.name:<12} {each.verdict:<12} {numbers.estimate(each)}'
    f'{" (these seeds only)" if each.conditional else ""}'
    f'{" (unfit judge)" if each.detail.startswith(fitness.UNFIT) else ""}'
    for each in results.predicates
  ]


def caveats(results: Results) -> list[str]:
  """What a reader must know before citing the numbers."""
  study = results.study
  notes = [*fitness.of_judge(study), *fitness.of_data(study)]
  notes += [*study.get('caveats', ()), *care.of_data(study)]
  if other := study.get('other_code'):
    changed = sorted({each for every in other.values() for each in every})
    notes.append(
      f'{len(other)} stages are as other code made them, by choice'
      f' (--accept_code); it differs in {", ".join(changed[:8])}'
      f'{" and more" if changed[8:] else ""}.'
    )
  num_seeds = len(results.evidence.seeds)
  if num_seeds < _ENOUGH_SEEDS:
    notes.append(
      f'{num_seeds} of the {_ENOUGH_SEEDS} seeds that a verdict about'
      ' algorithms needs: the intervals hold for these seeds.'
    )
  cut = [p.truncated_fraction or 0.0 for p in results.evidence.points]
  if max(cut) > _MOST_CUT:
    notes.append(
      f'Up to {max(cut):.0%} of the responses of a checkpoint were cut at the'
      ' length limit; they are judged without an end of sequence.'
    )
  if results.predicates:
    notes.append(
      'Checkpoints are chosen on one half of the prompts and judged on the'
      ' other, both ways. Intervals are 95 %, over seeds and prompts; they do'
      ' not cover the choice of the grid.'
    )
  return notes + [
    'A win rate is what the golden preference model says, in both orders; where'
    ' the data have a hidden utility it stands beside it.',
    'KL is exact per token, from policy to SFT policy, on samples at'
    ' temperature 1.',
  ]


def _headline(predicate: Predicate) -> str:
  claim = predicate.claim.rstrip('.')
  said = f'{predicate.name} {predicate.verdict}: {claim}.'
  if predicate.estimate is None:
    return f'{said} {predicate.detail}'.strip()
  ends = numbers.interval(predicate.low, predicate.high)
  interval = f', 95 % interval {ends}' if ends else ''
  seeds = [numbers.number(v) for _, v in sorted(predicate.by_seed.items())]
  over = f'; mean over {len(seeds)} seeds ({", ".join(seeds)})'
  return (
    f'{said} {numbers.number(predicate.estimate)} {predicate.unit}{interval}'
    f'{over if len(seeds) > 1 else ""}.'
    f'{" This holds for these seeds." if predicate.conditional else ""}'
    f'{f" {fitness.UNFIT}" if fitness.UNFIT in predicate.detail else ""}'
  )


def _verdicts(answers: Sequence[Answer]) -> list[blocks.Block]:
  groups = [(each.name, each.predicates) for each in answers if each.predicates]
  if not groups:
    return []
  return [blocks.Heading('Verdicts'), blocks.Verdicts(groups)]


def _all(
  charts: Sequence[tuple[str, Sequence[blocks.Chart]]],
) -> list[blocks.Chart]:
  return [part for _, of_question in charts for part in of_question]


def _samples(results: Results) -> list[blocks.Block]:
  if not results.samples.get('points'):
    return []
  points = results.evidence.points
  seed, stored = next(iter(results.samples['seeds'].items()))
  limit = data.kl_limit(results.study)
  rows = data.shown(points, int(seed), results.arms, limit)
  few = []
  for index, prompt in enumerate(stored['prompts'][:_FEW]):
    answers = [
      (side, answer)
      for side, row in rows.items()
      if (answer := data.answer(results.samples, points[row], index))
    ]
    answers.append(('golden policy', stored['golden'][index]))
    few.append(blocks.Sample(prompt, answers))
  return [blocks.Heading('Samples'), blocks.Browser(few)]


def _models(study: Json) -> list[blocks.Block]:
  by_seed = study.get('by_seed') or {'': study}
  rows: dict[str, list[str]] = {}
  for place, of_seed in enumerate(by_seed.values()):
    for label, value in _measures(of_seed):
      row = rows.setdefault(label, [numbers.NONE] * len(by_seed))
      row[place] = numbers.proportion(value)
  if not rows:
    return []
  header = ['held out', *(f'seed {s}' if s else 'value' for s in by_seed)]
  table = blocks.Table(header, [[label, *row] for label, row in rows.items()])
  return [blocks.Heading('Preference models and SFT policy'), table]


def _measures(study: Json) -> list[tuple[str, object]]:
  """(label, value) of each accuracy and loss of one seed."""
  found = []
  for name, label in (
    ('golden', 'golden model'),
    ('proxy', 'proxy model'),
    ('sft', 'SFT policy'),
  ):
    parts = study.get(name) or {}
    if 'value' in parts or 'accuracy' in parts:
      found.append((f'{label}: accuracy', parts))
    for key, value in parts.items():
      inner = isinstance(value, Mapping)
      if inner or key not in ('value', 'accuracy', 'low', 'high', 'count'):
        found.append((f'{label}: {key.replace("_", " ")}', value))
  for key, value in (study.get('baselines') or {}).items():
    found.append((f'baseline: {key.replace("_", " ")}', value))
  return found


def _made(made: Json) -> list[blocks.Block]:
  """What the page is cited by."""
  if not made:
    return []
  return [
    blocks.Heading('Made by'),
    blocks.Text(
      f'{provenance.words(made)}, Python {made.get("python")}, on'
      f' {made.get("machine")}, {made.get("date")}, by: {made.get("command")}'
    ),
  ]


def _configurations(study: Json) -> list[blocks.Block]:
  if not study.get('runs') and not study.get('config'):
    return []
  return [blocks.Heading('Configuration'), blocks.Configurations()]


def _costs(results: Results) -> list[blocks.Block]:
  if not results.costs:
    return []
  total = sum(float(cost.get('seconds', 0.0)) for cost in results.costs)
  found: list[blocks.Block] = [
    blocks.Heading('Costs'),
    blocks.Text(
      f'{progress.duration(total)} of work in all, each stage on its own cores;'
      ' stages that were there already cost nothing.'
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
