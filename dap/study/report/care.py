"""Layer 7. What the data of a study make a reader careful of."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from dap.data import facts
from dap.study.report.pages.blocks import Json

_NAMES = {'train': 'Training', 'stress': 'Stress', 'test': 'Test'}


def of_data(study: Json) -> list[str]:
  """Sentences on rows left out, ends that lack, test prompts of train.

  What holds of all seeds alike is said once, anything else with its seed.

  Args:
    study: study.json, whose `data_counts` are those of `prepared.Prepared` by
      split; an older one has none.
  """
  return [
    f'{note} (seed {", ".join(seeds)})' if seeds else note
    for note, seeds in by_seed(study, _of_data).items()
  ]


def _of_data(own: Json) -> Iterator[str]:
  for split, counts in (own.get('data_counts') or {}).items():
    for note in facts.notes(counts):
      yield f'{_NAMES.get(split, split)} data: {note}'
    share = counts.get('cut_responses', 0) / max(counts.get('responses', 0), 1)
    if split == 'stress' and share > 0:
      yield (
        f'Stress data: {share:.0%} of the responses, spoilt on purpose, are cut'
        ' at their limit.'
      )


def by_seed(
  study: Json, of_seed: Callable[[Json], Iterable[str]]
) -> dict[str, list[str]]:
  """Sentences of all seeds, each with those that it holds of; [] for all.

  Args:
    study: study.json; one without seeds is of one.
    of_seed: the sentences of what it says of a seed.
  """
  each: Mapping[str, Json] = study.get('by_seed') or {'': study}
  said: dict[str, list[str]] = {}
  for seed, own in each.items():
    for note in of_seed(own):
      said.setdefault(note, []).append(str(seed))
  return {
    note: [] if len(seeds) == len(each) else seeds
    for note, seeds in said.items()
  }
