"""Layer 7. The stages of a study: what reads what (spec 4.1, A to M)."""

import dataclasses
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import cast

from dap import errors
from dap.algorithms.run import Run
from dap.checkpoints import load
from dap.checkpoints.load import Checkpoint
from dap.data.datasets import PairData
from dap.models.protocols import Scorer
from dap.models.trained import comparer_of, policy_of
from dap.stages.artefacts import Stage, StageFunction
from dap.study.design import Study, evaluated_steps, grid
from dap.study.design.grid import Arm, GridRun, PolicySize, RunOf
from dap.study.making import asking, grouped, judging, ranking, trainings


def build(study: Study, seed: int) -> dict[str, Stage]:
  """The stages of one seed, by the names that `collect` reads them by.

  `run/<name>` is a training, `evaluate/<name>` the evaluation of all its
  checkpoints, `measure/<name>` a measure.
  """
  tree = Tree(study, seed)
  tree.evaluate('sft', study.sft, tree.stages['sft'])
  tree.evaluate(
    'golden_policy', study.golden_policy, tree.stages['golden_policy']
  )
  for size in study.sizes:
    name = f'sft_{size.name}'
    tree.evaluate(name, size.sft, tree.stages[name], size)
  for arm in study.arms.values():
    for each in arm.runs(seed):
      run = tree.run(RunOf(arm.name, each.setting))
      steps = evaluated_steps(each.run)
      tree.evaluate(each.name, each.run, run, arm.size, steps)
  for name, measure in study.measures.items():
    tree.stages[f'measure/{name}'] = measure.stage(tree)
  return tree.stages


