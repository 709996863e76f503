"""Layer 7. The design of a study: choices that all its seeds share, checked."""

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

from dap import errors, partitioning
from dap.algorithms.run import Run
from dap.checkpoints.load import Checkpoint
from dap.data.datasets import PairData
from dap.evaluation.points import DEFAULT, Evaluation
from dap.losses import ranges
from dap.losses.ranges import Size
from dap.models.protocols import Scorer
from dap.study.design import experiments, grid
from dap.study.design.experiments import Experiment, Measure
from dap.study.design.grid import Arm, Judge, PolicySize, RankedPairs, RunOf
from dap.study.design.panel import Panel
from dap.training import programs


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
    experiments: what is run beside these, measured and read.
    panel: people who label policies' pairs for the golden model; nobody when
      None.
    num_golden_pairs: pairs of D_golden, the first of the training split.
    evaluation: of every checkpoint.
    golden_start: parameters that the golden model starts from; drawn anew when
      None, as for the next two.
    sft_start: that the SFT policy starts from.
    proxy_start: that the proxy starts from.
    mesh: devices of every stage along (data, model).
  """

  data: PairData
  golden: Run
  sft: Run
  proxy: Run
  golden_policy: Run
  experiments: tuple[Experiment, ...]
  panel: Panel | None = None
  num_golden_pairs: Size = 3000
  evaluation: Evaluation = DEFAULT
  golden_start: Checkpoint | None = None
  sft_start: Checkpoint | None = None
  proxy_start: Checkpoint | None = None
  mesh: tuple[Size, Size] = (1, 1)

  def __post_init__(self):
    ranges.check(self)
    object.__setattr__(self, 'experiments', tuple(self.experiments))
    object.__setattr__(self, 'mesh', tuple(self.mesh))
    if not self.experiments:
      raise errors.InputError(
        'A study needs at least one experiment, got none.'
      )
    runs = {
      'golden': self.golden,
      'sft': self.sft,
      'proxy': self.proxy,
      'golden_policy': self.golden_policy,
    }
    runs |= {name: arm.run for name, arm in self.arms.items()}
    runs |= {f'sft_{size.name}': size.sft for size in self.sizes}
    runs |= {f'judge_{judge.name}': judge.run for judge in self.judges}
    scouts = self.panel.runs if self.panel else {}
    runs |= scouts
    if len({run.model.language_model.vocab_size for run in runs.values()}) > 1:
      sizes = {
        name: run.model.language_model.vocab_size for name, run in runs.items()
      }
      raise errors.InputError(
        'All models of a study read the same token ids and need one vocab_size,'
        f' got {sizes}. Bind VOCABULARY_SIZE for all.'
      )
    for run in runs.values():
      programs.check_mesh(run, partitioning.abstract_mesh(self.mesh))
    _check_start('golden_policy', self.golden_policy, self.sft)
    _check_annotator('golden_policy', self.golden_policy, 'golden', self.golden)
    judge = scouts.pop('scout_judge', self.golden)
    for name, run in scouts.items():
      _check_start(name, run, self.sft)
      _check_annotator(name, run, 'scout_judge', judge)
    for arm in self.arms.values():
      _check_start(arm.name, arm.run, arm.size.sft if arm.size else self.sft)
      judge = arm.judge or Judge('proxy', self.proxy)
      _check_annotator(arm.name, arm.run, judge.name, judge.run)
      for read in _reads(arm):
        self.check_run(read, arm.name)
      _check_ranked(arm, judge)
    self.measures  # noqa: B018 (names that clash are refused here)

  @property
  def arms(self) -> dict[str, Arm]:
    """Of all experiments, by name."""
    return experiments.arms(self.experiments)

  @property
  def measures(self) -> dict[str, Measure]:
    """Of all experiments, by name."""
    return experiments.measures(self.experiments)

  @property
  def sizes(self) -> tuple[PolicySize, ...]:
    """Other sizes of policies than the study's own."""
    return _by_name((arm.size for arm in self.arms.values()), 'policy sizes')

  @property
  def judges(self) -> tuple[Judge, ...]:
    """That arms ask in the proxy's place."""
    return _by_name((arm.judge for arm in self.arms.values()), 'judges')

  def run_name(self, read: RunOf) -> str:
    """Of a run of an arm, in runs.jsonl and of its stage."""
    if read.setting is None:
      return read.arm
    return self.arms[read.arm].run_name(read.setting)

  def asked(self, arm: Arm) -> tuple[str, Run]:
    """The stage of the model that labels an arm's samples, and its training."""
    if arm.judge:
      return f'judge_{arm.judge.name}', arm.judge.run
    return 'proxy', self.proxy

  def samples_name(self, arm: Arm, pairs: RankedPairs, writer: RunOf) -> str:
    """Of the stage of a writer's scored samples, for all that ask alike."""
    own = f'{self.run_name(writer)}_{writer.step or "last"}'
    count = f'{pairs.num_prompts or "all"}x{pairs.num_samples}'
    return f'samples_{own}_{count}_{self.asked(arm)[0]}'

  def check_run(self, read: RunOf, reader: str) -> None:
    """Refuses the name of a run or a checkpoint that will not be there."""
    if read.setting is None:
      return
    arm = self.arms.get(read.arm)
    if arm is None or self.run_name(read) not in map(
      arm.run_name, arm.settings
    ):
      there = f'with settings {arm.settings}' if arm else 'not in the study'
      raise errors.InputError(
        f'{reader} reads the run of {read.arm} with (learning rate, *numbers)'
        f' {read.setting}; that arm is {there}. Name a run that is there, or'
        ' add the setting to the arm.'
      )
    saved = evaluated_steps(arm.run)
    if read.step is not None and read.step not in saved:
      raise errors.InputError(
        f'{reader} reads step {read.step} of {read.arm}, which keeps the'
        f' checkpoints {saved}. Name one of them or add it to the save_steps.'
      )


