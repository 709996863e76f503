"""Layer 7. Stages that sample many responses, score them, and rank them."""

import dataclasses
from pathlib import Path

import numpy as np

from dap import files, partitioning
from dap.data.pairs import Pairs
from dap.evaluation import many, points
from dap.models.protocols import Scorer
from dap.models.trained import Policy
from dap.study.design.choices import DATA, Choice
from dap.study.making.stage_folders import Folders, load_params, load_splits

_SLOT = 16  # of random numbers: samples of one, whoever else asks for some


@dataclasses.dataclass(frozen=True)
class Scoring:
  """What one checkpoint answers to prompts of D_golden, scored.

  Attributes:
    policy: that answers.
    judge: that scores.
    evaluation: batch size, seed and how tokens are drawn.
    length: most tokens of a response.
    num_samples: to a prompt.
    num_prompts: the first; all when None.
    step: of the checkpoint; the newest when None.
    mesh: of devices.
  """

  policy: Policy
  judge: Scorer
  evaluation: points.Evaluation
  length: int
  num_samples: int
  num_prompts: int | None = None
  step: int | None = None
  mesh: tuple[int, int] = (1, 1)


def scored_samples(config: Scoring, inputs: Folders, work: Path) -> None:
  """`samples.npz`: tokens [prompts, n, length] and scores [prompts, n]."""
  settings, mesh = config.evaluation, partitioning.mesh(config.mesh)
  pairs = _prompts(inputs, config.num_prompts)
  policy = load_params(config.policy, inputs['run'], config.step, config.mesh)
  judge = load_params(config.judge, inputs['judge'], mesh=config.mesh)
  asked = points.Questions(
    pairs.prompt_ids.astype(np.int32),
    np.zeros(len(pairs), np.int32),
    pairs.prompts,
  )
  tokens = many.answers(
    config.policy, policy, asked, config.num_samples, config.length, settings,
    mesh, slot=_SLOT,
  )  # fmt: skip
  scores = many.scores(
    config.judge, judge, pairs.prompts, tokens, settings.batch_size, mesh
  )
  files.write_arrays(work / 'samples.npz', {'tokens': tokens, 'scores': scores})
  summary = {'mean': float(np.mean(scores)), 'std': float(np.std(scores))}
  files.write_json(work / 'summary.json', summary)


@dataclasses.dataclass(frozen=True)
class Ranking:
  """Settings of `ranked_pairs`.

  Attributes:
    choice: of the pairs.
    num_prompts: of D_golden, the first; all when None.
  """

  choice: Choice
  num_prompts: int | None = None


def ranked_pairs(config: Ranking, inputs: Folders, work: Path) -> None:
  """Pairs of all that was written to a prompt, and of D_golden.

  Args:
    config: settings.
    inputs: `pairs`, and `samples_0`, `samples_1`, ... in the writers' order.
    work: where `train.npz` is left.

  Raises:
    errors.InputError: there is nothing to choose.
  """
  pairs = _prompts(inputs, config.num_prompts)
  count = sum(name.startswith('samples_') for name in inputs)
  cure = 'Remove the folder of that stage.'
  stored = [
    files.read_arrays(
      inputs[f'samples_{i}'] / 'samples.npz', ('tokens', 'scores'), cure
    )
    for i in range(count)
  ]
  tokens, scores = (
    np.concatenate([each[name] for each in stored], axis=1)
    for name in ('tokens', 'scores')
  )
  rows, chosen, rejected = config.choice(tokens, scores, pairs.chosen)
  of_data = (chosen == DATA)[:, None]
  found = dataclasses.replace(
    pairs.take(rows),
    chosen=np.where(of_data, pairs.chosen[rows], tokens[rows, chosen]),
    rejected=tokens[rows, rejected],
    weight=None,
  )
  found.save(work / 'train.npz')
  kept = len(np.unique(rows))
  ends = np.cumsum([0] + [each['scores'].shape[1] for each in stored])
  best = np.argmax(scores, axis=1)
  summary = {
    'pairs': len(rows),
    'prompts': kept,
    'prompts_without_a_pair': len(pairs) - kept,
    'best': float(np.mean(np.max(scores, axis=1))),
    'best_by_writer': [
      float(np.mean((best >= low) & (best < high)))
      for low, high in zip(ends, ends[1:])
    ],
  }
  files.write_json(work / 'summary.json', summary)


def _prompts(inputs: Folders, count: int | None) -> Pairs:
  """One pair of each prompt of D_golden, without what is known of it."""
  pairs = load_splits(inputs['pairs'], ('train',))
  _, rows = np.unique(pairs.prompt_ids, return_index=True)
  return dataclasses.replace(
    pairs.take(np.sort(rows)[:count]),
    reference_chosen=None,
    reference_rejected=None,
    shares=None,
  )
