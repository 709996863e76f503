"""Layer 7. From the folders of stages to the files that a report reads.

runs.jsonl has the points, measures/ the arrays beside them, samples.json what
the policies write, study.json all else; sealed.json their seals, and who made
them when.
"""

import functools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from dap import files, progress, seals
from dap.algorithms.run import Run
from dap.data.vocabulary import Vocabulary
from dap.records import ended
from dap.stages import provenance, values
from dap.study.analyses import to_json
from dap.study.design import Study, grid
from dap.study.making import measures, spent, stage_folders
from dap.study.reading import runs
from dap.study.reading.runs import Point
from dap.study.report import report

Folders = dict[int, dict[str, Path]]  # by seed, by name of `build.build`
_NUM_SHOWN = 12  # prompts of a seed in samples.json


def write(
  study: Study,
  folders: Folders,
  root: Path,
  title: str,
  caveats: Sequence[str] = (),
  other_code: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
  """Writes all files; equal stages give equal bytes, but of sealed.json.

  Args:
    study: that was run.
    folders: of the finished stages.
    root: of the study.
    title: of the report.
    caveats: sentences of the configuration, for the report.
    other_code: what differs in code, by the names of stages that were accepted
      as other code had made them.
  """
  try:
    report.check(root)
  except seals.Broken as error:
    progress.say(f'{error} Here it is written anew, from its stages.')
  lines = [
    point
    for seed, places in folders.items()
    for point in _points(study, seed, places, root)
  ]
  runs.write(root / 'runs.jsonl', lines)
  _copy_measures(study, folders, root)
  samples = _samples(study, folders, lines, root)
  files.write_atomically(root / 'samples.json', _compact(samples))
  others = {name: list(each) for name, each in other_code.items()}
  summary = {
    'title': title,
    'data_set': _data_set(study.data.source),
    'seeds': sorted(folders),
    'caveats': list(caveats),
    **({'other_code': others} if others else {}),
    **_summary(study, folders),
  }
  files.write_json(root / 'study.json', summary)
  _seal(root, study)


def _summary(study: Study, folders: Folders) -> dict[str, object]:
  """What study.json says of a study beside its name and what limits it."""
  first = min(folders)
  return {
    'by_seed': {
      str(s): _held_out_numbers(p) for s, p in sorted(folders.items())
    },
    **_held_out_numbers(folders[first]),
    'analyses': [to_json(each.analysis) for each in study.experiments],
    'arms': {
      type(each.analysis).__name__: [arm.name for arm in each.arms]
      for each in study.experiments
    },
    'runs': {name: values.describe(run) for name, run in _runs(study, first)},
    'config': values.describe(
      {
        'data': study.data,
        'num_golden_pairs': study.num_golden_pairs,
        'evaluation': study.evaluation,
        'measures': study.measures,
      }
    ),
  }


def _seal(root: Path, study: Study) -> None:
  """Seals what a report reads; a start that changed none of it is not told."""
  names = ['runs.jsonl', 'study.json', 'samples.json']
  names += [
    path.relative_to(root).as_posix()
    for name in study.measures
    for path in sorted((root / 'measures' / name).glob('*.npz'))
  ]
  sealed = {name: seals.of(root / name) for name in names}
  path = root / report.SEALED
  try:
    if seals.read_json(path, '')['files'] == sealed:
      return
  except seals.Broken:
    pass
  seals.write_json(path, {'files': sealed, 'made': provenance.of_process()})


def _data_set(source: object) -> str:
  """What the report calls the data: its own name, or its kind."""
  return getattr(source, 'name', type(source).__name__)


def _runs(study: Study, seed: int) -> Iterator[tuple[str, Run]]:
  """Every training by its name in runs.jsonl."""
  yield 'sft', study.sft
  yield 'golden_policy', study.golden_policy
  yield 'golden', study.golden
  yield 'proxy', study.proxy
  for size in study.sizes:
    yield f'sft_{size.name}', size.sft
  for judge in study.judges:
    yield f'judge_{judge.name}', judge.run
  for arm in study.arms.values():
    for each in arm.runs(seed):
      yield each.name, each.run


def _points(
  study: Study, seed: int, places: dict[str, Path], root: Path
) -> list[Point]:
  sft = {'sft': study.sft}
  sft |= {f'sft_{size.name}': size.sft for size in study.sizes}
  found = []
  for name, run in {**sft, 'golden_policy': study.golden_policy}.items():
    found += _lines(
      root, places[f'evaluate/{name}'], run=name, algorithm=name, seed=seed,
      lr=run.learning_rate, scalars=grid.scalars(run),
      newest=0 if name in sft else run.num_steps,
    )  # fmt: skip
  spending = spent.Spending(study, places)
  for arm in study.arms.values():
    for each in arm.runs(seed):
      found += _lines(
        root, places[f'evaluate/{each.name}'],
        functools.partial(spending.of, arm, each), run=each.name,
        algorithm=arm.name, seed=seed, lr=each.run.learning_rate,
        scalars=each.scalars, newest=each.run.num_steps,
      )  # fmt: skip
  return found


def _lines(
  root: Path,
  place: Path,
  more: Callable[[Mapping[str, object]], Mapping[str, object]] = dict,
  *,
  newest: int,
  **fields: object,
) -> list[Point]:
  found = []
  for entry in files.read_json(place / 'points.json'):
    step = newest if entry['step'] is None else entry['step']
    entry |= {'step': step, **more({**entry, 'step': step})}
    arrays = (place / entry.pop('arrays')).relative_to(root)
    point = {**fields, **entry, 'per_prompt': str(arrays)}
    found.append(runs.make_point(point))
  return found


def _copy_measures(study: Study, folders: Folders, root: Path) -> None:
  """The arrays of measures to measures/<name>/<seed>.npz, anew."""
  for name in study.measures:
    for seed, places in folders.items():
      source = places[f'measure/{name}'] / measures.ARRAYS
      with (
        files.atomic_file(root / 'measures' / name / f'{seed}.npz') as target,
        open(source, 'rb') as arrays,
      ):
        shutil.copyfileobj(arrays, target)


def _held_out_numbers(places: dict[str, Path]) -> dict[str, object]:
  """Held-out accuracies and losses of one seed, beside simple baselines."""
  relabelled = files.read_json(places['relabel'] / 'summary.json')
  data = files.read_json(places['data'] / 'summary.json')
  held_out = relabelled['test']
  baselines = data['baselines']
  golden = {**held_out['agrees_with_labels']}
  if 'agrees_with_truth' in held_out:
    golden['against_truth'] = held_out['agrees_with_truth']
  golden['train_agreement'] = relabelled['train']['agrees_with_labels']
  asked = runs.read_arrays(
    places['opponent'] / 'responses.npz', ('prompt_ids',)
  )
  return {
    'golden': golden,
    'proxy': files.read_json(places['proxy_accuracy'] / 'summary.json'),
    'sft': {
      'loss': files.read_json(places['sft_loss'] / 'summary.json')['loss'],
      'unigram_loss': baselines['unigram_loss'],
    },
    'baselines': {k: v for k, v in baselines.items() if k != 'unigram_loss'},
    'golden_pairs': {
      split: {k: relabelled[split][k] for k in ('pairs', 'ties')}
      for split in relabelled
    },
    'judging_prompts': len(np.unique(asked['prompt_ids'])),
    **_judges(places),
    **_panel(places),
    'data_reports': data['reports'],
    'data_counts': data.get('counts', {}),
  }


def _judges(places: dict[str, Path]) -> dict[str, object]:
  """Held-out accuracies of judges beside the proxy, where there are any."""
  found = {
    name.removesuffix('_accuracy'): files.read_json(place / 'summary.json')
    for name, place in sorted(places.items())
    if name.startswith('judge_') and name.endswith('_accuracy')
  }
  return {'judges': found} if found else {}


def _panel(places: dict[str, Path]) -> dict[str, object]:
  """What scouts wrote for the golden model, where a panel was asked."""
  if 'panel' not in places:
    return {}
  return {'panel': files.read_json(places['panel'] / 'summary.json')}


def _samples(
  study: Study, folders: Folders, lines: list[Point], root: Path
) -> dict[str, object]:
  """What each checkpoint answers to the first prompts of its seed.

  `prefers` is the golden model's probability that it prefers the answer to the
  golden policy's, which was shown first and second.
  """
  seeds, vocabularies = {}, {}
  for seed, places in sorted(folders.items()):
    stored = runs.read_arrays(
      places['opponent'] / 'responses.npz', ('prompts', 'tokens')
    )
    vocabulary = stage_folders.vocabulary_of(study.data, places['data'])
    prompts, golden = (stored[n][:_NUM_SHOWN] for n in ('prompts', 'tokens'))
    vocabularies[seed] = vocabulary
    seeds[str(seed)] = {
      'prompts': [vocabulary.decode(row) for row in prompts],
      'golden': [_text(vocabulary, row) for row in golden],
    }
  answers = {
    f'{point.run}/{point.seed}/{point.step}': _answers(
      root / str(point.per_prompt), vocabularies[point.seed]
    )
    for point in lines
  }
  return {'seeds': seeds, 'points': answers}


def _answers(path: Path, vocabulary: Vocabulary) -> Mapping[str, object]:
  stored = runs.read_arrays(path, ('tokens', 'golden_p_ab', 'golden_p_ba'))
  tokens, p_ab, p_ba = (stored[name][:_NUM_SHOWN] for name in stored)
  return {
    'texts': [_text(vocabulary, row) for row in tokens],
    'prefers': [round(float(p), 3) for p in 0.5 * (p_ab + 1 - p_ba)],
  }


def _text(vocabulary: Vocabulary, tokens: np.ndarray) -> str:
  cut = '' if ended(tokens) else ' [cut]'
  return vocabulary.decode(tokens) + cut


def _compact(value: object) -> str:
  return json.dumps(value, ensure_ascii=False, separators=(',', ':')) + '\n'
