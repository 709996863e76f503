"""Layer 7. The stage that asks a panel about what policies write."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from dap import errors, files, partitioning
from dap.data import datasets
from dap.data.pairs import Pairs
from dap.data.sources import Peopled
from dap.evaluation import points, programs
from dap.models.trained import Policy, policy_of
from dap.stages.artefacts import Stage
from dap.study.design import Study, evaluated_steps
from dap.study.making import trainings
from dap.study.making.stage_folders import (
  Folders,
  load_params,
  load_splits,
  texts,
)

_SCOUT_SEEDS = 1_000_003  # apart from those of the study's own runs

_ORDER = 23  # of the random numbers that choose prompts and writers
_FIRST, _SECOND = 8, 9  # slots of samples
_KL_ROWS = 256  # of a writer, at most


@dataclasses.dataclass(frozen=True)
class Asking:
  """Pairs of fresh responses of several checkpoints, under a panel's votes.

  Attributes:
    data: of the prompts.
    people: their source, which is asked.
    policy: the model of all writers.
    evaluation: batch size, seed and how tokens are drawn.
    writers: the input with the run of each, and the checkpoint's step; the
      newest when None.
    num_pairs: in all, before equal responses are left out.
    mesh: of devices.
  """

  data: datasets.PairData
  people: Peopled
  policy: Policy
  evaluation: points.Evaluation
  writers: tuple[tuple[str, int | None], ...]
  num_pairs: int
  mesh: tuple[int, int] = (1, 1)


@runtime_checkable
class Tree(Protocol):
  """What the stages of a seed stand in, see `build.Tree`."""

  @property
  def study(self) -> Study: ...
  @property
  def seed(self) -> int: ...
  @property
  def source(self) -> datasets.PairData: ...
  @property
  def stages(self) -> dict[str, Stage]: ...
  @property
  def trained(self) -> Callable[..., Stage]: ...
  @property
  def policy_run(self) -> Callable[..., Stage]: ...


def stages(tree: Tree) -> dict[str, Stage]:
  """What the golden model reads beside the data: pairs that scouts wrote.

  Nothing without a panel, or where the data's source has no people to ask. The
  stages that lead there, `scout_judge`, the scouts and `panel`, stand in the
  tree after it.
  """
  study, made = tree.study, tree.stages
  people = tree.source.source
  if study.panel is None or not isinstance(people, Peopled):
    return {}
  runs = dict(study.panel.runs)
  judge = runs.pop('scout_judge')
  made['scout_judge'] = tree.trained(
    'scout_judge',
    judge,
    6,
    made['data'],
    splits=study.panel.judge_splits,
    num_pairs=study.panel.judge_pairs,
  )
  writers: list[tuple[str, int | None]] = [('sft', None)]
  for place, (name, run) in enumerate(runs.items(), start=1):
    own = dataclasses.replace(run, seed=tree.seed + place * _SCOUT_SEEDS)
    made[name] = tree.policy_run(
      name,
      trainings.Training(own, mesh=study.mesh),
      made['sft'],
      {'pairs': made['data']},
      annotator='scout_judge',
      group='scouts',
    )
    writers += [(name, step) for step in evaluated_steps(own)]
  made['panel'] = Stage(
    'panel',
    ask,
    Asking(
      tree.source,
      people,
      policy_of(study.sft.model),
      study.evaluation,
      tuple(writers),
      study.panel.num_pairs,
      study.mesh,
    ),
    {name: made[name] for name in ('data', 'sft', *runs)},
    weight=8,
  )
  return {'panel': made['panel']}


def left_out(study: Study) -> str:
  """Why a study with a panel asks none; empty where it does, or has none."""
  source = study.data.source
  if study.panel is None or isinstance(source, Peopled):
    return ''
  return (
    'No panel: there is nobody to ask about what policies write (the source,'
    f' {type(source).__name__}, has no `votes`). The golden model learns from'
    ' the pairs of the data alone, and D_golden is its first'
    f' {study.num_golden_pairs:,}, as far as there are so many, without'
    f' the {study.panel.num_golden_pairs:,} of scouts.'
  )


def ask(config: Asking, inputs: Folders, work: Path) -> None:
  """Writes the pairs, and the KL of each writer.

  Half of the pairs are two responses of one writer, the others of two: a judge
  is asked about both, by training and by evaluation.
  """
  prompts = load_splits(inputs['data'], ('train',))
  rng = np.random.default_rng([config.people.seed, _ORDER])
  rows = rng.permutation(len(prompts))[: config.num_pairs]
  asked = points.Questions(
    prompts.prompt_ids[rows].astype(np.int32),
    np.zeros(len(rows), np.int32),
    prompts.prompts[rows],
  )
  number = len(config.writers)
  if len(rows) < number:
    raise errors.InputError(
      f'A panel needs a training pair for each of its {number} writers, got'
      f' {len(rows)}. Give more pairs, or fewer checkpoints of scouts.'
    )
  first = np.arange(len(rows)) % number
  other = rng.integers(number, size=len(rows))
  second = np.where(rng.random(len(rows)) < 0.5, first, other)
  sides, kl = _written(config, inputs, asked, (first, second))
  shares = _shares(config, inputs, asked, sides)
  pairs, equal = _in_order(asked, sides, shares)
  pairs.save(work / 'train.npz')
  names = [f'{run}_{step or "last"}' for run, step in config.writers]
  summary = {
    'pairs': len(pairs),
    'equal_responses': equal,
    'kl_nats': dict(zip(names, kl)),
  }
  files.write_json(work / 'summary.json', summary)


def _written(
  config: Asking,
  inputs: Folders,
  asked: points.Questions,
  writers: tuple[np.ndarray, np.ndarray],
) -> tuple[tuple[np.ndarray, np.ndarray], list[float]]:
  """Both responses of each row, and the KL of each writer, nats."""
  settings, mesh = config.evaluation, partitioning.mesh(config.mesh)
  length, size = config.data.response_length, settings.batch_size
  reference = load_params(config.policy, inputs['sft'], mesh=config.mesh)
  kl_of = programs.kl_program(config.policy, mesh)
  shape = len(asked.prompts), length
  sides = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  kl = []
  for number, (name, step) in enumerate(config.writers):
    params = load_params(config.policy, inputs[name], step, config.mesh)
    for slot, side, own in zip((_FIRST, _SECOND), sides, writers):
      rows = np.flatnonzero(own == number)
      if not len(rows):  # by chance nobody's second response is this one's
        continue
      few = points.Questions(*(column[rows] for column in asked))
      side[rows] = points.answers(
        config.policy, params, few, length, settings, mesh, slot=slot
      )
    rows = np.flatnonzero(writers[0] == number)[:_KL_ROWS]
    each = programs.in_batches(
      kl_of,
      (params, reference),
      (asked.prompts[rows], sides[0][rows]),
      size,
    )
    kl.append(float(np.mean(each)))
  return sides, kl


def _shares(
  config: Asking,
  inputs: Folders,
  asked: points.Questions,
  sides: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
  """Of the votes for the first response of each row."""
  told = [
    texts(config.data, inputs['data'], asked.prompt_ids, side) for side in sides
  ]
  first, second = told
  return config.people.votes(
    first.prompts,
    (first.responses, second.responses),
    (first.finished, second.finished),
  )


def _in_order(
  asked: points.Questions,
  sides: tuple[np.ndarray, np.ndarray],
  shares: np.ndarray,
) -> tuple[Pairs, int]:
  """Pairs whose chosen response has most votes, and how many were equal."""
  differs = np.any(sides[0] != sides[1], axis=1)
  if not np.any(differs):
    raise errors.InputError(
      'A panel needs pairs of responses that differ; the scouts wrote equal'
      f' ones to all of {len(differs)} prompts. Train them less, or leave the'
      ' panel out: --gin.design.Study.panel=None.'
    )
  first = (shares >= 0.5)[:, None]
  pairs = Pairs(
    asked.prompt_ids,
    asked.prompts,
    np.where(first, *sides),
    np.where(first, *sides[::-1]),
    shares=np.maximum(shares, 1 - shares),
  )
  return pairs.take(np.flatnonzero(differs)), int(np.sum(~differs))
