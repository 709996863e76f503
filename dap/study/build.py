"""Layer 6. The stages of a study: what reads what (spec 4.1, A to G)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dap import errors
from dap.data.datasets import PairData
from dap.evaluation.points import Evaluation
from dap.study import stages
from dap.study.artefacts import Stage
from dap.study.grid import Arm
from dap.train import Run

VERSION = 1  # of every stage; raised when results of the same config change


@dataclasses.dataclass(frozen=True)
class Study:
  """The choices of a study that all its seeds share.

  Attributes:
    data: pairs; drawn again for each seed where the source can be drawn.
    golden: training of the golden preference model, on the human labels.
    sft: supervised training; its policy starts and anchors everything.
    proxy: training of the proxy preference model, on golden labels.
    golden_policy: online training against the golden model itself; its stored
      responses are the opponent of every win rate.
    arms: training runs by name, which begins with `online` or `offline`.
    num_golden_pairs: pairs of D_golden, the first of the training split.
    evaluation: of every checkpoint.
  """

  data: PairData
  golden: Run
  sft: Run
  proxy: Run
  golden_policy: Run
  arms: tuple[tuple[str, Arm], ...]
  num_golden_pairs: int
  evaluation: Evaluation


def make(
  data: PairData,
  golden: Run,
  sft: Run,
  proxy: Run,
  golden_policy: Run,
  arms: Mapping[str, Arm],
  num_golden_pairs: int,
  evaluation: Evaluation,
) -> Study:
  """Checks that the parts of a study fit together."""
  if not arms:
    raise errors.InputError('A study needs at least one arm, got none.')
  for name in arms:
    if not name.startswith(('online', 'offline')):
      raise errors.InputError(
        'The name of an arm begins with "online" or "offline", so that reports'
        f' know its side; got {name!r}.'
      )
  sizes = {
    r.model.config.vocab_size for r in (golden, sft, proxy, golden_policy)
  }
  if len(sizes) > 1:
    raise errors.InputError(
      'All models of a study read the same token ids and need one vocab_size,'
      f' got {sorted(sizes)}. Bind VOCABULARY_SIZE for all.'
    )
  for name, other in (('golden_policy', golden_policy), *(
    (name, arm.run) for name, arm in arms.items()
  )):  # fmt: skip
    if other.model != sft.model:
      raise errors.InputError(
        f'{name} starts from the SFT policy and needs its model, got'
        f' {other.model} where the SFT run has {sft.model}.'
      )
  _check_annotator('golden_policy', golden_policy, 'golden', golden)
  for name, arm in arms.items():
    _check_annotator(name, arm.run, 'proxy', proxy)
  return Study(
    data,
    golden,
    sft,
    proxy,
    golden_policy,
    tuple(sorted(arms.items())),
    num_golden_pairs,
    evaluation,
  )


def _check_annotator(
  name: str, training: Run, judge_name: str, judge: Run
) -> None:
  """Refuses samples that another model labels than the study trains for it."""
  algorithm = training.algorithm
  if algorithm.samples and algorithm.annotator.model != judge.model:
    raise errors.InputError(
      f'{name} is labelled by the {judge_name} preference model and needs its'
      f' model, got {algorithm.annotator.model} where the {judge_name} run has'
      f' {judge.model}.'
    )


def check_seeds(seeds: Any) -> tuple[int, ...]:
  """Seeds as a tuple without repetition."""
  given = tuple(seeds) if isinstance(seeds, tuple | list) else (seeds,)
  if not given or len(set(given)) != len(given):
    raise errors.InputError(
      f'A study needs seeds that differ, at least one, got {given}.'
    )
  return given


def build(study: Study, seed: int) -> dict[str, Stage]:
  """The stages of one seed, by the names that `collect` reads them by."""

  def stage(name, function, config, weight=1.0, group=None, **inputs):
    return Stage(
      name, VERSION, function, config, inputs, group=group, weight=weight
    )

  def seeded(training: Run) -> Run:
    return dataclasses.replace(training, seed=seed)

  source = study.data.with_seed(seed)
  golden, proxy, policy = study.golden.model, study.proxy.model, study.sft.model
  data = stage(
    'data', stages.prepare, stages.Preparing(source, policy.config.vocab_size)
  )
  golden_stage = stage(
    'golden',
    stages.supervised,
    stages.Training(seeded(study.golden), ('train', 'stress')),
    weight=20,
    data=data,
  )
  relabelled = stage(
    'relabel',
    stages.relabel,
    stages.Relabelling(golden, study.num_golden_pairs),
    data=data,
    golden=golden_stage,
  )
  sft = stage(
    'sft',
    stages.supervised,
    stages.Training(seeded(study.sft)),
    weight=8,
    data=data,
  )
  proxy_stage = stage(
    'proxy',
    stages.supervised,
    stages.Training(seeded(study.proxy)),
    weight=6,
    data=relabelled,
  )
  proxy_accuracy = stage(
    'proxy_accuracy',
    stages.preference_accuracy,
    stages.Relabelling(proxy, 0),
    data=relabelled,
    model=proxy_stage,
  )
  sft_loss = stage(
    'sft_loss',
    stages.held_out_loss,
    stages.Relabelling(policy, 0),
    data=data,
    model=sft,
  )
  golden_policy = stage(
    'golden_policy',
    stages.policy_run,
    stages.Training(seeded(study.golden_policy)),
    weight=8,
    group='golden_policy',
    sft=sft,
    annotator=golden_stage,
    pairs=relabelled,
  )
  judging = stages.Judging(
    study.evaluation, policy, golden, proxy, study.data.response_length
  )
  opponent = stage(
    'opponent',
    stages.opponent,
    judging,
    data=data,
    golden_policy=golden_policy,
  )
  shared = {
    'opponent': opponent,
    'pairs': relabelled,
    'sft': sft,
    'golden': golden_stage,
    'proxy': proxy_stage,
    'data': data,
  }

  def evaluated(name, trained, save_steps=()):
    return stage(
      f'evaluate_{name}',
      stages.evaluate,
      stages.Point(judging, source, save_steps),
      weight=0.4 * max(1, len(save_steps)),
      group='evaluate',
      run=trained,
      **shared,
    )

  tree = {
    'data': data,
    'relabel': relabelled,
    'proxy_accuracy': proxy_accuracy,
    'sft': sft,
    'sft_loss': sft_loss,
    'opponent': opponent,
    'evaluate/sft': evaluated('sft', sft),
    'evaluate/golden_policy': evaluated('golden_policy', golden_policy),
  }
  for arm_name, arm in study.arms:
    for index, (_, _, arm_run) in enumerate(arm.runs(seed)):
      name = f'{arm_name}_{index}'
      samples = arm_run.algorithm.samples
      trained = stage(
        name,
        stages.policy_run,
        stages.Training(arm_run, record_stream=arm.record_stream),
        weight=12 if samples else 6,
        group=arm_name,
        sft=sft,
        pairs=relabelled,
        **({'annotator': proxy_stage} if samples else {}),
      )
      tree[f'run/{name}'] = trained
      tree[f'evaluate/{name}'] = evaluated(
        name, trained, _evaluated_steps(arm_run)
      )
  return tree


def _evaluated_steps(training: Run) -> tuple[int, ...]:
  return tuple(sorted({*training.save_steps, training.num_steps}))
