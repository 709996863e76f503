"""Layer 7. Measures of a study beside the evaluations of checkpoints.

A measure is a value that names runs; its stage leaves `arrays.npz`. Which
arrays those are is written at each class.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from dap import estimators, files, partitioning
from dap.checkpoints import points as checkpoints
from dap.data.pairs import Pairs
from dap.evaluation import points
from dap.models.protocols import Parameters
from dap.stages.artefacts import Stage
from dap.study.design import evaluated_steps
from dap.study.design.experiments import Measure
from dap.study.design.grid import RunOf
from dap.study.making import build
from dap.study.making.judging import Judging
from dap.study.making.stage_folders import Folders, load_params, load_splits
from dap.training import collectors, recorded, stream

ARRAYS = 'arrays.npz'


@dataclasses.dataclass(frozen=True)
class Replay:
  """Whether training on a stream in its own order repeats the online run.

  Arrays: `step` [n] of the lines of metrics, `loss_run` and `loss_replay` [n];
  `checkpoint` [c] steps and `equal_params` [c], whether all parameters have
  the same bits.

  Attributes:
    run: the online run.
    replay: the offline run on its stream.
    name: of the measure.
  """

  run: RunOf
  replay: RunOf
  name: str = 'replay'

  def stage(self, tree: 'build.Tree') -> Stage:
    """Reads the folders of both runs."""
    return build.stage(
      f'measure_{self.name}',
      compare_runs,
      tree.arm(self.run).run.model,
      run=_run(tree, self.run, self),
      replay=_run(tree, self.replay, self),
    )


@dataclasses.dataclass(frozen=True)
class StreamAccuracy:
  """Classifiers of pairs of an online stream, along the stream (Fig. 6).

  Arrays: `step` [num_windows], the middle of each window of steps; `counted`
  [num_windows, num_pairs] is False where the golden model ties;
  `correct/proxy` and `correct/<arm>` [num_windows, num_pairs] are 1, 0 or 1/2.

  Attributes:
    run: the online run whose stream it is.
    policies: checkpoints as classifiers, by their log-ratios.
    num_windows: evenly spaced along the stream.
    num_pairs: of each window.
    name: of the measure.
  """

  run: RunOf
  policies: tuple[RunOf, ...]
  num_windows: int = 10
  num_pairs: int = 320
  name: str = 'stream_accuracy'

  def stage(self, tree: 'build.Tree') -> Stage:
    """Reads the stream, both preference models and the policies."""
    policies = tuple(self.policies)
    inputs = {run.arm: _run(tree, run, self) for run in policies}
    return build.stage(
      f'measure_{self.name}',
      stream_accuracy,
      Classifying(
        tree.judging(None),
        tuple((run.arm, (run.step,)) for run in policies),
        self.num_windows,
        self.num_pairs,
      ),
      weight=6,
      stream=_run(tree, self.run, self),
      **inputs,
      **tree.judges(None),
    )


@dataclasses.dataclass(frozen=True)
class OwnPairs:
  """Policies as classifiers of two responses of their own (app. of Tang).

  Arrays for each arm: `step/<arm>` [c] checkpoints, `correct/<arm>` and
  `counted/<arm>` [c, num_pairs] as of `StreamAccuracy`.

  Attributes:
    policies: runs; all their checkpoints are asked.
    num_pairs: one a held-out prompt.
    name: of the measure.
  """

  policies: tuple[RunOf, ...]
  num_pairs: int = 320
  name: str = 'own_pairs'

  def stage(self, tree: 'build.Tree') -> Stage:
    """Reads the policies and the golden model."""
    runs = tuple(self.policies)
    inputs = {run.arm: _run(tree, run, self) for run in runs}
    asked = tuple((run.arm, evaluated_steps(tree.arm(run).run)) for run in runs)
    return build.stage(
      f'measure_{self.name}',
      own_pairs,
      Classifying(tree.judging(None), asked, 1, self.num_pairs),
      weight=5,
      **inputs,
      **tree.judges(None),
    )


@dataclasses.dataclass(frozen=True)
class Classifying:
  """Settings of `stream_accuracy` and `own_pairs`.

  Attributes:
    judging: settings and models.
    policies: (input, checkpoints) of each; a step of None is the newest.
    num_windows: of a stream.
    num_pairs: of each window or checkpoint.
  """

  judging: Judging
  policies: tuple[tuple[str, tuple[int | None, ...]], ...]
  num_windows: int
  num_pairs: int


def compare_runs(config: Parameters, inputs: Folders, work: Path) -> None:
  """Losses and parameters of two runs, side by side; `config` is the policy."""
  run, replay = (inputs[name] for name in ('run', 'replay'))
  lines = [
    {line['step']: line['loss'] for line in _metrics(folder)}
    for folder in (run, replay)
  ]
  shared = sorted(lines[0].keys() & lines[1].keys())
  steps = [
    set(checkpoints.steps(folder / 'checkpoints')) for folder in (run, replay)
  ]
  saved = sorted(steps[0] & steps[1])
  equal = [
    _equal(*(load_params(config, folder, step) for folder in (run, replay)))
    for step in saved
  ]
  columns = {
    'step': np.array(shared),
    'loss_run': np.array([lines[0][step] for step in shared]),
    'loss_replay': np.array([lines[1][step] for step in shared]),
    'checkpoint': np.array(saved),
    'equal_params': np.array(equal),
  }
  files.write_arrays(work / ARRAYS, columns)


def stream_accuracy(config: Classifying, inputs: Folders, work: Path) -> None:
  """How often classifiers agree with the golden model along a stream."""
  judging = config.judging
  rows = stream.read_rows(inputs['stream'] / 'stream')
  pairs = recorded.Recorded(rows).pairs()
  middles = np.linspace(0, rows['step'][-1], 2 * config.num_windows + 1)[1::2]
  taken = np.stack(
    [_nearest(rows['step'], middle, config.num_pairs) for middle in middles]
  )
  asked = pairs.take(taken.reshape(-1))
  golden = _wins(judging, 'golden', asked, inputs)
  correct = {'proxy': _wins(judging, 'proxy', asked, inputs)}
  for name, (step,) in config.policies:
    margin = _margin(judging, asked, inputs[name], step)
    correct[name] = estimators.margin_wins(margin)
  shape = taken.shape
  columns = {
    'step': middles,
    'counted': (golden != 0.5).reshape(shape),
    **{
      f'correct/{name}': agreement(wins, golden).reshape(shape)
      for name, wins in correct.items()
    },
  }
  files.write_arrays(work / ARRAYS, columns)


def own_pairs(config: Classifying, inputs: Folders, work: Path) -> None:
  """How often policies prefer what the golden model prefers of their own."""
  judging = config.judging
  settings, mesh = judging.evaluation, partitioning.mesh(judging.mesh)
  held_out = load_splits(inputs['data'], ('test',))
  asked = points.questions(held_out, config.num_pairs, settings.seed)
  reference = load_params(judging.policy, inputs['sft'], mesh=judging.mesh)
  columns: dict[str, np.ndarray] = {}
  for name, steps in config.policies:
    correct, counted = [], []
    for step in steps:
      params = load_params(judging.policy, inputs[name], step, judging.mesh)
      pairs = _sampled(judging, params, asked)
      golden = _wins(judging, 'golden', pairs, inputs)
      pairs = collectors.with_reference(
        judging.policy, pairs, reference, mesh, settings.batch_size
      )
      margin = _margin(judging, pairs, inputs[name], step)
      correct.append(agreement(estimators.margin_wins(margin), golden))
      counted.append(golden != 0.5)
    columns |= {
      f'step/{name}': np.array(steps),
      f'correct/{name}': np.stack(correct),
      f'counted/{name}': np.stack(counted),
    }
  files.write_arrays(work / ARRAYS, columns)


def _run(tree: 'build.Tree', run: RunOf, measure: Measure) -> Stage:
  tree.study.check_run(run, f'The measure {measure.name}')
  return tree.run(run)


def _metrics(folder: Path) -> list[dict[str, float]]:
  return files.read_json_lines(folder / 'metrics.jsonl')


def _equal(first: PyTree, second: PyTree) -> bool:
  """Whether two trees of parameters have the same bits."""
  leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
  return all(
    np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in leaves
  )


def _nearest(steps: np.ndarray, middle: float, count: int) -> np.ndarray:
  """The `count` rows of a stream that are nearest to a step, in its order."""
  order = np.argsort(np.abs(steps - middle), kind='stable')
  return np.sort(order[:count])


def agreement(wins: np.ndarray, golden: np.ndarray) -> np.ndarray:
  """1 where both prefer the same response, 0 where not, 1/2 for ties."""
  return estimators.margin_wins((wins - 0.5) * (golden - 0.5))


def _wins(
  judging: Judging, name: str, pairs: Pairs, inputs: Folders
) -> np.ndarray:
  """Wins of the chosen responses by the golden or the proxy model."""
  model = getattr(judging, name)
  params = load_params(model, inputs[name], mesh=judging.mesh)
  return estimators.sign_rule_wins(
    *points.preferences(
      points.Judge(model, params),
      pairs.prompts,
      pairs.chosen,
      pairs.rejected,
      judging.evaluation.batch_size,
      partitioning.mesh(judging.mesh),
    )
  )


def _margin(
  judging: Judging, pairs: Pairs, run: Path, step: int | None
) -> np.ndarray:
  """Log-ratio of the chosen less that of the rejected under a checkpoint."""
  params = load_params(judging.policy, run, step, judging.mesh)
  size, mesh = judging.evaluation.batch_size, partitioning.mesh(judging.mesh)
  chosen, rejected = points.log_ratios(
    judging.policy, params, pairs, size, mesh
  )
  return chosen - rejected


def _sampled(
  judging: Judging, params: PyTree, asked: points.Questions
) -> Pairs:
  """Two independent responses to each row, in no order of preference."""
  mesh = partitioning.mesh(judging.mesh)
  sides = (
    points.answers(
      judging.policy, params, asked, judging.length, judging.evaluation,
      mesh, slot=slot,
    )
    for slot in (5, 6)
  )  # fmt: skip
  return Pairs(asked.prompt_ids, asked.prompts, *sides)
