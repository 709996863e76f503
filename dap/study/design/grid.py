"""Layer 7. Arms of a study: one algorithm over a grid of rates and betas."""

import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

from dap import errors
from dap.algorithms.run import Run
from dap.checkpoints.load import Checkpoint
from dap.study.reading.evidence import Setting


@dataclasses.dataclass(frozen=True)
class RunOf:
  """One run of an arm, by name; `step` is one of its checkpoints.

  Attributes:
    arm: its name, or 'sft' for the SFT policy itself.
    setting: (learning rate, beta) of the run; None for 'sft'.
    step: of the checkpoint; the last when None.
  """

  arm: str
  setting: Setting | None = None
  step: int | None = None

  def __post_init__(self):
    if self.setting is not None:
      object.__setattr__(self, 'setting', tuple(self.setting))
    if (self.arm == 'sft') != (self.setting is None):
      raise errors.InputError(
        'A run is named by its arm and its (learning rate, beta); the SFT'
        f' policy, "sft", has none. Got {self.arm!r} with {self.setting}.'
      )

  @property
  def name(self) -> str:
    """Of the run in runs.jsonl and of its stage."""
    return (
      self.arm if self.setting is None else run_name(self.arm, self.setting)
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


PairsFrom = GoldenPairs | StreamOf | SampledPairs


@dataclasses.dataclass(frozen=True)
class PolicySize:
  """Policies of another size than the study's, with their own SFT policy.

  Attributes:
    name: in the names of stages and of points.
    sft: supervised training.
    sft_start: parameters that it starts from; drawn anew when None.
  """

  name: str
  sft: Run
  sft_start: Checkpoint | None = None


class GridRun(NamedTuple):
  """One run of an arm."""

  name: str
  setting: Setting
  run: Run


@dataclasses.dataclass(frozen=True)
class Arm:
  """Runs that differ in learning rate and beta alone.

  Attributes:
    name: in runs.jsonl, plots and stages.
    run: what all runs share.
    settings: (learning rate, beta) of each run; a beta of None leaves the
      loss's scalars as they are.
    pairs: what it trains on, or whose prompts it answers.
    size: of its policies, where it is not the study's.
    record_stream: keep every on-policy batch of each run.
    grouped: train the runs of a seed as one program and one stage, if there are
      several: fills a device that one run leaves idle. Their bits are not those
      of single runs.
  """

  name: str
  run: Run
  settings: tuple[Setting, ...]
  pairs: PairsFrom = GoldenPairs()
  size: PolicySize | None = None
  record_stream: bool = False
  grouped: bool = False

  def __post_init__(self):
    settings = tuple((rate, beta) for rate, beta in self.settings)
    object.__setattr__(self, 'settings', settings)
    if not re.fullmatch('[a-z0-9_]+', self.name) or self.name in _RESERVED:
      raise errors.InputError(
        'An arm is named with small letters, digits and "_", and not'
        f' {" or ".join(_RESERVED)}, which a study has already; got'
        f' {self.name!r}.'
      )
    if not settings or len(set(settings)) != len(settings):
      raise errors.InputError(
        f'The arm {self.name} needs settings (learning rate, beta) that differ,'
        f' at least one, got {settings}.'
      )
    for rate, beta in settings:
      if not rate > 0 or (beta is not None and not beta > 0):
        raise errors.InputError(
          f'Settings of the arm {self.name} need a learning rate and a beta'
          f' > 0, got {(rate, beta)}.'
        )
    if self.run.algorithm.sampler is not None and self.pairs != GoldenPairs():
      raise errors.InputError(
        f'The arm {self.name} samples its responses and so needs the prompts'
        f' of D_golden, got {self.pairs}. Choose gin/samplers/dataset.gin to'
        ' train on those pairs.'
      )

  def runs(self, seed: int) -> Iterator[GridRun]:
    """The run of each setting, in order."""
    for rate, beta in self.settings:
      algorithm = self.run.algorithm
      if beta is not None:
        loss = algorithm.loss
        if 'beta' not in dict(loss.scalars):
          raise errors.InputError(
            f'The loss of the arm {self.name} has no beta: give settings'
            f' (learning rate, None), got {(rate, beta)}.'
          )
        scalars = {**dict(loss.scalars), 'beta': beta}
        loss = dataclasses.replace(loss, scalars=scalars)
        algorithm = dataclasses.replace(algorithm, loss=loss)
      run = dataclasses.replace(
        self.run, algorithm=algorithm, learning_rate=rate, seed=seed
      )
      yield GridRun(run_name(self.name, (rate, beta)), (rate, beta), run)


_RESERVED = ('sft', 'golden_policy')


def run_name(arm: str, setting: Setting) -> str:
  """Such as 'online_ipo_lr0.0005_beta0.03'."""
  rate, beta = setting
  of_beta = '' if beta is None else f'_beta{beta:g}'
  return f'{arm}_lr{rate:g}{of_beta}'
