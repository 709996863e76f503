"""Layer 4. Signals: the columns of a batch that losses ask for by name.

A signal is a value with a name, the columns that it reads itself, and whose
parameters it needs. It is computed once for the examples of a step, before any
update on them, and is a constant to the loss.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from dap import errors, losses
from dap.models.trained import Trained, policy_of
from dap.records import Batch, RoleParams, ended

Column = Float[Array, 'batch n ...']
Reads = tuple[str, ...]
# Whose parameters a signal needs; '' is nobody's.
Owner = Literal['', 'policy', 'reference']
# What stands in a batch beside its columns: batch.responses.mask, batch.scores.
OF_BATCH = ('mask', 'scores')


@runtime_checkable
class Signal(Protocol):
  """A frozen value; pure.

  Attributes:
    reads: other columns, by their names, which it finds in `batch.columns`;
      and 'scores' where it reads `batch.scores`, so that it is refused where
      nobody gives any.
    owner: whose parameters it needs.
  """

  reads: ClassVar[Reads]
  owner: ClassVar[Owner]

  @property
  def name(self) -> str:
    """What a loss calls the column."""
    ...

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """The column; those that it reads are in the batch already."""
    ...


@dataclasses.dataclass(frozen=True)
class Reference:
  """Log-probs of the tokens under the reference, nats, `[batch, n, length]`."""

  name: str = 'reference'
  reads: ClassVar[Reads] = ()
  owner: ClassVar[Owner] = 'reference'

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    tokens = batch.responses.tokens
    return policy_of(model).log_probs(
      params.reference, batch.prompts.tokens, tokens
    )


@dataclasses.dataclass(frozen=True)
class Behaviour:
  """Log-probs under the distribution that was sampled from, nats."""

  name: str = 'behaviour'
  reads: ClassVar[Reads] = ()
  owner: ClassVar[Owner] = ''

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    return batch.responses.log_probs


@dataclasses.dataclass(frozen=True)
class ValuesBefore:
  """What the critic says before the updates of the step."""

  name: str = 'values_before'
  reads: ClassVar[Reads] = ()
  owner: ClassVar[Owner] = 'policy'

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    said = model.outputs(params.policy, batch.prompts, batch.responses)
    if said.values is None:
      raise errors.InputError(
        f'The signal {self.name} reads the values of a critic, which a'
        f' {type(model).__name__} has not. Include gin/models/actor_critic.gin.'
      )
    return said.values


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
  """RLOO's advantages of whole responses, `[batch, n]`, n > 1.

  The reward is the score less `kl_weight` times the log-ratio of the policy
  that wrote the response to the reference (spec 2.17).

  Attributes:
    kl_weight: per nat.
    missing_end: what stands in for the score of a response that was cut; None
      leaves the score.
    name: of the column.
  """

  kl_weight: float = 0.05
  missing_end: float | None = None
  name: str = 'advantages'
  reads: ClassVar[Reads] = ('reference', 'behaviour', 'scores')
  owner: ClassVar[Owner] = ''

  def __post_init__(self):
    _check_kl_weight(self.kl_weight)

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    if batch.scores.shape[1] < 2:
      raise errors.InputError(
        'Leaving one out needs at least two responses to a prompt, got'
        f' {batch.scores.shape[1]}: raise num_samples of the sampler.'
      )
    ratio = losses.log_ratio(
      batch.columns['behaviour'],
      batch.columns['reference'],
      batch.responses.mask,
    )
    scores = _of_whole(batch, self.missing_end)
    rewards = scores - self.kl_weight * ratio
    return losses.leave_one_out_advantages(rewards)


@dataclasses.dataclass(frozen=True)
class TokenRewards:
  """The KL penalty of each token, the score at the last (spec 2.16, step 1).

  Attributes:
    kl_weight: per nat.
    missing_end: what stands in for the score of a response that was cut; None
      leaves the score.
    name: of the column.
  """

  kl_weight: float = 0.05
  missing_end: float | None = None
  name: str = 'token_rewards'
  reads: ClassVar[Reads] = ('reference', 'behaviour', 'scores')
  owner: ClassVar[Owner] = ''

  def __post_init__(self):
    _check_kl_weight(self.kl_weight)

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    scores = _of_whole(batch, self.missing_end)
    return losses.token_rewards(
      batch.columns['behaviour'],
      batch.columns['reference'],
      batch.responses.mask,
      scores,
      kl_weight=self.kl_weight,
    )


@dataclasses.dataclass(frozen=True)
class Gae:
  """Advantages of tokens from rewards and values (spec 2.16, step 3).

  Attributes:
    discount: gamma.
    decay: lambda.
    name: of the column.
  """

  discount: float = 1.0
  decay: float = 0.95
  name: str = 'gae'
  reads: ClassVar[Reads] = ('token_rewards', 'values_before')
  owner: ClassVar[Owner] = ''

  def __post_init__(self):
    for name in ('discount', 'decay'):
      if not 0 <= getattr(self, name) <= 1:
        raise errors.InputError(
          f'{name} of GAE must be in [0, 1], got {getattr(self, name)}.'
        )

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    return losses.generalised_advantages(
      batch.columns['token_rewards'],
      batch.columns['values_before'],
      batch.responses.mask,
      discount=self.discount,
      decay=self.decay,
    )


@dataclasses.dataclass(frozen=True)
class Returns:
  """Advantages before whitening, plus values: what the critic learns."""

  name: str = 'returns'
  reads: ClassVar[Reads] = ('gae', 'values_before')
  owner: ClassVar[Owner] = ''

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    return batch.columns['gae'] + batch.columns['values_before']


@dataclasses.dataclass(frozen=True)
class Whitened:
  """Advantages of tokens, whitened over the global batch (spec 2.16)."""

  name: str = 'advantages'
  reads: ClassVar[Reads] = ('gae',)
  owner: ClassVar[Owner] = ''

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    return losses.whiten(batch.columns['gae'], batch.responses.mask)


@dataclasses.dataclass(frozen=True)
class Shares:
  """Votes for each response of a pair, `[batch, 2]`, shares that sum to 1.

  Data that know them (`Pairs.shares`) give them; other labels are those of one
  voter, [1, 0].
  """

  name: str = 'shares'
  reads: ClassVar[Reads] = ()
  owner: ClassVar[Owner] = ''

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    if batch.scores.shape[1] != 2:
      raise errors.InputError(
        'Shares of votes are of two responses, got groups of'
        f' {batch.scores.shape[1]}.'
      )
    return jnp.zeros_like(batch.scores).at[:, 0].set(1.0)


@dataclasses.dataclass(frozen=True)
class Desirable:
  """1 for the first response of a prompt, the chosen one of a pair, else 0."""

  name: str = 'desirable'
  reads: ClassVar[Reads] = ()
  owner: ClassVar[Owner] = ''

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    return jnp.zeros_like(batch.scores).at[:, 0].set(1.0)


@dataclasses.dataclass(frozen=True)
class MismatchedRatio:
  """KTO's anchor: the mean log-ratio of responses to the prompts of others.

  Each response is read as if it were one to the prompt of the row before it,
  by policy and reference; the mean over the batch, at least 0, is an estimate
  of the KL that no response of the batch moves by itself (spec 2.28).
  """

  name: str = 'anchor'
  # Of the reference it needs the parameters: where it is read, there is one.
  reads: ClassVar[Reads] = ('reference',)
  owner: ClassVar[Owner] = 'policy'

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    if batch.scores.shape[0] < 2:
      raise errors.InputError(
        'The anchor of KTO reads each response with the prompt of another'
        ' example, so a batch needs two; got BATCH_SIZE 1.'
      )
    prompts = batch.prompts.tokens
    tokens = jnp.roll(batch.responses.tokens, 1, axis=0)
    mask = jnp.roll(batch.responses.mask, 1, axis=0)
    policy, (shared, _) = policy_of(model), model.split(params.policy)
    ratio = losses.log_ratio(
      policy.log_probs(shared, prompts, tokens),
      policy.log_probs(params.reference, prompts, tokens),
      mask,
    )
    weight = jnp.any(mask > 0, axis=2) * batch.weight[:, None]
    mean = jnp.sum(ratio * weight) / jnp.maximum(jnp.sum(weight), 1.0)
    return jnp.full_like(batch.scores, jnp.maximum(mean, 0.0))


# Computed where a loss or a signal asks for them and nobody else gives them.
STANDARD: tuple[Signal, ...] = (
  Reference(), Behaviour(), ValuesBefore(), Shares(), Desirable(),
  MismatchedRatio(),
)  # fmt: skip
# What else there is, for errors that say what would make a column.
MAKERS = (
  Reference, Behaviour, ValuesBefore, LeaveOneOut, TokenRewards, Gae, Returns,
  Whitened, Shares, Desirable, MismatchedRatio,
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
    if of_model := [n for n in signal.reads if n in {*known} - {*OF_BATCH}]:
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
  classes = [kind.__name__ for kind in MAKERS if kind().name == name]
  makes = (
    f'signals.{" or signals.".join(classes)} makes it:'
    f' Algorithm.signals = (@signals.{classes[0]}(),)'
    if classes
    else 'Correct the name, or write a signal of that name'
    ' (dap/algorithms/signals.py) and add it to Algorithm.signals'
  )
  return (
    f'{asks} reads the column {name}, which nobody computes; there are'
    f' {", ".join([*known, *makers])}. {makes}.'
  )


def _of_whole(
  batch: Batch, missing_end: float | None
) -> Float[Array, 'batch n']:
  """The scores, of responses that ended."""
  if missing_end is None:
    return batch.scores
  whole = ended(batch.responses.tokens)
  return jnp.where(whole, batch.scores, missing_end)


def _check_kl_weight(weight: float) -> None:
  if not weight >= 0:
    raise errors.InputError(f'kl_weight must be >= 0, got {weight}.')
