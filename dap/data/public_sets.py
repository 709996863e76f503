"""Layer 3. The public data sets by name: their files, and what rows mean.

Raw files lie under one folder, each set in its own as on the Hugging Face hub:
`hh-rlhf/helpful-base/train.jsonl.gz`. A file may be gzipped or not. Where the
hub has Parquet alone, `datasets` writes the lines: `dataset.to_json(path)`.
"""

import functools
from dataclasses import dataclass

from dap.data import formats, paths
from dap.data.readers import JsonlFiles
from dap.data.sources import (
  Format,
  Formatted,
  Group,
  Keep,
  Mistakes,
  each_row,
  every_row,
  refuse,
)
from dap.errors import InputError

_ENDINGS = ('.jsonl.gz', '.jsonl')


@dataclass(frozen=True)
class PublicSet:
  """A set or a subset.

  Attributes:
    folder: of its files, under the folder of all raw files.
    format: what its rows mean.
    train: name of the training file, without its ending.
    test: the same of the held-out file, which may be the same.
    group: which rows belong together.
    keep: which rows belong to a split.
    held_out: which rows are `test` when there is no held-out file; None where
      the set has one.
  """

  folder: str
  format: Format
  train: str = 'train'
  test: str = 'test'
  group: Group = each_row
  keep: Keep = every_row
  held_out: Keep | None = None


def _hh(subset: str) -> PublicSet:
  return PublicSet(
    f'hh-rlhf/{subset}', functools.partial(formats.hh, subset=subset)
  )


SETS = {
  'summaries': PublicSet(
    'summarize_from_feedback/comparisons', formats.summaries, test='validation'
  ),
  'hh_helpful_base': _hh('helpful-base'),
  'hh_helpful_online': _hh('helpful-online'),
  'hh_helpful_rejection_sampled': _hh('helpful-rejection-sampled'),
  'hh_harmless_base': _hh('harmless-base'),
  'arena': PublicSet(
    'chatbot_arena_conversations', formats.arena, held_out=formats.twentieth
  ),
  'ultrafeedback': PublicSet(
    'UltraFeedback',
    formats.ultrafeedback,
    held_out=functools.partial(formats.twentieth, question=formats.instruction),
  ),
  'ultrafeedback_binarized': PublicSet(
    'ultrafeedback_binarized',
    formats.ultrafeedback_binarized,
    train='train_prefs',
    test='test_prefs',
  ),
  'helpsteer': PublicSet(
    'HelpSteer',
    functools.partial(formats.helpsteer, source='helpsteer'),
    test='validation',
    group=formats.by_prompt,
  ),
  'helpsteer2': PublicSet(
    'HelpSteer2',
    formats.helpsteer,
    test='validation',
    group=formats.by_prompt,
  ),
  'helpsteer2_preference': PublicSet(
    'HelpSteer2/preference',
    formats.helpsteer2_preference,
    train='preference',
    test='preference',
    keep=formats.by_own_split,
  ),
}

# The four tasks of Tang et al. 2024, and what each is made of.
PAPER = {
  'summaries': ('summaries',),
  'helpful': (
    'hh_helpful_base',
    'hh_helpful_online',
    'hh_helpful_rejection_sampled',
  ),
  'harmless': ('hh_harmless_base',),
  'arena': ('arena',),
}


def local_source(
  name: str, folder: str, mistakes: Mistakes = refuse
) -> Formatted:
  """A set's source from the raw files under `folder`.

  Args:
    name: of `SETS`.
    folder: of all raw files, local or in a bucket.
    mistakes: `sources.refuse` or `sources.leave_out`.

  Raises:
    InputError: no set has the name, or the set has no files there; when a split
      is read, its file is missing.
  """
  if name not in SETS:
    raise InputError(f'No set is called {name!r}; there are {", ".join(SETS)}.')
  of_set = SETS[name]
  stems = [
    f'{folder.rstrip("/")}/{of_set.folder}/{stem}'
    for stem in (of_set.train, of_set.test)
  ]
  train, test = map(_find, stems)
  if train is test is None:
    raise InputError(
      f'{stems[0]}{_ENDINGS[0]}: no such file, nor {_ENDINGS[1]}. Copy the set'
      ' there, or give another folder of raw files.'
    )
  if of_set.held_out is None:  # whoever asks for the split hears of its file
    test = test or stems[1] + _ENDINGS[0]
  return Formatted(
    JsonlFiles(train or stems[0] + _ENDINGS[0], test),
    of_set.format,
    of_set.group,
    of_set.keep,
    mistakes,
    of_set.held_out,
  )


def _find(stem: str) -> str | None:
  existing = (stem + e for e in _ENDINGS if paths.exists(stem + e))
  return next(existing, None)