class Tree:
  """The stages of one seed while they are put together."""

  def __init__(self, study: Study, seed: int):
    self.study, self.seed = study, seed
    self.source = _prompts_like(study).with_seed(seed)
    self.stages: dict[str, Stage] = {}
    self._grid: dict[str, tuple[Arm, GridRun]] = {
      each.name: (arm, each)
      for arm in study.arms.values()
      for each in arm.runs(seed)
    }
    self._add_models()
    self.stages['opponent'] = stage(
      'opponent',
      judging.opponent,
      self.judging(None),
      data=self.stages['data'],
      golden_policy=self.stages['golden_policy'],
    )

  def judging(self, size: PolicySize | None) -> judging.Judging:
    """What evaluations of policies of a size share."""
    study = self.study
    policy = (size.sft if size else study.sft).model
    return judging.Judging(
      study.evaluation,
      policy_of(policy),
      comparer_of(study.golden.model),
      comparer_of(study.proxy.model),
      study.data.response_length,
      study.mesh,
    )

  def judges(self, size: PolicySize | None) -> dict[str, Stage]:
    """What every evaluation reads beside the run."""
    named = ('opponent', 'golden', 'proxy', 'data')
    return {
      **{name: self.stages[name] for name in named},
      'pairs': self.stages['relabel'],
      'sft': self._sft(size),
    }

  def arm(self, run: RunOf) -> Arm:
    """The arm of a run."""
    return self.study.arms[run.arm]

  def run(self, run: RunOf) -> Stage:
    """The training of a run, and before it all that it reads."""
    if run.setting is None:
      return self.stages['sft']
    own = self.study.run_name(run)
    name = f'run/{own}'
    if name not in self.stages:
      arm, each = self._grid[own]
      several = len(arm.settings) > 1
      add = self._member if arm.grouped and several else self._single
      self.stages[name] = add(arm, each)
    return self.stages[name]

  def evaluate(
    self,
    name: str,
    run: Run,
    trained: Stage,
    size: PolicySize | None = None,
    save_steps: tuple[int, ...] = (),
  ) -> None:
    """Adds the evaluation of a run's checkpoints."""
    self.stages[f'evaluate/{name}'] = stage(
      f'evaluate_{name}',
      judging.evaluate,
      judging.RunPoints(self.judging(size), self.source, run, save_steps),
      weight=0.4 * max(1, len(save_steps)),
      group=('evaluate', size),
      run=trained,
      **self.judges(size),
    )

  def _single(self, arm: Arm, each: GridRun) -> Stage:
    return self.policy_run(
      each.name,
      trainings.Training(
        each.run,
        record_stream=arm.record_stream,
        from_step=arm.start.step if arm.start else None,
        mesh=self.study.mesh,
      ),
      self._start(arm),
      self._data(arm),
      annotator=self.study.asked(arm)[0],
      group=(arm.run.algorithm.sampler is not None, arm.size),
    )

  def _member(self, arm: Arm, each: GridRun) -> Stage:
    """A run of a group, and before it the training of the group."""
    name = f'group/{arm.name}'
    if name not in self.stages:
      runs = tuple((one.name, one.run) for one in arm.runs(self.seed))
      self.stages[name] = self.policy_run(
        f'{arm.name}_group',
        grouped.GroupTraining(
          runs,
          record_stream=arm.record_stream,
          from_step=arm.start.step if arm.start else None,
          mesh=self.study.mesh,
        ),
        self._start(arm),
        self._data(arm),
        annotator=self.study.asked(arm)[0],
        group=(arm.run.algorithm.sampler is not None, arm.size, len(runs)),
        function=grouped.policy_runs,
        count=len(runs),
      )
    trained = self.stages[name]
    return stage(each.name, grouped.member, each.name, 0.1, trained=trained)

  def _start(self, arm: Arm) -> Stage:
    """The policy that an arm's runs start from."""
    return self.run(arm.start) if arm.start else self._sft(arm.size)

  def _sft(self, size: PolicySize | None) -> Stage:
    return self.stages[f'sft_{size.name}' if size else 'sft']

  def _data(self, arm: Arm) -> dict[str, Stage]:
    """The stages whose pairs an arm trains on, by the stage's name for them."""
    match arm.pairs:
      case grid.StreamOf(run):
        return {'stream': self.run(run)}
      case grid.SampledPairs(first, second):
        return {'pairs': self._sampled(first, second)}
      case grid.RankedPairs():
        return {'pairs': self._ranked(arm, arm.pairs)}
      case _:
        return {'pairs': self.stages['relabel']}

  def _sampled(self, first: RunOf, second: RunOf) -> Stage:
    parts = (
      f'{self.study.run_name(run)}_{run.step or "last"}'
      for run in (first, second)
    )
    name = '_'.join(('pairs', *parts))
    if name not in self.stages:
      study = self.study
      self.stages[name] = stage(
        name,
        trainings.sample_pairs,
        trainings.Sampling(
          policy_of(study.sft.model),
          comparer_of(study.golden.model),
          study.evaluation,
          study.data.response_length,
          (('first', first.step), ('second', second.step)),
          study.mesh,
        ),
        weight=4,
        first=self.run(first),
        second=self.run(second),
        golden=self.stages['golden'],
        pairs=self.stages['relabel'],
      )
    return self.stages[name]

  def _ranked(self, arm: Arm, pairs: grid.RankedPairs) -> Stage:
    """Pairs of what several checkpoints wrote."""
    scored = {
      f'samples_{i}': self._scored(arm, pairs, writer)
      for i, writer in enumerate(pairs.writers)
    }
    return stage(
      f'ranked_{arm.name}',
      ranking.ranked_pairs,
      ranking.Ranking(pairs.choice, pairs.num_prompts),
      weight=0.2,
      pairs=self.stages['relabel'],
      **scored,
    )

  def _scored(self, arm: Arm, pairs: grid.RankedPairs, writer: RunOf) -> Stage:
    """Samples of a checkpoint under an arm's judge, once for all that ask."""
    study = self.study
    judge, trained = study.asked(arm)
    name = study.samples_name(arm, pairs, writer)
    if name not in self.stages:
      self.stages[name] = stage(
        name,
        ranking.scored_samples,
        ranking.Scoring(
          policy_of(study.sft.model),
          cast(Scorer, trained.model),
          study.evaluation,
          study.data.response_length,
          pairs.num_samples,
          pairs.num_prompts,
          writer.step,
          study.mesh,
        ),
        weight=2 * pairs.num_samples,
        run=self.run(writer),
        judge=self.stages[judge],
        pairs=self.stages['relabel'],
      )
    return self.stages[name]

  def policy_run(
    self,
    name: str,
    training: trainings.Training | grouped.GroupTraining,
    sft: Stage,
    data: dict[str, Stage],
    annotator: str,
    group: Hashable,
    function: StageFunction = trainings.policy_run,
    count: int = 1,
  ) -> Stage:
    """A run from its SFT policy, or `count` of them.

    Offline never reads the annotator (spec 4.5), so another proxy leaves it.
    """
    algorithm = training.run.algorithm
    samples = algorithm.sampler is not None
    if samples and algorithm.host_annotator is not None:
      raise errors.InputError(
        f'Stage {name}: in a study the proxy labels samples, got the annotator'
        f' {type(algorithm.host_annotator).__name__} on the host. Give `dap'
        ' train` such an annotator (gin/annotators/rule.gin), or take it away.'
      )
    asked = samples and algorithm.annotator is not None
    judge = {'annotator': self.stages[annotator]} if asked else {}
    weight = 12 if samples else 8
    return stage(
      name,
      function,
      training,
      weight=count * weight * training.run.num_steps / 500,
      group=group,
      sft=sft,
      **data,
      **judge,
    )

  def _add_models(self) -> None:
    """Stages A to E: data, golden and proxy models, SFT and golden policy."""
    study = self.study
    vocab_size = study.sft.model.language_model.vocab_size
    self.stages['data'] = stage(
      'data', trainings.prepare, trainings.Preparing(self.source, vocab_size)
    )
    self._add_sft('sft', study.sft, study.sft_start)
    self._add_judges()
    for size in study.sizes:
      self._add_sft(f'sft_{size.name}', size.sft, size.sft_start)
    run = dataclasses.replace(study.golden_policy, seed=self.seed)
    self.stages['golden_policy'] = self.policy_run(
      'golden_policy',
      trainings.Training(run, mesh=study.mesh),
      self.stages['sft'],
      {'pairs': self.stages['relabel']},
      annotator='golden',
      group='golden_policy',
    )

  def _add_judges(self) -> None:
    """Data, the golden model and its labels, the proxy that learns them."""
    study, made = self.study, self.stages
    data, panel = made['data'], asking.stages(self)
    made['golden'] = self.trained(
      'golden',
      study.golden,
      20,
      data,
      study.golden_start,
      ('train', 'stress'),
      more=panel,
    )
    made['relabel'] = Stage(
      'relabel',
      trainings.relabel,
      trainings.Relabelling(
        study.golden.model,
        study.num_golden_pairs,
        study.panel.num_golden_pairs if study.panel and panel else 0,
        mesh=study.mesh,
      ),
      {'data': data, 'golden': made['golden'], **panel},
    )
    self._add_judge('proxy', study.proxy, study.proxy_start)
    for judge in study.judges:
      self._add_judge(f'judge_{judge.name}', judge.run)

  def _add_judge(
    self, name: str, run: Run, start: Checkpoint | None = None
  ) -> None:
    """A model that learns D_golden, and its held-out accuracy."""
    made = self.stages
    made[name] = self.trained(name, run, 6, made['relabel'], start)
    made[f'{name}_accuracy'] = stage(
      f'{name}_accuracy',
      trainings.preference_accuracy,
      trainings.Relabelling(run.model, 0, mesh=self.study.mesh),
      data=made['relabel'],
      model=made[name],
    )

  def _add_sft(self, name: str, run: Run, start: Checkpoint | None) -> None:
    """A supervised policy and its held-out loss."""
    made = self.stages
    made[name] = self.trained(name, run, 8, made['data'], start)
    made[f'{name}_loss'] = stage(
      f'{name}_loss',
      trainings.held_out_loss,
      trainings.Relabelling(run.model, 0, mesh=self.study.mesh),
      data=made['data'],
      model=made[name],
    )

  def trained(
    self,
    name: str,
    run: Run,
    weight: float,
    data: Stage,
    start: Checkpoint | None = None,
    splits: tuple[str, ...] = ('train',),
    num_pairs: int | None = None,
    more: Mapping[str, Stage] = MappingProxyType({}),
  ) -> Stage:
    run = dataclasses.replace(run, seed=self.seed)
    training = trainings.Training(
      run, splits, start=start, num_pairs=num_pairs, mesh=self.study.mesh
    )
    inputs = {'data': data, **more}
    return stage(name, trainings.supervised, training, weight, **inputs)


def _prompts_like(study: Study) -> PairData:
  """The data with prompts such as the SFT policy's start has read."""
  start = study.sft_start
  return study.data.following(load.prompts_end(start.path) if start else None)


def stage(
  name: str,
  function: StageFunction,
  config: object,
  weight: float = 1.0,
  group: Hashable = None,
  **inputs: Stage,
) -> Stage:
  """A stage with its inputs by name."""
  return Stage(name, function, config, inputs, group=group, weight=weight)
