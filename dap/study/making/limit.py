"""Layer 7. The measure behind the limit: many SFT samples, all judged."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import PyTree

from dap import files, partitioning
from dap.data.datasets import PairData
from dap.errors import InputError
from dap.estimators import limits
from dap.evaluation import many, points
from dap.losses import ranges
from dap.losses.ranges import Size
from dap.stages.artefacts import Stage
from dap.study.making import build, judging, measures
from dap.study.making.judging import Judging
from dap.study.making.stage_folders import Folders, load_params

_READS = ('sft', 'opponent', 'golden', 'proxy', 'data')


@dataclasses.dataclass(frozen=True)
class Limit:
  """Samples of the SFT policy, from which follows what no policy can exceed.

  Arrays: `prompt_ids` [p]; `golden`, `proxy` and, where the data have a hidden
  utility, `truth` [p, num_samples]: by how much each sample is better than the
  golden policy's stored response, in log-odds or in utility; it wins where
  that is positive. Then also `opponent_ids` and `opponent_utility` [rows] of
  all stored responses, so that checkpoints can be judged by utility.

  Attributes:
    num_prompts: held-out, the first of those that all checkpoints answer.
    num_samples: to each; they tell of policies up to log(num_samples) - 1 nats.
    name: of the measure.
  """

  num_prompts: Size = 64
  num_samples: Size = 512
  name: str = 'limit'

  def __post_init__(self):
    ranges.check(self)
    if self.num_samples < limits.LEAST_SAMPLES:
      raise InputError(
        f'A limit needs num_samples >= {limits.LEAST_SAMPLES}, got'
        f' {self.num_samples}: it is told by weights of samples.'
      )

  def stage(self, tree: 'build.Tree') -> Stage:
    """Reads the SFT policy, the stored responses and both judges."""
    return build.stage(
      f'measure_{self.name}',
      judged_samples,
      Sampled(
        tree.judging(None), tree.source, self.num_prompts, self.num_samples
      ),
      weight=6,
      **{name: tree.stages[name] for name in _READS},
    )


@dataclasses.dataclass(frozen=True)
class Sampled:
  """Settings of `judged_samples`.

  Attributes:
    judging: settings and models.
    data: whose source scores hidden utility where it can.
    num_prompts: at most, of those that have a stored response.
    num_samples: to each.
  """

  judging: Judging
  data: PairData
  num_prompts: int
  num_samples: int


def judged_samples(config: Sampled, inputs: Folders, work: Path) -> None:
  """Draws the samples and asks each judge about them."""
  stored = files.read_arrays(inputs['opponent'] / 'responses.npz')
  # With few prompts each is asked several times: a limit is of one response.
  rows = np.flatnonzero(stored['samples'] == 0)[: config.num_prompts]
  asked = points.Questions(
    *(stored[name][rows] for name in points.Questions._fields)
  )
  opponent = stored['tokens'][rows]
  tokens = _samples(config, inputs, asked)
  columns = {'prompt_ids': asked.prompt_ids}
  for name in ('golden', 'proxy'):
    margins = _margins(config.judging, name, inputs, asked, tokens, opponent)
    columns[name] = margins.astype(np.float32)
  utility = judging.hidden_utility(
    config.data, inputs['data'], stored['prompt_ids'], stored['tokens']
  )
  if utility is not None:
    columns |= {
      'truth': _truth(config, inputs, asked, tokens, utility[rows]),
      'opponent_ids': stored['prompt_ids'],
      'opponent_utility': utility,
    }
  files.write_arrays(work / measures.ARRAYS, columns)


def _samples(
  config: Sampled, inputs: Folders, asked: points.Questions
) -> np.ndarray:
  """[p, num_samples, length] of the SFT policy."""
  judging = config.judging
  params = load_params(judging.policy, inputs['sft'], mesh=judging.mesh)
  mesh = partitioning.mesh(judging.mesh)
  return many.answers(
    judging.policy, params, asked, config.num_samples, judging.length,
    judging.evaluation, mesh, slot=7,
  )  # fmt: skip


def _margins(
  judging: Judging,
  name: str,
  inputs: Folders,
  asked: points.Questions,
  tokens: np.ndarray,
  opponent: np.ndarray,
) -> np.ndarray:
  """Log-odds [p, num_samples] by the golden or the proxy model."""
  model = getattr(judging, name)
  params: PyTree = load_params(model, inputs[name], mesh=judging.mesh)
  judge = points.Judge(model, params)
  size, mesh = judging.evaluation.batch_size, partitioning.mesh(judging.mesh)
  return many.margins(judge, asked.prompts, tokens, opponent, size, mesh)


def _truth(
  config: Sampled,
  inputs: Folders,
  asked: points.Questions,
  tokens: np.ndarray,
  opponent: np.ndarray,
) -> np.ndarray:
  """Utility [p, num_samples] less that of the opponent's response."""
  found = judging.hidden_utility(
    config.data,
    inputs['data'],
    np.repeat(asked.prompt_ids, config.num_samples),
    tokens.reshape(-1, tokens.shape[-1]),
  )
  assert found is not None
  each = found.reshape(tokens.shape[:2]) - opponent[:, None]
  return each.astype(np.float32)
