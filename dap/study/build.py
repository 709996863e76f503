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
  source = study.data.with_seed(seed)
  fixed = _models(study, source, seed)
  judging = stages.Judging(
    study.evaluation,
    study.sft.model,
    study.golden.model,
    study.proxy.model,
    study.data.response_length,
  )
  fixed['opponent'] = _stage(
    'opponent',
    stages.opponent,
    judging,
    data=fixed['data'],
    golden_policy=fixed['golden_policy'],
  )

  def evaluated(name, trained, save_steps=()):
    return _stage(
      f'evaluate_{name}',
      stages.evaluate,
      stages.Point(judging, source, save_steps),
      weight=0.4 * max(1, len(save_steps)),
      group='evaluate',
      run=trained,
      pairs=fixed['relabel'],
      **{n: fixed[n] for n in ('opponent', 'sft', 'golden', 'proxy', 'data')},
    )

  tree = {
    'evaluate/sft': evaluated('sft', fixed['sft']),
    'evaluate/golden_policy': evaluated(
      'golden_policy', fixed['golden_policy']
    ),
  }
  for arm_name, arm in study.arms:
    for index, (_, _, run) in enumerate(arm.runs(seed)):
      name = f'{arm_name}_{index}'
      trained = _policy_run(
        name,
        stages.Training(run, record_stream=arm.record_stream),
        fixed,
        annotator='proxy',
        group=arm_name,
      )
      tree[f'run/{name}'] = trained
      tree[f'evaluate/{name}'] = evaluated(name, trained, _evaluated_steps(run))
  return {**fixed, **tree}


def _stage(
  name: str,
  function: Any,
  config: Any,
  weight: float = 1.0,
  group: str | None = None,
  **inputs: Stage,
) -> Stage:
  return Stage(
    name, VERSION, function, config, inputs, group=group, weight=weight
  )


def _policy_run(
  name: str,
  training: stages.Training,
  fixed: dict[str, Stage],
  annotator: str,
  group: str,
) -> Stage:
  """A run from the SFT policy on D_golden or its prompts.

  Offline never reads the annotator (spec 4.5), so another proxy leaves it.
  """
  samples = training.run.algorithm.samples
  judge = {'annotator': fixed[annotator]} if samples else {}
  return _stage(
    name,
    stages.policy_run,
    training,
    weight=12 if samples else 6,
    group=group,
    sft=fixed['sft'],
    pairs=fixed['relabel'],
    **judge,
  )


def _models(study: Study, source: PairData, seed: int) -> dict[str, Stage]:
  """Stages A to E: data, golden and proxy models, SFT and golden policy."""

  def trained(name, run, weight, data, splits=('train',)):
    training = stages.Training(dataclasses.replace(run, seed=seed), splits)
    return _stage(name, stages.supervised, training, weight, data=data)

  policy, proxy = study.sft.model, study.proxy.model
  made: dict[str, Stage] = {}
  made['data'] = data = _stage(
    'data', stages.prepare, stages.Preparing(source, policy.config.vocab_size)
  )
  made['golden'] = trained(
    'golden', study.golden, 20, data, ('train', 'stress')
  )
  made['relabel'] = _stage(
    'relabel',
    stages.relabel,
    stages.Relabelling(study.golden.model, study.num_golden_pairs),
    data=data,
    golden=made['golden'],
  )
  made['sft'] = trained('sft', study.sft, 8, data)
  made['proxy'] = trained('proxy', study.proxy, 6, made['relabel'])
  made['proxy_accuracy'] = _stage(
    'proxy_accuracy',
    stages.preference_accuracy,
    stages.Relabelling(proxy, 0),
    data=made['relabel'],
    model=made['proxy'],
  )
  made['sft_loss'] = _stage(
    'sft_loss',
    stages.held_out_loss,
    stages.Relabelling(policy, 0),
    data=data,
    model=made['sft'],
  )
  made['golden_policy'] = _policy_run(
    'golden_policy',
    stages.Training(dataclasses.replace(study.golden_policy, seed=seed)),
    made,
    annotator='golden',
    group='golden_policy',
  )
  return made


def _evaluated_steps(training: Run) -> tuple[int, ...]:
  return tuple(sorted({*training.save_steps, training.num_steps}))
