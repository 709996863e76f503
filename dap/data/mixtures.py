"""Layer 3. The public data sets as seqio Tasks and Mixtures, for T5X.

Importing this module registers them; it needs the extra `[seqio]` and reads
nothing. A gin file of T5X needs `import dap.data.mixtures` and the name:

  dap_summaries, dap_hh_helpful_base, dap_arena, ...: a Task for each set of
    `public_sets.SETS`, with inputs, targets (chosen) and rejected;
  dap_helpful: a Mixture of the three helpful subsets, as many of each;
  dap_preferences: a Mixture of the four tasks of Tang et al. 2024, as much of
    each.

Two environment variables say where things are when a Task is asked for data:
DAP_RAW_DATA, the folder of raw files (`public_sets` says how it is laid out),
and, when this module is imported, DAP_VOCABULARY, a SentencePiece model: T5's
own by default. Splits are `train` and `test`.
"""

import os
from collections.abc import Callable

from dap.data import public_sets, sources, tasks
from dap.data.foreign import Registry
from dap.data.hub import optional
from dap.data.schema import Row
from dap.data.vocabulary import SentencePiece, Vocabulary
from dap.errors import InputError

T5_VOCABULARY = 'gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model'


def register(
  folder: str | None = None,
  vocabulary: Vocabulary | None = None,
  mistakes: sources.Mistakes = sources.leave_out,
) -> None:
  """Registers all Tasks and Mixtures, in place of those of an earlier call.

  Args:
    folder: of raw files; None for what DAP_RAW_DATA says when data is read.
    vocabulary: of all features; None for the model at DAP_VOCABULARY, or T5's.
    mistakes: what becomes of malformed rows, some of which are in the public
      files: left out with a warning, or refused.
  """
  seqio = optional('seqio')
  if vocabulary is None:  # nothing is read before a Task is asked for data
    vocabulary = SentencePiece(os.environ.get('DAP_VOCABULARY', T5_VOCABULARY))
  for name in public_sets.SETS:
    _forget(seqio.TaskRegistry, f'dap_{name}')
    loader = _loader(name, folder, mistakes)
    tasks.add_lazy_task(f'dap_{name}', loader, vocabulary)
  mixtures = {
    'dap_helpful': [(f'dap_{s}', 1.0) for s in public_sets.PAPER['helpful']],
    'dap_preferences': [
      (f'dap_{name}', 1.0 / len(sets))
      for sets in public_sets.PAPER.values()
      for name in sets
    ],
  }
  for name, rates in mixtures.items():
    _forget(seqio.MixtureRegistry, name)
    seqio.MixtureRegistry.add(name, rates)


def _forget(registry: Registry, name: str) -> None:
  if name in registry.names():
    registry.remove(name)


def _loader(
  name: str, folder: str | None, mistakes: sources.Mistakes
) -> Callable[[str], list[Row]]:
  def load(split: str) -> list[Row]:
    where = folder or os.environ.get('DAP_RAW_DATA')
    if not where:
      raise InputError(
        f'dap_{name} needs its raw files: set DAP_RAW_DATA to their folder, or'
        ' call dap.data.mixtures.register(folder).'
      )
    return public_sets.local_source(name, where, mistakes).load(split)

  return load


register()
