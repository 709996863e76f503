"""Layer 3. Our sources as TFDS data sets.

Needs the extra `[seqio]`; nothing is imported before it is called, and nothing
is downloaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from dap.data.foreign import TfdsBuilder
from dap.data.hub import import_tensorflow, optional
from dap.data.schema import SPLITS, Row
from dap.data.sources import Source
from dap.errors import InputError


def tfds_builder(
  source: Source,
  data_dir: str | None = None,
  splits: Sequence[str] = SPLITS,
  name: str | None = None,
) -> TfdsBuilder:
  """A TFDS builder of any source: a configuration of `dap_pairs`.

  `download_and_prepare()` writes it under `data_dir` (TFDS's own default when
  None) without a download, `data_path` is where; `hub.TfdsRows` and `tfds.load`
  read it from there. Its features are the keys that all rows have: prompt,
  chosen, rejected, and what else is a text or a number (TFDS keeps 32 bits of
  a float).

  Args:
    source: what is written, in its order.
    data_dir: folder of all data sets.
    splits: which splits to write; those without rows are left out.
    name: of the configuration; the source's fingerprint when None.

  Raises:
    InputError: the source has a mistake, or no split has rows.
  """
  builder, config = _tfds_classes()
  rows = {split: source.load(split) for split in splits}
  rows = {split: found for split, found in rows.items() if found}
  if not rows:
    raise InputError(f'None of the splits {", ".join(splits)} has rows.')
  return builder(
    config=config(
      name=name or source.fingerprint(), description=repr(source), rows=rows
    ),
    data_dir=data_dir,
  )


def _shared_columns(rows: dict[str, list[Row]]) -> dict[str, type]:
  """The keys that all rows have with one type, text or number."""
  every = [row for found in rows.values() for row in found]
  return {
    key: kind
    for key, kind in ((k, type(v)) for k, v in every[0].items())
    if kind in (str, int, float)
    and all(type(row.get(key)) is kind for row in every)
  }


@cache
def _tfds_classes() -> tuple[Callable[..., TfdsBuilder], Callable[..., object]]:
  """Made once: TFDS registers a builder by its name."""
  tfds, tf = optional('tensorflow_datasets'), import_tensorflow()
  numbers = {int: tf.int64, float: tf.float64}

  @dataclass(kw_only=True)
  class Config(tfds.core.BuilderConfig):
    """Which rows, by split."""

    rows: dict[str, list[Row]]

  class DapPairs(tfds.core.GeneratorBasedBuilder):
    """Preference pairs, one schema: see dap/data/schema.py."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      columns = _shared_columns(self.builder_config.rows)
      features = {
        key: tfds.features.Scalar(numbers[kind])
        if kind in numbers
        else tfds.features.Text()
        for key, kind in columns.items()
      }
      return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,  # rows stay in the order of the source
      )

    def _split_generators(self, dl_manager):
      del dl_manager
      return {s: self._generate_examples(s) for s in self.builder_config.rows}

    def _generate_examples(self, split):
      columns = list(self.info.features)
      rows = self.builder_config.rows[split]
      return enumerate({key: row[key] for key in columns} for row in rows)

  return DapPairs, Config
