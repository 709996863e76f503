"""Layer 7. What a report says: results in, blocks of a page out."""

import collections
from collections.abc import Mapping, Sequence

from dap.stages import provenance
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  OTHER_WAY,
  REFUSED,
  REPRODUCED,
  SAME_WAY,
  UNDECIDED,
  Predicate,
)
from dap.study.report import care, fitness, spent
from dap.study.report.pages import blocks, data, numbers
from dap.study.report.pages.blocks import Json
from dap.study.report.results import Answer, Results

_ENOUGH_SEEDS = 4
_MOST_CUT = 0.05  # of responses, beyond which a caveat says so
_FEW = 3  # samples in Markdown
_ORDER = {  # and how several claims are said to be
  REPRODUCED: REPRODUCED,
  CONTRADICTED: CONTRADICTED,
  SAME_WAY: 'pointing the same way',
  OTHER_WAY: 'pointing the other way',
  UNDECIDED: UNDECIDED,
  REFUSED: REFUSED,
  NOT_REACHED: NOT_REACHED,
}
_ON = {1: ' on its one seed', 2: ' on both seeds', 3: ' on all three seeds'}
_COUNTS = {1: 'One seed', 2: 'Two seeds', 3: 'Three seeds'}


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
    *_tables(results.answers),
    *_verdicts(results.told),
    *([blocks.Heading('Figures'), *others] if others else []),
    *_samples(results),
    *_models(results.study),
    blocks.Heading('Read with care'),
    blocks.Bullets(caveats(results)),
    *spent.report(results),
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
  """The primary endpoint in a sentence, then how the others came out.

  Before them, what so few seeds can say.
  """
  found: list[blocks.Block] = [
    blocks.Text(_headline(each), strong=True)
    for each in results.predicates
    if each.primary
  ]
  if results.predicates and (limit := _few_seeds(results)):
    found.insert(0, blocks.Text(limit))
  count = len(results.predicates)
  if count == 0:
    num_points = len(results.evidence.points)
    return [blocks.Text(f'{num_points} points, no analysis.', strong=True)]
  verdicts = collections.Counter(each.verdict for each in results.predicates)
  parts = [
    f'{verdicts[word]} {said}'
    for word, said in _ORDER.items()
    if verdicts[word]
  ]
  noun = 'claim' if count == 1 else 'claims'
  summary = f'{count} {noun} tested: {", ".join(parts)}.'
  return [*found, blocks.Text(summary, strong=not found)]


def _few_seeds(results: Results) -> str:
  """What fewer seeds than speak of algorithms can say; empty of more."""
  number = len(results.evidence.seeds)
  if number >= _ENOUGH_SEEDS:
    return ''
  word = 'shows' if number == 1 else 'show'
  return (
    f'{_COUNTS[number]} {word} which way an effect points, not that other seeds'
    f' have it: that takes {_ENOUGH_SEEDS} at least; the whole study has eight.'
  )


def lines(results: Results) -> list[str]:
  """What so few seeds can say, then a line for each claim, for a terminal."""
  limit = _few_seeds(results)
  return [limit] * bool(limit and results.predicates) + [
    f'{each.name:<8} {each.verdict:<20} {numbers.estimate(each)}'
    f'{" (these seeds only)" if each.conditional else ""}'
    f'{" (unfit judge)" if each.detail.startswith(fitness.UNFIT) else ""}'
    for each in results.predicates
  ]


def caveats(results: Results) -> list[str]:
  """What a reader must know before citing the numbers."""
  study = results.study
  notes = [*fitness.of_judge(study), *fitness.of_data(study)]
  notes += [each for answer in results.answers for each in answer.cautions]
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
  weak = predicate.verdict in (SAME_WAY, OTHER_WAY)
  on = _ON.get(len(predicate.by_seed), '') if weak else ''
  said = f'{predicate.name} {predicate.verdict}{on}: {claim}.'
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


def _tables(answers: Sequence[Answer]) -> list[blocks.Block]:
  found: list[blocks.Block] = []
  for table in (table for each in answers for table in each.tables):
    found.append(blocks.Heading(table.title))
    found.append(blocks.Table(table.header, table.rows))
  return found


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
  found += _panel(study.get('panel') or {})
  for key, value in (study.get('baselines') or {}).items():
    found.append((f'baseline: {key.replace("_", " ")}', value))
  return found


def _panel(panel: Json) -> list[tuple[str, object]]:
  """What scouts wrote for the golden model; nothing without a panel."""
  if not panel:
    return []
  kl = list(panel['kl_nats'].values())
  return [
    ('panel: pairs that scouts wrote', f'{panel["pairs"]:,}'),
    (
      'panel: pairs of equal responses, left out',
      f'{panel["equal_responses"]:,}',
    ),
    ('panel: KL of its writers, nats', f'{min(kl):.1f} to {max(kl):.1f}'),
  ]


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
