"""Layer 7. Arms of a study: one algorithm over a grid of rates and numbers."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dap import errors
from dap.algorithms import objectives
from dap.algorithms.run import Run
from dap.checkpoints.load import Checkpoint
from dap.losses import ranges
from dap.losses.ranges import Size
from dap.models.trained import Trained
from dap.study.design.choices import BestAndWorst, Choice
from dap.study.reading import settings
from dap.study.reading.settings import Setting


@dataclasses.dataclass(frozen=True)
class RunOf:
  """One run of an arm; `step` is one of its checkpoints.

  Attributes:
    arm: its name, or 'sft' for the SFT policy itself.
    setting: of the run, as in `Arm.settings`; None for 'sft'.
    step: of the checkpoint; the last when None.
  """

  arm: str
  setting: Setting | None = None
  step: int | None = None

  def __post_init__(self):
    if self.setting is not None:
      frozen = settings.frozen(self.setting, f'A run of {self.arm}')
      object.__setattr__(self, 'setting', frozen)
    if (self.arm == 'sft') != (self.setting is None):
      raise errors.InputError(
        'A run is named by its arm and its (learning rate, *numbers); the SFT'
        f' policy, "sft", has none. Got {self.arm!r} with {self.setting}.'
      )


@dataclasses.dataclass(frozen=True)
class GoldenPairs:
  """D_golden: the data set's pairs under the golden model's labels."""


@dataclasses.dataclass(frozen=True)
class StreamOf:
  """D_online: the batches that an online run recorded, with its labels."""

  run: RunOf


@dataclasses.dataclass(frozen=True)
class SampledPairs:
  """Two responses of two policies to each prompt of D_golden, golden labels.

  Attributes:
    first: checkpoint that writes one side.
    second: checkpoint that writes the other; the same one for pairs from one
      policy.
  """

  first: RunOf
  second: RunOf


@dataclasses.dataclass(frozen=True)
class RankedPairs:
  """Pairs of many responses to the prompts of D_golden, as a judge scores them.

  Attributes:
    writers: checkpoints, each of which answers `num_samples` times; several
      keep what earlier rounds wrote best.
    num_samples: of each writer to a prompt.
    num_prompts: the first of D_golden; all when None.
    choice: of the pairs, from all that was written and its scores by the arm's
      judge; by default the best against the worst.
  """

  writers: tuple[RunOf, ...]
  num_samples: Size = 4
  num_prompts: Size | None = None
  choice: Choice = BestAndWorst()

  def __post_init__(self):
    object.__setattr__(self, 'writers', tuple(self.writers))
    ranges.check(self)
    if len(self.writers) * self.num_samples < self.choice.least:
      raise errors.InputError(
        f'{type(self.choice).__name__} needs {self.choice.least} responses to a'
        f' prompt, got {len(self.writers)} writers of {self.num_samples}.'
      )


PairsFrom = GoldenPairs | StreamOf | SampledPairs | RankedPairs


@dataclasses.dataclass(frozen=True)
class PolicySize:
  """Policies of another size than the study's, with their own SFT policy.

  Attributes:
    name: in the names of stages and of points.
    sft: supervised training; of `model`, whatever model it was given.
    sft_start: parameters that it starts from; drawn anew when None.
    model: of the SFT policy and of all arms of this size; that of `sft` when
      None.
  """

  name: str
  sft: Run
  sft_start: Checkpoint | None = None
  model: Trained | None = None

  def __post_init__(self):
    if self.model is None:
      object.__setattr__(self, 'model', self.sft.model)
    else:
      sft = dataclasses.replace(self.sft, model=self.model)
      object.__setattr__(self, 'sft', sft)


@dataclasses.dataclass(frozen=True)
class Judge:
  """An annotator of another kind or size than the proxy.

  Such as a reward model with margins, or a smaller preference model.

  Attributes:
    name: in the names of its stages.
    run: its training, on D_golden, as the proxy's.
  """

  name: str
  run: Run


class GridRun(NamedTuple):
  """One run of an arm.

  Attributes:
    name: in runs.jsonl, plots and stages.
    setting: of the grid.
    run: all its choices.
    scalars: the numbers of its loss by name, those of the grid first.
  """

  name: str
  setting: Setting
  run: Run
  scalars: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Arm:
  """Runs that differ in learning rate and numbers of the loss alone.

  Attributes:
    name: in runs.jsonl, plots and stages.
    run: what all runs share.
    settings: (learning rate, *numbers) of each run, or (learning rate, numbers
      by name); None leaves a number as the loss has it.
    pairs: what it trains on, or whose prompts it answers.
    size: of its policies, where it is not the study's; its model replaces the
      run's.
    judge: that is asked about samples in the proxy's place.
    start: checkpoint that its runs start from and are anchored to; the SFT
      policy when None, to which KL is measured in any case.
    record_stream: keep every on-policy batch of each run.
    grouped: train the runs of a seed as one program and one stage, if there are
      several: fills a device that one run leaves idle. Their bits are not those
      of single runs.
    scalars: names of the settings' numbers, in their order; by default the
      loss's keyword-only arguments in the order of its signature.
  """

  name: str
  run: Run
  settings: tuple[Setting, ...]
  pairs: PairsFrom = GoldenPairs()
  size: PolicySize | None = None
  judge: Judge | None = None
  start: RunOf | None = None
  record_stream: bool = False
  grouped: bool = False
  scalars: tuple[str, ...] = ()

  def __post_init__(self):
    if not re.fullmatch('[a-z0-9_]+', self.name) or self.name in _RESERVED:
      raise errors.InputError(
        'An arm is named with small letters, digits and "_", and not'
        f' {" or ".join(_RESERVED)}, which a study has already; got'
        f' {self.name!r}.'
      )
    self._freeze()
    names = [each.name for each in self.runs(seed=0)]
    if not names or len(set(names)) != len(names):
      raise errors.InputError(
        f'The arm {self.name} needs settings (learning rate, *numbers) that'
        f' differ, at least one, got {self.settings}.'
      )
    if self.run.algorithm.sampler is not None and self.pairs != GoldenPairs():
      raise errors.InputError(
        f'The arm {self.name} samples its responses and so needs the prompts'
        f' of D_golden, got {self.pairs}. Choose gin/samplers/dataset.gin to'
        ' train on those pairs.'
      )

  def _freeze(self) -> None:
    """Makes values of what was given, and takes the model of the size."""
    whose = f'A setting of the arm {self.name}'
    frozen = tuple(settings.frozen(each, whose) for each in self.settings)
    object.__setattr__(self, 'settings', frozen)
    object.__setattr__(self, 'scalars', tuple(self.scalars))
    if self.size is not None:
      run = dataclasses.replace(self.run, model=self.size.sft.model)
      object.__setattr__(self, 'run', run)
    known = objectives.numbers(self.run.algorithm.loss.function)
    wrong = [name for name in self.scalars if name not in known]
    if wrong or len(set(self.scalars)) != len(self.scalars):
      raise errors.InputError(
        f'Scalars of the arm {self.name} need to be numbers of its loss, each'
        f' once: {", ".join(known) or "it takes none"}; got {self.scalars}.'
      )

  @property
  def names(self) -> tuple[str, ...]:
    """Of the numbers of a setting, in their order."""
    return self.scalars or tuple(
      objectives.numbers(self.run.algorithm.loss.function)
    )

  def run_name(self, setting: Setting) -> str:
    """Such as 'online_ipo_lr0.0005_beta0.03'."""
    with self._named(setting):
      return settings.run_name(self.name, setting, self.names)

  def runs(self, seed: int) -> Iterator[GridRun]:
    """The run of each setting, in order."""
    algorithm = self.run.algorithm
    for setting in self.settings:
      with self._named(setting):
        given = settings.numbers(setting, self.names)
        run = dataclasses.replace(
          self.run,
          algorithm=dataclasses.replace(
            algorithm, loss=algorithm.loss.with_numbers(given)
          ),
          learning_rate=setting[0],
          seed=seed,
        )
      name = self.run_name(setting)
      yield GridRun(name, setting, run, scalars(run, self.names))

  @contextlib.contextmanager
  def _named(self, setting: Setting) -> Iterator[None]:
    """Says of which arm and setting an error is."""
    try:
      yield
    except errors.InputError as error:
      raise errors.InputError(
        f'Setting {setting} of the arm {self.name}: {error}'
      ) from error


_RESERVED = ('sft', 'golden_policy')


def scalars(run: Run, first: Sequence[str] = ()) -> dict[str, float]:
  """The numbers of a run's loss by name, some of them first.

  The others are in the order of the loss's signature.
  """
  loss = run.algorithm.loss
  names = dict.fromkeys((*first, *objectives.numbers(loss.function)))
  return {name: loss.numbers[name] for name in names if name in loss.numbers}
