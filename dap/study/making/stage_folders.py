"""Layer 7. What a stage of the study reads in the folders of others."""

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import PyTree

from dap import files, partitioning
from dap.algorithms.run import Run
from dap.checkpoints import load
from dap.data import datasets
from dap.data import pairs as pairs_lib
from dap.data import vocabulary as vocabulary_lib
from dap.data.pairs import Pairs
from dap.data.vocabulary import Vocabulary
from dap.models.protocols import Parameters
from dap.records import ended
from dap.training import stream
from dap.training.collectors import Examples
from dap.training.programs import Params

Folders = dict[str, Path]

# Prompts of the test split are numbered from here, apart from all others.
TEST_PROMPTS = 10_000_000


@runtime_checkable
class OfRun(Protocol):
  """The configuration of a training, of one run or of several alike."""

  @property
  def run(self) -> Run: ...
  @property
  def splits(self) -> tuple[str, ...]: ...
  @property
  def from_step(self) -> int | None: ...
  @property
  def mesh(self) -> tuple[int, int]: ...


def vocabulary_of(data: datasets.PairData, folder: Path) -> Vocabulary:
  """The vocabulary of a finished `prepare`."""
  model = folder / 'vocabulary.model'
  if model.exists():
    return vocabulary_lib.SentencePiece(str(model))
  return data.vocabulary


def load_params(
  model: Parameters,
  folder: Path,
  step: int | None = None,
  mesh: tuple[int, int] = (1, 1),
) -> PyTree:
  """Parameters of a training stage: of a step, or the newest."""
  name = '.' if step is None else f'checkpoints/checkpoint_{step}'
  return load.load_params(model, folder / name, partitioning.mesh(mesh))


def load_splits(folder: Path, splits: tuple[str, ...]) -> Pairs:
  """The named splits, joined; those that the data lack are left out."""
  present = [folder / f'{split}.npz' for split in splits]
  return pairs_lib.concatenate(
    *(pairs_lib.load(path) for path in present if path.exists())
  )


class Texts(NamedTuple):
  """Posts and responses as a source of data reads them."""

  prompts: list[str]
  responses: list[str]
  finished: list[bool]


def texts(
  data: datasets.PairData,
  folder: Path,
  prompt_ids: np.ndarray,
  tokens: np.ndarray,
) -> Texts:
  """What a policy answered to prompts of a finished `prepare` that has truth.

  Args:
    data: of the stage.
    folder: of the stage.
    prompt_ids: of one split.
    tokens: of the responses, row by row.
  """
  is_test = len(prompt_ids) > 0 and prompt_ids[0] >= TEST_PROMPTS
  split, first = ('test', TEST_PROMPTS) if is_test else ('train', 0)
  whole = files.read_json(folder / f'{split}_prompts.json')
  vocabulary = vocabulary_of(data, folder)
  return Texts(
    [whole[number - first] for number in prompt_ids],
    [vocabulary.decode(row) for row in tokens],
    ended(tokens).tolist(),
  )


def policy_inputs(config: OfRun, inputs: Folders) -> tuple[Examples, Params]:
  """What a training that starts from a policy, `sft`, reads.

  Among the inputs are `pairs`, or the run whose `stream` it trains on, and the
  `annotator`, a preference model, where it samples.

  Args:
    config: as a `Training`.
    inputs: of its stage.
  """
  run, shape = config.run, config.mesh
  start = load_params(run.model.shared, inputs['sft'], config.from_step, shape)
  annotator = None
  if run.algorithm.sampler is not None and run.algorithm.annotator is not None:
    judge = run.algorithm.annotator.model
    annotator = load_params(judge, inputs['annotator'], mesh=shape)
  examples: Examples
  if 'stream' in inputs:
    examples = stream.read(inputs['stream'] / 'stream')
  else:
    examples = load_splits(inputs['pairs'], config.splits)
  return examples, Params(start, start, annotator)
