"""Layer 7. What the data of a study make a reader careful of."""

from dap.data import facts
from dap.study.report.pages.blocks import Json

_NAMES = {'train': 'Training', 'stress': 'Stress', 'test': 'Test'}


def of_data(study: Json) -> list[str]:
  """Sentences on rows left out, ends that lack, test prompts of train.

  What holds of all seeds alike is said once, anything else with its seed.

  Args:
    study: study.json, whose `data_counts` are those of `arrays.Prepared` by
      split; an older one has none.
  """
  said: dict[str, list[str]] = {}
  by_seed = study.get('by_seed') or {}
  for seed, own in by_seed.items():
    for split, counts in (own.get('data_counts') or {}).items():
      for note in facts.notes(counts):
        named = f'{_NAMES.get(split, split)} data: {note}'
        said.setdefault(named, []).append(seed)
  return [
    note
    if len(seeds) == len(by_seed)
    else f'{note} (seed {", ".join(map(str, seeds))})'
    for note, seeds in said.items()
  ]
