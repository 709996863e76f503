"""Layer 4. An algorithm: the slots that the one loop calls in order.

    source > sampler > annotator > pairing > signals > passes > loss
    and a schedule for each of behaviour policy, reference and annotator.

Every algorithm of the field is a choice of these; none has a loop of its own.
"""

import dataclasses
import functools
import inspect

from dap import errors
from dap.algorithms import columns, objectives, signals
from dap.algorithms.controls import Control
from dap.algorithms.objectives import Loss
from dap.algorithms.pairings import Pairing, Two
from dap.algorithms.passes import Once, Passes
from dap.algorithms.refresh import Current, Never, Schedule
from dap.algorithms.samplers import Sampler
from dap.algorithms.sources import FromDataset, Source
from dap.annotators.host import HostAnnotator
from dap.annotators.models import Annotator

# Beside `Algorithm.signals`, which hides the module in the class.
Signal = signals.Signal

_SLOTS = {
  'loss': Loss,
  'source': Source,
  'sampler': Sampler,
  'annotator': Annotator,
  'host_annotator': HostAnnotator,
  'pairing': Pairing,
  'signals': Signal,
  'passes': Passes,
  'behaviour': Schedule,
  'reference': Schedule,
  'refit': Schedule,
  'control': Control,
}
_OPTIONAL = ('sampler', 'annotator', 'host_annotator', 'control')


def _check_slot(name: str, value: object) -> None:
  """Refuses what a slot does not take, before it fails within a program."""
  kind = _SLOTS[name]
  if value is None and name in _OPTIONAL:
    return
  if isinstance(value, type):
    raise errors.InputError(
      f'{name} of an algorithm is a value, got the class {value.__name__}: call'
      f' it, in gin @{value.__name__}().'
    )
  if not isinstance(value, kind):
    asked = sorted({*vars(kind), *inspect.get_annotations(kind)})
    lacks = [n for n in asked if n[0] != '_' and not hasattr(value, n)]
    raise errors.InputError(
      f'{name} of an algorithm is a {kind.__name__}; {value!r} has no'
      f' {", ".join(lacks) or "__call__"}. See {kind.__module__}.'
    )
  if name in ('reference', 'refit') and value == Current():
    raise errors.InputError(
      f'{name} of an algorithm cannot be the policy of now, refresh.Current():'
      ' choose refresh.Every(1) for a copy at each step.'
    )


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """The choices that one loop calls in order (spec 0.2, 1).

  Offline has no sampler and keeps a data set's responses and labels; online
  samples and asks an annotator. Nothing else differs between the two.

  Attributes:
    loss: what an update minimises.
    source: which examples, or prompts to answer, a step has.
    sampler: writes responses; None trains on those of the data.
    annotator: a model that is asked about sampled responses.
    host_annotator: asked about their texts, between two programs, instead.
    pairing: makes the examples of a loss of what they say.
    signals: columns that the loss reads, beside the standard ones
      (`columns.STANDARD`), which are computed where it asks for them.
    passes: how often, and in which parts, an update uses the examples.
    behaviour: when the policy that is sampled from follows the policy.
    reference: when the reference follows the policy.
    refit: when the annotator follows the policy (a policy that judges itself).
    control: numbers that signals read and that follow what was sampled.
  """

  loss: Loss
  source: Source = FromDataset()
  sampler: Sampler | None = None
  annotator: Annotator | None = None
  host_annotator: HostAnnotator | None = None
  pairing: Pairing = Two()
  signals: tuple[Signal, ...] = ()
  passes: Passes = Once()
  behaviour: Schedule = Current()
  reference: Schedule = Never()
  refit: Schedule = Never()
  control: Control | None = None

  def __post_init__(self):
    object.__setattr__(self, 'signals', tuple(self.signals))
    for name in _SLOTS:
      given = getattr(self, name)
      for value in given if name == 'signals' else (given,):
        _check_slot(name, value)
    if self.annotator is not None and self.host_annotator is not None:
      raise errors.InputError(
        'An algorithm has one annotator: a model, which is asked within a'
        ' program, or one on the host. Bind one of annotator, host_annotator to'
        ' None.'
      )
    asked = self.annotator is not None or self.host_annotator is not None
    if self.sampler is not None and self.pairing.reads_scores and not asked:
      raise errors.InputError(
        'An algorithm that samples from the policy needs an annotator to label'
        ' the samples, got none. Include gin/annotators/preference_model.gin,'
        ' or rule.gin for a rule in Python, or take responses from data with'
        ' gin/samplers/dataset.gin.'
      )
    self._check_control()

  def _check_control(self) -> None:
    """A column that nobody makes is refused here too."""
    read = [s.name for s in self.columns if getattr(s, 'controlled', False)]
    if read and self.control is None:
      raise errors.InputError(
        f'The signal {read[0]} reads the numbers of a control, and the'
        ' algorithm has none. Bind Algorithm.control, as'
        ' gin/algorithms/ppo_adaptive.gin does.'
      )
    if self.control is not None and not read:
      raise errors.InputError(
        'The numbers of a control are read by a signal such as'
        ' @rewards.AdaptiveTokenRewards(); this algorithm has'
        f' {type(self.control).__name__}, and no such signal.'
      )

  @functools.cached_property
  def columns(self) -> tuple[Signal, ...]:
    """All signals, standard ones included, each after those it reads."""
    return columns.resolve(
      objectives.reads(self.loss.function),
      self.signals,
      (*objectives.OF_BATCH, *objectives.OF_MODEL),
      objectives.name_of(self.loss.function),
    )

  @property
  def reads_scores(self) -> bool:
    """Whether loss or signals read what an annotator said."""
    read = {*objectives.reads(self.loss.function)}
    return 'scores' in read.union(*(each.reads for each in self.columns))

  @property
  def needs_reference(self) -> bool:
    """Whether a reference is needed at all."""
    return any(signal.owner == 'reference' for signal in self.columns)
