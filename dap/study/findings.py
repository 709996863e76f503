"""Layer 6. What a report says: results in, blocks of a page out."""

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dap import progress
from dap.estimators import statistics
from dap.estimators.statistics import Gap
from dap.study import frontiers, page
from dap.study.frontiers import ARMS, Curves
from dap.study.points import Point

KL_RANGE = (2.25, 6.0)  # nats, where a study names no other
_ENOUGH_SEEDS = 4
_NONE = '–'


class Results(NamedTuple):
  """All that a report is made of.

  `study` is study.json, `costs` the lines of costs.jsonl; either may be empty.
  """

  points: Sequence[Point]
  curves: Curves
  study: Mapping[str, Any]
  costs: Sequence[Mapping[str, Any]]


def title(results: Results) -> str:
  """'Online against offline: EmbeddedCorpus, seeds 0, 1'."""
  named = results.study.get('title', 'KL budget against win rate')
  data = results.study.get('data_set')
  seeds = sorted({point.seed for point in results.points})
  of_seeds = ', '.join(map(str, seeds))
  word = 'seed' if len(seeds) == 1 else 'seeds'
  return f'{named}: {f"{data}, " if data else ""}{word} {of_seeds}'


def blocks(results: Results, plot: page.Plot) -> list[page.Block]:
  """The report in the order of its pages; absent results are left out."""
  main = main_gap(results)
  return [
    page.Text(headline(results, main), strong=True),
    plot,
    *_at_equal_kl(results),
    *_peaks(results),
    *_models(results.study),
    *_samples(results.study),
    page.Heading('Read with care'),
    page.Bullets(caveats(results, main)),
    page.Heading('Points'),
    _points(results.points),
    *_costs(results.costs),
    *_configuration(results.study),
  ]


def main_gap(results: Results) -> Gap | None:
  """Online less offline in windows over the study's range of KL.

  None unless both arms have checkpoints with arrays by prompt.
  """
  return frontiers.gap(results.curves, _windows(results), _rng())


def headline(results: Results, gap: Gap | None) -> str:
  """The finding in a sentence."""
  if gap is None:
    both = set(ARMS) <= {point.arm for point in results.points}
    if both:
      return 'The points have no arrays by prompt: no gap can be computed.'
    return 'Only one arm has points: there is nothing to compare.'
  low, high = kl_range(results)
  where = f'between {low:g} and {high:g} nats of KL'
  if np.isnan(gap.mean):
    return f'The arms share no KL {where}: they cannot be compared there.'
  seeds = frontiers.shared_seeds(results.curves)
  by_seed = ', '.join(map(signed, gap.by_seed))
  over = f'; mean over {len(seeds)} seeds ({by_seed})' if len(seeds) > 1 else ''
  ahead = 'online is ahead by' if gap.mean >= 0 else 'offline is ahead by'
  interval = gap.interval
  if interval.low <= 0 <= interval.high:
    ahead = 'no difference is shown: online less offline is'
  value = signed(gap.mean) if 'less' in ahead else number(abs(gap.mean))
  return (
    f'At equal KL, {where}, {ahead} {value} in win rate (online less offline:'
    f' 95 % interval {signed(interval.low)} to {signed(interval.high)}{over}).'
  )


def caveats(results: Results, gap: Gap | None) -> list[str]:
  """What a reader must know before citing the numbers."""
  seeds = sorted({point.seed for point in results.points})
  notes = list(results.study.get('caveats', ()))
  if len(seeds) < _ENOUGH_SEEDS:
    notes.append(
      f'{len(seeds)} of the {_ENOUGH_SEEDS} seeds that a verdict about'
      ' algorithms needs: the intervals hold for these seeds.'
    )
  if gap is not None and np.min(gap.num_windows) < _windows(results).shape[0]:
    held = ', '.join(map(str, gap.num_windows))
    notes.append(
      f'Of {_windows(results).shape[0]} windows of KL both arms have a'
      f' checkpoint in {held} (by seed); the others do not count.'
    )
  cut = max((point.truncated_fraction or 0.0) for point in results.points)
  if cut > 0.05:
    notes.append(
      f'Up to {cut:.0%} of the responses of a checkpoint were cut at the length'
      ' limit; they are judged without an end of sequence.'
    )
  notes += [
    'A win rate is what the golden preference model says, in both orders; where'
    ' the data have a hidden utility it stands beside it.',
    'Checkpoints are chosen on one half of the prompts and judged on the other.'
    ' Intervals are bootstraps over seeds and prompts; they do not cover the'
    ' choice of the grid.',
    'KL is exact per token, from policy to SFT policy, on samples at'
    ' temperature 1.',
  ]
  return notes


def kl_range(results: Results) -> tuple[float, float]:
  """Nats between which the arms are compared."""
  low, high = results.study.get('kl_range', KL_RANGE)
  return float(low), float(high)


def number(value: float | None, digits: int = 3) -> str:
  """'0.081'; a dash for what is not there."""
  if value is None or np.isnan(value):
    return _NONE
  return f'{value:.{digits}f}'


def signed(value: float) -> str:
  """'+0.081' or '−0.012', with a true minus."""
  return _NONE if np.isnan(value) else f'{value:+.3f}'.replace('-', '−')


def proportion(value: Any) -> str:
  """'0.880 [0.860, 0.900]' of {value, low, high}, or of a number."""
  if not isinstance(value, Mapping):
    return number(value) if isinstance(value, int | float) else str(value)
  middle = value.get('value', value.get('accuracy'))
  if middle is None or value.get('low') is None:
    return number(middle)
  return f'{middle:.3f} [{value["low"]:.3f}, {value["high"]:.3f}]'


