"""Layer 7. `dap report`: pages and pictures of a study's results.

It reads runs.jsonl and what its lines name, and where they are there
study.json, measures/, samples.json and costs.jsonl; it writes report.html,
report.md, verdicts.json, frontier.png, frontier.svg and figures/ beside them.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from dap import files, progress, seals
from dap.errors import InputError
from dap.stages import modules
from dap.study import analyses
from dap.study.reading import runs as points_lib
from dap.study.reading.evidence import (
  Analysis,
  Axis,
  Cautious,
  Evidence,
  Figure,
  Series,
  Tabled,
  of_few_seeds,
)
from dap.study.reading.runs import Point
from dap.study.report import findings
from dap.study.report.drawing import looks, marks, static
from dap.study.report.drawing.looks import Style
from dap.study.report.pages import blocks, data, html, markdown
from dap.study.report.results import Answer, Results

_FIGURES = 'figures'
_MAIN = 'frontier'
_READS = ('runs.jsonl', 'study.json', 'samples.json', 'costs.jsonl')
SEALED = 'sealed.json'  # of what `dap study` wrote for the report
_STAMP = '.report'
_CODE = ('.py', '.pyc')  # told by its syntax trees, with all that it reaches
_CURE = 'Give the command that wrote it again (`dap study`, `dap evaluate`).'
_WRITES = (
  'report.html',
  'report.md',
  'verdicts.json',
  f'{_MAIN}.png',
  f'{_MAIN}.svg',
  f'{_FIGURES}/',
)


def report(*, study_dir: str) -> None:
  """Draws the figures and writes the pages, anew each time.

  Args:
    study_dir: folder of a study whose runs.jsonl is there.

  Raises:
    InputError: no points, or files that are not a study's.
  """
  folder = Path(study_dir)
  results = load(folder)
  write(folder, results)
  for line in findings.lines(results):
    progress.say(line)
  progress.say(f'{folder}: wrote {", ".join(_WRITES)}')


def refresh(study_dir: str) -> None:
  """Writes the report unless it is there, of these results by this code."""
  folder = Path(study_dir)
  stamp, now = folder / _STAMP, _fingerprint(folder)
  if _is_whole(folder, now):
    progress.say(f'{folder}: report.html is of these results already')
    return
  stamp.unlink(missing_ok=True)
  report(study_dir=study_dir)
  written = {
    path.relative_to(folder).as_posix(): seals.of(path)
    for name in _WRITES
    for path in ((folder / name).glob('*') if '/' in name else [folder / name])
  }
  seals.write_json(stamp, {'of': now, 'files': written})


def check_pages(folder: Path) -> str:
  """Holds pages and pictures against the seals that the report gave them.

  Returns:
    What they were made of, see `refresh`.

  Raises:
    InputError: a file was changed, or is missing.
  """
  cure = 'Give the same `dap study` command again: it writes the report anew.'
  stamp = seals.read_json(folder / _STAMP, cure)
  seals.check_all(folder, stamp['files'], cure)
  return stamp['of']


def _is_whole(folder: Path, now: str) -> bool:
  if not (folder / _STAMP).exists():
    return False
  try:
    return check_pages(folder) == now
  except seals.Broken as error:
    progress.say(f'{error} Here they are written anew.')
    return False


def _fingerprint(folder: Path) -> str:
  """A hash of what a report is made of: results, and the code that reads them.

  Arrays by prompt lie in stages, whose names in runs.jsonl are hashes.
  """
  here = Path(__file__).parent
  pages = [path for path in here.rglob('*') if path.suffix not in _CODE]
  results = [folder / name for name in _READS]
  paths = [*results, *(folder / 'measures').glob('*/*.npz'), *pages]
  code = json.dumps(modules.reached([__name__]))
  digest = hashlib.sha256(code.encode())
  for path in sorted(paths):
    if path.is_file():
      digest.update(hashlib.sha256(path.read_bytes()).digest())
  return digest.hexdigest()


def dry_run(*, study_dir: str) -> None:
  """Prints what `report` would read and write."""
  folder = Path(study_dir)
  points = load_evidence(folder).points
  arms: dict[str, int] = {}
  for point in points:
    arms[point.algorithm] = arms.get(point.algorithm, 0) + 1
  counts = ', '.join(f'{count} {arm}' for arm, count in sorted(arms.items()))
  seeds = ', '.join(str(seed) for seed in sorted({p.seed for p in points}))
  progress.say(
    f'{folder}: {len(points)} points ({counts}), seeds {seeds}.'
    f' Would write {", ".join(_WRITES)}.'
  )


def load(folder: Path) -> Results:
  """A study's results, from its folder.

  Raises:
    InputError: what a study wrote there was changed since.
  """
  check(folder)
  evidence = load_evidence(folder)
  study = _object(folder / 'study.json')
  costs, changed = seals.whole_lines(folder / 'costs.jsonl')
  if changed:
    progress.say(f'{folder}/costs.jsonl: {changed} damaged lines are left out')
  return Results(
    evidence,
    study,
    _object(folder / 'samples.json'),
    costs,
    [
      answer(analyses.from_json(each), evidence, study.get('arms') or {})
      for each in study.get('analyses') or ()
    ],
    _object(folder / SEALED).get('made') or {},
  )


def check(folder: Path) -> None:
  """Holds results against the seals that the study gave them.

  A folder without sealed.json, such as that of `dap evaluate`, has none.

  Raises:
    InputError: a file was changed, or is missing.
  """
  if (folder / SEALED).exists():
    sealed = seals.read_json(folder / SEALED, _CURE)
    seals.check_all(folder, sealed['files'], _CURE)


def load_evidence(folder: Path) -> Evidence:
  """Points and measures."""
  points = points_lib.read(folder / 'runs.jsonl')
  measures: dict[str, dict[int, Mapping[str, np.ndarray]]] = {}
  for path in sorted((folder / 'measures').glob('*/*.npz')):
    if not re.fullmatch(r'\d+', path.stem):
      raise InputError(
        f'{path} needs the name of a seed, such as 0.npz. Remove it, or run the'
        ' study again: it writes its measures at the end.'
      )
    own = measures.setdefault(path.parent.name, {})
    own[int(path.stem)] = _arrays(path)
  return Evidence(points, folder, measures)


def answer(
  analysis: Analysis,
  evidence: Evidence,
  arms: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Answer:
  """What an analysis says.

  Args:
    analysis: its title, or its kind in words, is its name: 'On policy data'.
    evidence: of the study.
    arms: that were run for each kind of analysis, beside those it reads.
  """
  kind = type(analysis).__name__
  words = re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', kind)
  values = list(vars(analysis).values())
  return Answer(
    getattr(analysis, 'title', None) or words.capitalize(),
    [*analysis.arms, *arms.get(kind, ())],
    [name for name in evidence.measures if name in values],
    [*map(of_few_seeds, analysis.predicates(evidence))],
    analysis.figures(evidence),
    analysis.cautions(evidence) if isinstance(analysis, Cautious) else (),
    analysis.tables(evidence) if isinstance(analysis, Tabled) else (),
  )


def write(folder: Path, results: Results) -> None:
  """Writes all that `report` writes."""
  charts = _charts(results)
  figures = [chart.figure for _, own in charts for chart in own]
  style = looks.style(figures)
  _draw_all(folder / _FIGURES, figures, style)
  if figures:
    static.write(folder, _MAIN, figures[0], style)
  title, parts = findings.title(results), findings.report(results, charts)
  of_page = data.of_report(
    results.evidence.points, figures, style, results.samples, results.study,
    results.arms,
  )  # fmt: skip
  files.write_json(
    folder / 'verdicts.json', [each._asdict() for each in results.predicates]
  )
  files.write_atomically(folder / 'report.md', markdown.text(title, parts))
  page = html.text(title, parts, of_page, style)
  files.write_atomically(folder / 'report.html', page)


def _draw_all(folder: Path, figures: Sequence[Figure], style: Style) -> None:
  """Writes the pictures, and removes those of an earlier report."""
  for figure in figures:
    static.write(folder, figure.name, figure, style)
  drawn = {figure.name for figure in figures}
  for path in [*folder.glob('*.png'), *folder.glob('*.svg')]:
    if path.stem not in drawn:
      path.unlink()


def _charts(
  results: Results,
) -> list[tuple[str, Sequence[blocks.Chart]]]:
  """All figures that show something, under names that differ."""
  answers = [(each.name, each.figures) for each in results.answers]
  if not answers:
    answers = [('Points', [plain(results.evidence)])]
  taken: dict[str, int] = {}
  charts = []
  for question, figures in answers:
    own = []
    for figure in figures:
      if marks.is_empty(figure):
        continue
      taken[figure.name] = taken.get(figure.name, 0) + 1
      if taken[figure.name] > 1:
        name = f'{figure.name}_{taken[figure.name]}'
        figure = figure._replace(name=name)
      own.append(blocks.Chart(figure, f'{_FIGURES}/{figure.name}'))
    charts.append((question, own))
  return charts


def plain(evidence: Evidence) -> Figure:
  """All points, for a folder that names no analysis."""
  arms = sorted({point.algorithm for point in evidence.points})
  return Figure(
    'frontier',
    'KL against win rate',
    'Each dot is a checkpoint: colour by arm, fuller for a greater number'
    ' of the loss, shape by seed; thin lines join a run.',
    Axis('KL(policy ‖ SFT), nats per response', log=True),
    Axis('win rate against the golden policy'),
    [_dots(arm, evidence.of(arm)) for arm in arms],
  )


def _dots(arm: str, points: Sequence[Point]) -> Series:
  kl = [point.kl_nats for point in points]
  return Series(arm, arm, kl, [p.win_rate for p in points], points=points)


def _object(path: Path) -> blocks.Json:
  """A JSON object; empty where there is no file."""
  if not path.exists():
    return {}
  value = files.read_json(path)
  if not isinstance(value, dict):
    raise InputError(
      f'{path} needs to be an object, got {type(value).__name__}. Remove it, or'
      ' run the study again: it is written at the end.'
    )
  return value


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
  return files.read_arrays(path, cure=_CURE)
