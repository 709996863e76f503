"""Layer 4. Columns by name: who makes what a loss reads, and in which order."""

from collections.abc import Iterable, Mapping, Sequence

from dap import errors
from dap.algorithms import margins, rewards, signals
from dap.algorithms.signals import Signal

# Computed where a loss or a signal asks for them and nobody else gives them.
STANDARD: tuple[Signal, ...] = (
  signals.Reference(), signals.Behaviour(), signals.ValuesBefore(),
  signals.Shares(), signals.Desirable(), signals.MismatchedRatio(),
)  # fmt: skip
# What else there is, for errors that say what would make a column.
MAKERS = (
  signals.Reference, signals.Behaviour, signals.ValuesBefore,
  signals.LeaveOneOut, signals.TokenRewards, signals.Gae, signals.Returns,
  signals.Whitened, signals.Shares, signals.Desirable, signals.MismatchedRatio,
  rewards.AdaptiveTokenRewards, rewards.WhitenedRewards, rewards.Unwhitened,
  rewards.Sampled, margins.Margins,
)  # fmt: skip


def resolve(
  wanted: Iterable[str], given: Sequence[Signal], known: Sequence[str], who: str
) -> tuple[Signal, ...]:
  """The signals that make the wanted columns, each after those it reads.

  Args:
    wanted: columns by name.
    given: the signals of an algorithm.
    known: names that batch and model give.
    who: that asks, for errors.

  Raises:
    errors.InputError: nobody makes a column, or two signals have one name.
  """
  makers = {each.name: each for each in STANDARD}
  named = [each.name for each in given]
  if twice := sorted(
    {n for n in named if named.count(n) > 1} | {*named} & {*known}
  ):
    raise errors.InputError(
      f'Two signals are called {twice[0]}, or a batch has such a column by'
      ' itself. Give one of them another name.'
    )
  makers |= {each.name: each for each in given}
  order: dict[str, Signal] = {}

  def visit(name: str, asks: str, above: tuple[str, ...]) -> None:
    if name in known or name in order:
      return
    if name not in makers or name in above:
      raise errors.InputError(_nobody(name, asks, makers, known, above))
    for read in makers[name].reads:
      visit(read, f'the signal {name}', (*above, name))
    order[name] = makers[name]

  for signal in makers.values():
    if of_model := [
      n for n in signal.reads if n in {*known} - {*signals.OF_BATCH}
    ]:
      raise errors.InputError(
        f'The signal {signal.name} reads {of_model[0]}, which is no column: a'
        ' signal asks the model itself (model.outputs(params.policy,'
        " batch.prompts, batch.responses), owner = 'policy'). Leave it out of"
        ' reads.'
      )
  for name in wanted:
    visit(name, who, ())
  for signal in given:
    visit(signal.name, 'the algorithm', ())
  return tuple(order.values())


def _nobody(
  name: str,
  asks: str,
  makers: Mapping[str, Signal],
  known: Sequence[str],
  above: tuple[str, ...],
) -> str:
  if name in above:
    return f'Signals read each other in a circle: {" -> ".join(above)}.'
  classes = [
    f'{kind.__module__.rpartition(".")[2]}.{kind.__name__}'
    for kind in MAKERS
    if kind().name == name
  ]
  makes = (
    f'{" or ".join(classes)} makes it: Algorithm.signals = (@{classes[0]}(),)'
    if classes
    else 'Correct the name, or write a signal of that name'
    ' (dap/algorithms/signals.py) and add it to Algorithm.signals'
  )
  return (
    f'{asks} reads the column {name}, which nobody computes; there are'
    f' {", ".join([*known, *makers])}. {makes}.'
  )
