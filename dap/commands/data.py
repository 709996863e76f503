"""Layer 8. `dap data`: read, check and tokenise a data set, and show it."""

from pathlib import Path

from dap import progress
from dap.data import facts, sources, tfds_builder
from dap.data.arrays import EncodedSource
from dap.data.datasets import PairData
from dap.data.prepared import Prepared
from dap.losses.ranges import Count


def prepare_data(
  *,
  data: PairData,
  cache_dir: str = 'out/data',
  num_shown: Count = 3,
  tfds_dir: str | None = None,
) -> None:
  """Prepares all splits under `cache_dir` and prints what is in them.

  Args:
    data: source, vocabulary and lengths.
    cache_dir: folder for vocabulary and arrays.
    num_shown: examples to print of each split, decoded from their ids.
    tfds_dir: folder of TFDS data sets, to write the pairs there as one too;
      needs the extra `[seqio]`.
  """
  root = Path(cache_dir)
  vocabulary = data.trained_vocabulary(root)
  progress.say(f'vocabulary: {vocabulary.size} ids')
  for split in sources.SPLITS:
    prepared = data.prepare(split, vocabulary, root)
    if not len(prepared):
      continue
    progress.say(f'\n{split}: {prepared.report}\n  {prepared.folder}')
    for line in _lengths(data, prepared):
      progress.say(line)
    for index in range(min(num_shown, len(prepared))):
      progress.say(f'  prompt:   {vocabulary.decode(prepared.prompts[index])}')
      for key, column in prepared.responses.items():
        progress.say(f'  {key + ":":9} {vocabulary.decode(column[index])}')
  if tfds_dir is not None:
    builder = tfds_builder.tfds_builder(data.source, tfds_dir)
    builder.download_and_prepare()
    progress.say(f'\nTFDS data set: {builder.data_path}')


def _lengths(data: PairData, prepared: Prepared) -> list[str]:
  """How long texts are before the cut, and which limits would cut few.

  Of ids that came cut nothing is known beyond their limits, so that no others
  can be suggested.
  """
  limits = data.prompt_length, data.response_length
  lines = facts.length_table(prepared.lengths, prepared.counts, limits)
  if isinstance(data.source, EncodedSource):
    return [*lines, '  (as seqio cut them: raise both lengths to see more)']
  return [*lines, facts.suggested_lengths(prepared.lengths)]


def dry_run(*, data: PairData, **others: object) -> None:
  """Reads and checks the texts of every row, writes nothing.

  Ids are checked when they are made.
  """
  del others
  for split in sources.SPLITS:
    print(f'{split}: {len(data.source.load(split))} rows')