def _windows(results: Results) -> np.ndarray:
  return statistics.log_kl_windows(*kl_range(results))


def _rng() -> np.random.Generator:
  return np.random.default_rng(0)


def _at_equal_kl(results: Results) -> list[page.Block]:
  if not frontiers.shared_seeds(results.curves):
    return []
  rows = []
  for low, high in zip(frontiers.BINS, frontiers.BINS[1:]):
    window = statistics.kl_bins((low, high))
    gap = frontiers.gap(results.curves, window, _rng())
    if gap is None or np.isnan(gap.mean):
      continue
    each = [
      frontiers.mean_envelope(results.curves, arm, window) for arm in ARMS
    ]
    interval = f'[{signed(gap.interval.low)}, {signed(gap.interval.high)}]'
    rows.append((
      f'{low:g} to {high:g}',
      *map(number, each),
      f'{signed(gap.mean)} {interval}',
      *map(signed, gap.by_seed),
    ))  # fmt: skip
  seeds = frontiers.shared_seeds(results.curves)
  header = [
    'KL, nats',
    *ARMS,
    'gap [95 %]',
    *(f'seed {seed}' for seed in seeds),
  ]
  return [page.Heading('At equal KL'), page.Table(header, rows)] if rows else []


def _peaks(results: Results) -> list[page.Block]:
  rows = []
  for arm, of_seeds in results.curves.items():
    peak = frontiers.peak(of_seeds, _rng())
    own = [point for point in results.points if point.arm == arm]
    last = {
      seed: max((p for p in own if p.seed == seed), key=lambda p: p.kl_nats)
      for seed in of_seeds
    }
    rows.append((
      arm,
      f'{peak.win_rate:.3f} [{peak.low:.3f}, {peak.high:.3f}]',
      number(peak.kl_nats, 2),
      number(float(np.mean([p.win_rate for p in last.values()]))),
      number(float(np.mean([p.kl_nats for p in last.values()])), 2),
      str(len(own)),
    ))  # fmt: skip
  header = [
    'arm',
    'peak win rate [95 %]',
    'at KL',
    'win rate at the largest KL',
    'that KL',
    'checkpoints',
  ]
  return [page.Heading('Peaks'), page.Table(header, rows)] if rows else []


def _models(study: Mapping[str, Any]) -> list[page.Block]:
  by_seed = study.get('by_seed') or {'': study}
  rows: dict[str, list[str]] = {}
  for place, of_seed in enumerate(by_seed.values()):
    for label, value in _measures(of_seed):
      row = rows.setdefault(label, [_NONE] * len(by_seed))
      row[place] = proportion(value)
  if not rows:
    return []
  header = ['held out', *(f'seed {s}' if s else 'value' for s in by_seed)]
  table = page.Table(header, [[label, *row] for label, row in rows.items()])
  return [page.Heading('Preference models and SFT policy'), table]


def _measures(study: Mapping[str, Any]) -> list[tuple[str, Any]]:
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


def _samples(study: Mapping[str, Any]) -> list[page.Block]:
  samples = study.get('samples') or []
  cards = [
    page.Sample(
      sample.get('prompt', ''),
      [(name, str(text)) for name, text in _answers(sample)],
    )
    for sample in samples
  ]
  return [page.Heading('Samples side by side'), *cards] if cards else []


def _answers(sample: Mapping[str, str]) -> list[tuple[str, str]]:
  order = ['sft', 'online', 'offline', 'golden']
  names = [name for name in order if name in sample]
  names += sorted(set(sample) - {'prompt', *order})
  return [(name, sample[name]) for name in names]


def _points(points: Sequence[Point]) -> page.Table:
  header = [
    'run', 'seed', 'step', 'lr', 'β', 'KL, nats', 'win rate [95 %]',
    'by proxy', 'as classifier', 'chosen log-ratio', 'tokens', 'cut', 'utility',
  ]  # fmt: skip
  rows = [
    (
      point.run,
      str(point.seed),
      str(point.step),
      _NONE if point.lr is None else f'{point.lr:g}',
      _NONE if point.beta is None else f'{point.beta:g}',
      number(point.kl_nats),
      proportion({
        'value': point.win_rate,
        'low': point.win_rate_low,
        'high': point.win_rate_high,
      }),
      number(point.proxy_win_rate),
      number(point.classification_accuracy),
      number(point.chosen_log_ratio, 2),
      number(point.response_length, 1),
      number(point.truncated_fraction),
      number(point.hidden_utility),
    )
    for point in points
  ]  # fmt: skip
  return page.Table(header, rows, folded=f'All {len(rows)} points')


def _configuration(study: Mapping[str, Any]) -> list[page.Block]:
  if not study.get('config'):
    return []
  text = json.dumps(study['config'], indent=1, ensure_ascii=False)
  code = page.Code('The resolved configuration', text)
  return [page.Heading('Configuration'), code]


def _costs(costs: Sequence[Mapping[str, Any]]) -> list[page.Block]:
  if not costs:
    return []
  seconds: dict[str, list[float]] = collections.defaultdict(list)
  for cost in costs:
    seconds[str(cost.get('stage'))].append(float(cost.get('seconds', 0.0)))
  ordered = sorted(seconds.items(), key=lambda item: -sum(item[1]))
  rows = [(name, str(len(s)), f'{sum(s):.1f}') for name, s in ordered]
  total = sum(sum(each) for each in seconds.values())
  return [
    page.Heading('Costs'),
    page.Text(
      f'{progress.duration(total)} in all, each stage on its own cores; stages'
      ' that were there already cost nothing.'
    ),
    page.Table(['stage', 'times', 'seconds'], rows, folded='By stage'),
  ]
