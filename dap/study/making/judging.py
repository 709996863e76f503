"""Layer 7. Stages that judge: the opponent's responses, every checkpoint."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import PyTree

from dap import costs, files, partitioning, seals
from dap.algorithms.run import Run
from dap.data import datasets
from dap.data.pairs import Pairs
from dap.data.sources import Truthful
from dap.evaluation import points
from dap.models.protocols import Comparer, Scorer
from dap.models.trained import Policy
from dap.study.making.stage_folders import (
  Folders,
  load_params,
  load_splits,
  texts,
)
from dap.training import collectors, stream

_TOGETHER = 8  # checkpoints; an interruption loses the work on so many


@dataclasses.dataclass(frozen=True)
class Judging:
  """What all evaluations of a seed and a policy size share.

  Attributes:
    evaluation: settings.
    policy: the model that is evaluated.
    golden: the golden preference model.
    proxy: the proxy preference model.
    length: most tokens of a response.
    mesh: of devices.
  """

  evaluation: points.Evaluation
  policy: Policy
  golden: Comparer
  proxy: Comparer
  length: int
  mesh: tuple[int, int] = (1, 1)


@dataclasses.dataclass(frozen=True)
class RunPoints:
  """The evaluation of the checkpoints of one run.

  Attributes:
    judging: shared by all runs of a seed.
    data: whose source scores hidden utility where it can.
    run: the training; what its steps cost stands beside each point.
    save_steps: checkpoints to evaluate; empty evaluates the newest alone.
  """

  judging: Judging
  data: datasets.PairData
  run: Run
  save_steps: tuple[int, ...] = ()


def opponent(config: Judging, inputs: Folders, work: Path) -> None:
  """The golden policy's stored responses to the held-out prompts."""
  settings = config.evaluation
  held_out = load_splits(inputs['data'], ('test',))
  asked = points.questions(held_out, settings.num_prompts, settings.seed)
  params = load_params(config.policy, inputs['golden_policy'], mesh=config.mesh)
  tokens = points.answers(
    config.policy,
    params,
    asked,
    config.length,
    settings,
    partitioning.mesh(config.mesh),
    slot=2,
  )
  columns = {**asked._asdict(), 'tokens': tokens}
  files.write_arrays(work / 'responses.npz', columns)


def evaluate(config: RunPoints, inputs: Folders, work: Path) -> None:
  """Every saved checkpoint of a run: `points.json` and arrays beside it.

  Those of a run are judged together where that is quicker, `_TOGETHER` at most.
  What was judged whole before a kill is not judged again; of a group that was
  not, all are, since with others a checkpoint's rounding is another.
  """
  names = {
    f'step_{step}' if step is not None else 'newest': step
    for step in config.save_steps or (None,)
  }
  judges = config.judging.golden, config.judging.proxy
  scores = any(isinstance(model, Scorer) for model in judges)
  steps, size = list(names.items()), _TOGETHER if scores else 1
  groups = (dict(steps[i : i + size]) for i in range(0, len(steps), size))
  left = [group for group in groups if not _are_measured(group, work)]
  if left:
    fixed = _fixed(config.judging, inputs)
    for group in left:
      _measure(config, inputs, fixed, group, work)
  lines = []
  for name, step in names.items():
    point = seals.read_json(work / f'{name}.json', '')['point']
    lines.append({'step': step, 'arrays': f'{name}.npz', **point})
  files.write_json(work / 'points.json', lines)


def _measure(
  config: RunPoints,
  inputs: Folders,
  fixed: points.Fixed,
  names: Mapping[str, int | None],
  work: Path,
) -> None:
  """Points and arrays of the checkpoints of these steps."""
  judging = config.judging
  settings, mesh = judging.evaluation, partitioning.mesh(judging.mesh)
  answered = []
  for step in names.values():
    params = load_params(judging.policy, inputs['run'], step, judging.mesh)
    one = points.answer(judging.policy, params, fixed, settings, mesh)
    answered.append(one)
  found = points.judge(answered, fixed, settings, mesh)
  for (name, step), (point, arrays) in zip(names.items(), found):
    utility = hidden_utility(
      config.data, inputs['data'], arrays['prompt_ids'], arrays['tokens']
    )
    point['hidden_utility'] = None
    if utility is not None:
      point['hidden_utility'] = float(np.mean(utility))
      arrays['hidden_utility'] = utility
    point |= _training_costs(config, inputs['run'], fixed, step)
    files.write_arrays(work / f'{name}.npz', arrays)
    seal = seals.of(work / f'{name}.npz')
    seals.write_json(work / f'{name}.json', {'point': point, 'arrays': seal})


def _are_measured(names: Iterable[str], work: Path) -> bool:
  """Whether a start that was cut off left these points and their arrays."""
  try:
    for name in names:
      seal = seals.read_json(work / f'{name}.json', '')['arrays']
      seals.check(work / f'{name}.npz', seal, '')
  except seals.Broken:
    return False
  return True


def _fixed(config: Judging, inputs: Folders) -> points.Fixed:
  settings = config.evaluation
  with np.load(inputs['opponent'] / 'responses.npz') as stored:
    asked = points.Questions(
      *(stored[name] for name in points.Questions._fields)
    )
    tokens = stored['tokens']
  reference = load_params(config.policy, inputs['sft'], mesh=config.mesh)

  def judge(name):
    model = getattr(config, name)
    params = load_params(model, inputs[name], mesh=config.mesh)
    return points.Judge(model, params)

  def referenced(split):
    pairs = load_splits(inputs['pairs'], (split,))
    few = pairs.take(slice(0, settings.num_pairs))
    return with_reference(config, few, reference)

  golden_pairs = load_splits(inputs['pairs'], ('train',))
  return points.Fixed(
    asked,
    points.questions(golden_pairs, settings.num_kl_prompts, settings.seed),
    tokens,
    referenced('train'),
    referenced('test'),
    judge('golden'),
    judge('proxy'),
    reference,
  )


def with_reference(config: Judging, pairs: Pairs, reference: PyTree) -> Pairs:
  """The pairs with log-probs of the SFT policy."""
  return collectors.with_reference(
    config.policy,
    pairs,
    reference,
    partitioning.mesh(config.mesh),
    config.evaluation.batch_size,
  )


def _training_costs(
  config: RunPoints, run: Path, fixed: points.Fixed, step: int | None
) -> dict[str, float | None]:
  """Tokens sampled and matmul operations of training, up to the step."""
  if step is None:
    return {}
  lengths = fixed.win_questions.prompts.shape[1], config.judging.length
  operations = costs.step_operations(config.run, *lengths)
  sampled = 0 if config.run.algorithm.sampler is None else None
  if (run / 'stream').exists():
    rows = stream.read_rows(run / 'stream')
    rows = rows[rows['step'] < step]
    sampled = int(np.sum(rows['sampled_tokens'], dtype=np.int64))
  return {'train_flops': step * operations, 'sampled_tokens': sampled}


def hidden_utility(
  data: datasets.PairData,
  folder: Path,
  prompt_ids: np.ndarray,
  tokens: np.ndarray,
) -> np.ndarray | None:
  """Hidden utility of each answer, for data that have one.

  Args:
    data: whose source may score it.
    folder: of the data's stage.
    prompt_ids: of one split, [answers].
    tokens: [answers, length].
  """
  if not isinstance(data.source, Truthful):
    return None
  return data.source.utilities(*texts(data, folder, prompt_ids, tokens))
