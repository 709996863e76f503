"""Layer 6. `dap report`: plots and a summary of a study's results.

It reads runs.jsonl, the arrays that its lines name, and where they are there
study.json and costs.jsonl; it writes report.md, report.html, frontier.png and
frontier.svg beside them.
"""

from pathlib import Path

import numpy as np

from dap import files, progress
from dap.errors import InputError
from dap.study import findings, frontiers, page, plots
from dap.study import points as points_lib
from dap.study.findings import Results

_WRITES = ('report.html', 'report.md', 'frontier.png', 'frontier.svg')
_CAPTION = (
  'Each dot is a checkpoint: colour by arm, fuller for a greater β, shape by'
  ' seed; thin lines join a run. Thick lines are the best checkpoint near each'
  ' KL, chosen on one half of the prompts and judged on the other, with the'
  ' 95 % interval over seeds and prompts.'
)
_PAGE_COLOURS = {
  plots.INK: 'currentColor',
  plots.FAINT: 'var(--faint)',
  plots.COLOURS['online']: 'var(--online)',
  plots.COLOURS['offline']: 'var(--offline)',
}


def report(*, study_dir: str) -> None:
  """Draws the plots and writes the summary, anew each time.

  Args:
    study_dir: folder of a study whose runs.jsonl is there.

  Raises:
    InputError: no points, or files that are not a study's.
  """
  folder = Path(study_dir)
  results = load(folder)
  title = findings.title(results)
  rng = np.random.default_rng(0)
  bands = {
    arm: frontiers.band(of_seeds, rng)
    for arm, of_seeds in results.curves.items()
  }
  plots.write_frontier(folder, results.points, bands, title=title)
  wide, narrow = (
    plots.svg_text(
      plots.frontier(results.points, bands, title='', shape=shape),
      _PAGE_COLOURS,
    )
    for shape in (plots.WIDE, plots.NARROW)
  )
  plot = page.Plot(wide, narrow, 'frontier.svg', _CAPTION)
  blocks = findings.blocks(results, plot)
  files.write_atomically(folder / 'report.md', page.to_markdown(title, blocks))
  files.write_atomically(folder / 'report.html', page.to_html(title, blocks))
  progress.say(f'{folder}: wrote {", ".join(_WRITES)}')


def dry_run(*, study_dir: str) -> None:
  """Prints what `report` would read and write."""
  folder = Path(study_dir)
  results = load(folder)
  by_arm = {
    arm: sum(point.arm == arm for point in results.points)
    for arm in points_lib.ALGORITHMS
  }
  counts = ', '.join(f'{count} {arm}' for arm, count in by_arm.items() if count)
  seeds = ', '.join(str(seed) for seed in _seeds(results))
  progress.say(
    f'{folder}: {len(results.points)} points ({counts}), seeds {seeds}.'
    f' Would write {", ".join(_WRITES)}.'
  )


def load(folder: Path) -> Results:
  """A study's results, from its folder."""
  points = points_lib.read(folder / 'runs.jsonl')
  described = folder / 'study.json'
  study = files.read_json(described) if described.exists() else {}
  if not isinstance(study, dict):
    raise InputError(
      f'{described} needs to be an object, got {type(study).__name__}. Remove'
      ' it, or run the study again: it is written at the end.'
    )
  costs = files.read_json_lines(folder / 'costs.jsonl')
  return Results(points, frontiers.curves(points, folder), study, costs)


def _seeds(results: Results) -> list[int]:
  return sorted({point.seed for point in results.points})
