"""Layer 7. A measure: whether the golden model prefers what is truly better."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dap import estimators, files, partitioning
from dap.data import datasets
from dap.data.sources import Truthful
from dap.evaluation import points
from dap.stages.artefacts import Stage
from dap.study.design import evaluated_steps
from dap.study.design.grid import RunOf
from dap.study.making import build, measures
from dap.study.making.judging import Judging, hidden_utility
from dap.study.making.stage_folders import Folders, load_params

_SLOT = 7  # of a second sample, beside those of the evaluation


@dataclasses.dataclass(frozen=True)
class Agreement:
  """The golden model against the hidden utility, on what policies write.

  Of each checkpoint two responses to a held-out prompt make a pair: that of its
  evaluation, and a second one. Where the data have no hidden utility there are
  no arrays.

  Arrays for each arm: `kl/<arm>` [c] nats of its checkpoints; `right/<arm>`
  [c, num_pairs] 1 where the golden model prefers the better response, 0 where
  the other, 1/2 where it ties; `counted/<arm>` [c, num_pairs] is False where
  the utilities are equal; `true_wins/<arm>` and `golden_wins/<arm>` [c,
  num_pairs] of the first response over the golden policy's.

  Attributes:
    arms: whose runs' checkpoints are asked.
    num_pairs: one a held-out prompt.
    name: of the measure.
  """

  arms: tuple[str, ...]
  num_pairs: int = 256
  name: str = 'agreement'

  def stage(self, tree: 'build.Tree') -> Stage:
    """Reads the runs and their evaluations."""
    writers, inputs = [], {}
    for name in self.arms:
      arm = tree.study.arms[name]
      for each in arm.runs(tree.seed):
        steps = evaluated_steps(each.run)
        writers.append((name, each.name, steps))
        inputs[each.name] = tree.run(RunOf(name, each.setting))
        inputs[f'points_{each.name}'] = tree.stages[f'evaluate/{each.name}']
    return build.stage(
      f'measure_{self.name}',
      agreement,
      Agreeing(tree.judging(None), tree.source, tuple(writers), self.num_pairs),
      weight=0.1 * len(writers),
      **inputs,
      **tree.judges(None),
    )


@dataclasses.dataclass(frozen=True)
class Agreeing:
  """Settings of `agreement`.

  Attributes:
    judging: settings and models.
    data: whose source may have a hidden utility.
    writers: (arm, input with the run, checkpoints).
    num_pairs: of each checkpoint.
  """

  judging: Judging
  data: datasets.PairData
  writers: tuple[tuple[str, str, tuple[int, ...]], ...]
  num_pairs: int


class _Asked(NamedTuple):
  """The prompts that every checkpoint answers, and who judges.

  `opponent` are the utilities of the golden policy's responses.
  """

  questions: points.Questions
  opponent: np.ndarray
  golden: points.Judge


def agreement(config: Agreeing, inputs: Folders, work: Path) -> None:
  """How often golden model and hidden utility prefer the same response."""
  columns: dict[str, np.ndarray] = {}
  if isinstance(config.data.source, Truthful):
    of_arm: dict[str, list[dict[str, np.ndarray]]] = {}
    asked = _asked(config, inputs)
    for arm, run, steps in config.writers:
      for step in steps:
        found = _checkpoint(config, inputs, run, step, asked)
        of_arm.setdefault(arm, []).append(found)
    columns = {
      f'{name}/{arm}': np.stack([each[name] for each in found])
      for arm, found in of_arm.items()
      for name in found[0]
    }
  files.write_arrays(work / measures.ARRAYS, columns)


def _asked(config: Agreeing, inputs: Folders) -> _Asked:
  stored = files.read_arrays(inputs['opponent'] / 'responses.npz')
  few = slice(0, config.num_pairs)
  questions = points.Questions(
    *(stored[name][few] for name in points.Questions._fields)
  )
  judging = config.judging
  golden = load_params(judging.golden, inputs['golden'], mesh=judging.mesh)
  return _Asked(
    questions,
    _utilities(config, inputs, questions.prompt_ids, stored['tokens'][few]),
    points.Judge(judging.golden, golden),
  )


def _checkpoint(
  config: Agreeing, inputs: Folders, run: str, step: int, asked: _Asked
) -> dict[str, np.ndarray]:
  judging, few = config.judging, slice(0, config.num_pairs)
  size, mesh = judging.evaluation.batch_size, partitioning.mesh(judging.mesh)
  evaluated = files.read_arrays(inputs[f'points_{run}'] / f'step_{step}.npz')
  params = load_params(judging.policy, inputs[run], step, judging.mesh)
  questions = asked.questions
  second = points.answers(
    judging.policy,
    params,
    questions,
    judging.length,
    judging.evaluation,
    mesh,
    slot=_SLOT,
  )
  first = evaluated['tokens'][few]
  prefers = estimators.sign_rule_wins(
    *points.preferences(
      asked.golden, questions.prompts, first, second, size, mesh
    )
  )
  ours, theirs = (
    _utilities(config, inputs, questions.prompt_ids, side)
    for side in (first, second)
  )
  judged = evaluated['golden_p_ab'][few], evaluated['golden_p_ba'][few]
  return {
    'kl': np.asarray(np.mean(evaluated['kl'])),
    'right': measures.agreement(prefers, estimators.margin_wins(ours - theirs)),
    'counted': ours != theirs,
    'true_wins': estimators.margin_wins(ours - asked.opponent),
    'golden_wins': estimators.sign_rule_wins(*judged),
  }


def _utilities(
  config: Agreeing, inputs: Folders, ids: np.ndarray, tokens: np.ndarray
) -> np.ndarray:
  found = hidden_utility(config.data, inputs['data'], ids, tokens)
  assert found is not None
  return found