N = TypeVar('N', PolicySize, Judge)


def _by_name(values: Iterable[N | None], what: str) -> tuple[N, ...]:
  """Those that differ, in the order of their names, which must differ too."""
  found: dict[str, N] = {}
  for value in values:
    if value is not None and found.setdefault(value.name, value) != value:
      raise errors.InputError(
        f'Two {what} of this study are called {value.name}. Give them names'
        ' that differ.'
      )
  return tuple(found[name] for name in sorted(found))


def _reads(arm: Arm) -> tuple[RunOf, ...]:
  """The runs that an arm starts from or takes its data from."""
  start = (arm.start,) if arm.start else ()
  match arm.pairs:
    case grid.StreamOf(run):
      return (*start, run)
    case grid.SampledPairs(first, second):
      return (*start, first, second)
    case grid.RankedPairs(writers):
      return (*start, *writers)
    case _:
      return start


def _check_start(name: str, run: Run, sft: Run) -> None:
  if run.model.shared != sft.model:
    raise errors.InputError(
      f'{name} starts from the SFT policy and needs its model, got'
      f' {run.model.shared} where the SFT run has {sft.model}.'
    )


def _check_annotator(
  name: str, training: Run, judge_name: str, judge: Run
) -> None:
  """Refuses samples that another model labels than the study trains for it."""
  annotator = training.algorithm.annotator
  if training.algorithm.sampler is None or annotator is None:
    return
  if annotator.model != judge.model:
    raise errors.InputError(
      f'{name} is labelled by the {judge_name} preference model and needs its'
      f' model, got {annotator.model} where the {judge_name} run has'
      f' {judge.model}.'
    )


def _check_ranked(arm: Arm, judge: Judge) -> None:
  """Refuses a ranking by a model that gives a response no score of its own."""
  if not isinstance(arm.pairs, grid.RankedPairs):
    return
  if not isinstance(judge.run.model, Scorer):
    raise errors.InputError(
      f'{arm.name} ranks many responses by the {judge.name} model, which must'
      f' score each by itself; a {type(judge.run.model).__name__} compares two.'
      ' Choose a PointwisePreferenceModel, or give the arm such a judge.'
    )


def check_seeds(seeds: int | tuple[int, ...] | list[int]) -> tuple[int, ...]:
  """Seeds as a tuple without repetition."""
  given = tuple(seeds) if isinstance(seeds, tuple | list) else (seeds,)
  if not given or len(set(given)) != len(given):
    raise errors.InputError(
      f'A study needs seeds that differ, at least one, got {given}.'
    )
  for each in given:
    if type(each) is not int or each not in ranges.SEEDS:
      raise errors.InputError(
        f'A seed of a study is a whole number {ranges.SEEDS}, got {each!r}.'
      )
  return given


def evaluated_steps(training: Run) -> tuple[int, ...]:
  """Steps whose checkpoints are kept and evaluated."""
  return tuple(sorted({*training.save_steps, training.num_steps}))
