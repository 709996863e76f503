"""Layer 6. From the folders of stages to runs.jsonl and study.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dap import files
from dap.study import points, stages, values
from dap.study.points import Point

Folders = dict[int, dict[str, Path]]  # by seed, by name of `run.build`
_NUM_SHOWN = 12


def write(
  study: Any,
  folders: Folders,
  root: Path,
  title: str,
  kl_range: tuple[float, float],
  caveats: Sequence[str] = (),
) -> None:
  """Writes both files; equal stages give equal bytes.

  Args:
    study: a `run.Study`.
    folders: of the finished stages.
    root: of the study.
    title: of the report.
    kl_range: nats between which the arms are compared.
    caveats: sentences of the configuration, for the report.
  """
  lines = [
    point
    for seed, places in folders.items()
    for point in _points(study, seed, places, root)
  ]
  points.write(root / 'runs.jsonl', lines)
  first = min(folders)
  own = [point for point in lines if point.seed == first]
  summary = {
    'title': title,
    'data_set': type(study.data.source).__name__,
    'seeds': sorted(folders),
    'kl_range': list(kl_range),
    'caveats': list(caveats),
    'by_seed': {str(s): _measured(p) for s, p in sorted(folders.items())},
    **_measured(folders[first]),
    'samples': _samples(study, folders[first], own, root, kl_range[1]),
    'config': values.describe(study),
  }
  files.write_json(root / 'study.json', summary)


def _points(
  study: Any, seed: int, places: dict[str, Path], root: Path
) -> list[Point]:
  found = []
  for name, training in (('sft', study.sft),
                         ('golden_policy', study.golden_policy)):  # fmt: skip
    beta = dict(training.algorithm.loss.scalars).get('beta')
    found += _lines(
      root, places[f'evaluate/{name}'], run=name, algorithm=name, seed=seed,
      lr=training.learning_rate, beta=beta,
      newest=0 if name == 'sft' else training.num_steps,
    )  # fmt: skip
  for arm_name, arm in study.arms:
    for index, (rate, beta, training) in enumerate(arm.runs(seed)):
      name = f'{arm_name}_{index}'
      found += _lines(
        root, places[f'evaluate/{name}'], run=name, algorithm=arm_name,
        seed=seed, lr=rate, beta=beta, newest=training.num_steps,
      )  # fmt: skip
  return found


def _lines(root: Path, place: Path, newest: int, **fields: Any) -> list[Point]:
  found = []
  for entry in files.read_json(place / 'points.json'):
    arrays = (place / entry.pop('arrays')).relative_to(root)
    step = entry.pop('step')
    found.append(
      Point(
        **fields,
        **entry,
        step=newest if step is None else step,
        per_prompt=str(arrays),
      )
    )
  return found


def _measured(places: dict[str, Path]) -> dict[str, Any]:
  """Held-out accuracies and losses of one seed, beside simple baselines."""
  relabelled = files.read_json(places['relabel'] / 'summary.json')
  data = files.read_json(places['data'] / 'summary.json')
  held_out = relabelled['test']
  baselines = data['baselines']
  golden = {**held_out['agrees_with_labels']}
  if 'agrees_with_truth' in held_out:
    golden['against_truth'] = held_out['agrees_with_truth']
  golden['train_agreement'] = relabelled['train']['agrees_with_labels']
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
    'data_reports': data['reports'],
  }


def _samples(
  study: Any,
  places: dict[str, Path],
  lines: list[Point],
  root: Path,
  largest_kl: float,
) -> list[dict[str, str]]:
  """Responses side by side: SFT, the best of each arm, the golden policy.

  Best up to `largest_kl`, beyond which the judge itself is over-optimised; the
  nearest where an arm has none so near.
  """
  vocabulary = stages.vocabulary_of(study.data, places['data'])
  stored = points.read_arrays(
    places['opponent'] / 'responses.npz', ('prompts', 'tokens')
  )
  shown = {'golden': stored['tokens']}
  for arm in ('sft', 'online', 'offline'):
    own = [point for point in lines if point.arm == arm]
    if own:
      near = [point for point in own if point.kl_nats <= largest_kl]
      nearest = min(own, key=lambda point: point.kl_nats)
      best = max(near or [nearest], key=lambda point: point.win_rate)
      path = root / str(best.per_prompt)
      shown[arm] = points.read_arrays(path, ('tokens',))['tokens']
  count = min(_NUM_SHOWN, len(stored['prompts']))
  return [
    {
      'prompt': vocabulary.decode(stored['prompts'][index]),
      **{
        name: _text(vocabulary, tokens[index]) for name, tokens in shown.items()
      },
    }
    for index in range(count)
  ]


def _text(vocabulary: Any, tokens: np.ndarray) -> str:
  cut = '' if np.any(tokens == 1) else ' [cut]'
  return vocabulary.decode(tokens) + cut
