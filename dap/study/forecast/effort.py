"""Layer 7. How much work a stage is: what is alike, how much, what operations.

Stages of one kind cost the same for each step, checkpoint or stage, whatever
their seed, learning rate and beta; so a finished one tells what others take.
"""

from collections.abc import Hashable
from typing import NamedTuple

from dap import costs
from dap.algorithms.run import Run
from dap.evaluation.points import Evaluation
from dap.models.protocols import Reader, Scorer
from dap.models.trained import Policy
from dap.stages.artefacts import Stage
from dap.study.making import (
  agreement,
  asking,
  grouped,
  judging,
  limit,
  measures,
  ranking,
  trainings,
)

Lengths = tuple[int, int]  # of prompts and responses, tokens


class Kind(NamedTuple):
  """What stages have in common that cost the same for each unit.

  `units` are the steps of a training, the checkpoints of an evaluation, else 1.
  """

  alike: Hashable
  units: int


class Drawn(NamedTuple):
  """`prompts` that `model` answers once each, `batch` at a time."""

  model: Reader
  prompts: int
  batch: int


class Work(NamedTuple):
  """Matmul operations of a stage, and the responses that it draws."""

  operations: float
  drawn: tuple[Drawn, ...] = ()


class Trained(NamedTuple):
  """A run that a stage trains, and how many like it at once."""

  run: Run
  count: int


def training(stage: Stage) -> Trained | None:
  """What a stage trains; None for others."""
  match stage.config:
    case trainings.Training(run=run):
      return Trained(run, 1)
    case grouped.GroupTraining(runs=runs, run=run):
      return Trained(run, len(runs))
    case _:
      return None


def step(run: Run) -> Hashable:
  """What the time of a step depends on; not on which loss of pairs it is."""
  program = costs.program(run)
  slots = program.algorithm
  return (
    program.model,
    slots.loss.view,
    (slots.sampler, slots.annotator, slots.pairing),
    program.optimizer,
    (program.batch_size, program.num_microbatches),
  )


def kind(stage: Stage) -> Kind:
  """What other stages the time of this one can be told from."""
  config = stage.config
  if (trained := training(stage)) is not None:
    one = step(trained.run)
    alike = stage.function.__qualname__, one, trained.count, config.mesh
    return Kind(alike, trained.run.num_steps)
  match config:
    case judging.RunPoints(judging=shared):
      return Kind(shared, max(1, len(config.save_steps)))
    case _:
      model = getattr(config, 'model', None)
      return Kind((stage.function.__qualname__, model), 1)


def work(stage: Stage, lengths: Lengths, num_pairs: int) -> Work:
  """The work of a stage that trains nothing, evaluations above all.

  Args:
    stage: that trains nothing.
    lengths: of prompts and responses, tokens.
    num_pairs: of the training split, as far as anyone knows.
  """
  match stage.config:
    case judging.RunPoints() as config:
      return _checkpoints(config, lengths)
    case judging.Judging() as config:
      return _answers(config.policy, config.evaluation, lengths)
    case trainings.Relabelling() as config:
      pairs = min(config.num_pairs or num_pairs, num_pairs)
      pairs += config.num_panel_pairs
      return Work(pairs * config.model.pair_operations(*lengths))
    case trainings.Sampling() as config:
      one = config.policy.answer_operations(*lengths)
      judged = config.golden.pair_operations(*lengths)
      drawn = Drawn(config.policy, 2 * num_pairs, config.evaluation.batch_size)
      return Work(num_pairs * (2 * one + judged), (drawn,))
    case ranking.Scoring() as config:
      return _scored(config, lengths, num_pairs)
    case measures.Classifying() as config:
      return _classified(config, lengths)
    case asking.Asking() as config:
      one = config.policy.answer_operations(*lengths)
      drawn = 2 * config.num_pairs
      batch = config.evaluation.batch_size
      return Work(drawn * one, (Drawn(config.policy, drawn, batch),))
    case agreement.Agreeing(judging=shared) as config:
      asked = sum(len(steps) for *_, steps in config.writers)
      asked *= config.num_pairs
      one = shared.policy.answer_operations(*lengths)
      judged = shared.golden.pair_operations(*lengths)
      drawn = Drawn(shared.policy, asked, shared.evaluation.batch_size)
      return Work(asked * (one + judged), (drawn,))
    case limit.Sampled() as config:
      return _sampled(config, lengths)
    case _:
      return Work(0.0)


def _scored(config: ranking.Scoring, lengths: Lengths, pairs: int) -> Work:
  """Each sample is drawn, and scored: half of a pair."""
  drawn = min(config.num_prompts or pairs, pairs) * config.num_samples
  one = config.policy.answer_operations(*lengths)
  scored = 0.5 * config.judge.pair_operations(*lengths)
  batch = config.evaluation.batch_size
  return Work(drawn * (one + scored), (Drawn(config.policy, drawn, batch),))


def _checkpoints(config: judging.RunPoints, lengths: Lengths) -> Work:
  """Win rate, KL and accuracy of each, and the reference's scores once."""
  judging, settings = config.judging, config.judging.evaluation
  number = max(1, len(config.save_steps))
  one = judging.policy.answer_operations(*lengths)
  pair = judging.policy.pair_operations(*lengths)
  judged = sum(
    judge.pair_operations(*lengths) for judge in (judging.golden, judging.proxy)
  )
  each = (
    settings.num_prompts * (one + judged)
    + settings.num_kl_prompts * 3 * one
    + 2 * settings.num_pairs * pair
  )
  total = number * each + 2 * settings.num_pairs * pair
  prompts = number * (settings.num_prompts + settings.num_kl_prompts)
  return Work(total, (Drawn(judging.policy, prompts, settings.batch_size),))


def _answers(policy: Policy, settings: Evaluation, lengths: Lengths) -> Work:
  one = policy.answer_operations(*lengths)
  drawn = Drawn(policy, settings.num_prompts, settings.batch_size)
  return Work(settings.num_prompts * one, (drawn,))


def _classified(config: measures.Classifying, lengths: Lengths) -> Work:
  """Each pair is judged and scored for each policy; own pairs are drawn."""
  judging = config.judging
  checkpoints = sum(len(steps) for _, steps in config.policies)
  pair = judging.policy.pair_operations(*lengths)
  judged = sum(
    judge.pair_operations(*lengths) for judge in (judging.golden, judging.proxy)
  )
  pairs = config.num_windows * config.num_pairs
  return Work(
    pairs * checkpoints * (2 * pair + judged),
    (
      Drawn(
        judging.policy,
        2 * pairs * checkpoints,
        judging.evaluation.batch_size,
      ),
    ),
  )


def _sampled(config: limit.Sampled, lengths: Lengths) -> Work:
  """Each sample is drawn and judged; who scores reads half of a pair."""
  judging = config.judging
  one = judging.policy.answer_operations(*lengths)
  judged = sum(
    (0.5 if isinstance(judge, Scorer) else 1.0)
    * judge.pair_operations(*lengths)
    for judge in (judging.golden, judging.proxy)
  )
  samples = config.num_prompts * config.num_samples
  drawn = Drawn(judging.policy, samples, judging.evaluation.batch_size)
  return Work(samples * (one + judged), (drawn,))
