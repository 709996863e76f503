"""Layer 4. Signals: the columns of a batch that losses ask for by name.

A signal is a value with a name, the columns that it reads itself, and whose
parameters it needs. It is computed once for the examples of a step, before any
update on them, and is a constant to the loss.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Literal, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from dap import errors, losses
from dap.losses import ranges
from dap.losses.ranges import Count
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


Scale = Callable[[Float[Array, 'batch n']], Float[Array, 'batch n']]


def as_they_are(scores: Float[Array, 'batch n']) -> Float[Array, 'batch n']:
  """The scores."""
  return scores


def whitened_scores(scores: Float[Array, 'batch n']) -> Float[Array, 'batch n']:
  """Mean 0 and standard deviation 1 over the batch; equal scores give 0.

  Source: Touvron et al. 2023, section 3.2.3, https://arxiv.org/abs/2307.09288.
  """
  deviation = jnp.std(scores)
  return (scores - jnp.mean(scores)) / jnp.where(deviation > 0, deviation, 1.0)


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
  """RLOO's advantages of whole responses, `[batch, n]`, n > 1.

  The reward is the score less `kl_weight` times the log-ratio of the policy
  that wrote the response to the reference (spec 2.17).

  Attributes:
    kl_weight: per nat.
    missing_end: what stands in for the score of a response that was cut; None
      leaves the score.
    score_limit: scores beyond it, to either side, count as it; None is none.
    name: of the column.
  """

  kl_weight: float = 0.05
  missing_end: float | None = None
  score_limit: float | None = None
  name: str = 'advantages'
  reads: ClassVar[Reads] = ('reference', 'behaviour', 'scores')
  owner: ClassVar[Owner] = ''

  def __post_init__(self):
    _check_rewards(self.kl_weight, self.score_limit)

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
    scores = of_whole(batch, self.missing_end, self.score_limit)
    rewards = scores - self.kl_weight * ratio
    return losses.leave_one_out_advantages(rewards)


@dataclasses.dataclass(frozen=True)
class TokenRewards:
  """The KL penalty of each token, the score at the last (spec 2.16, step 1).

  Attributes:
    kl_weight: per nat.
    missing_end: what stands in for the score of a response that was cut; None
      leaves the score.
    score_limit: scores beyond it, to either side, count as it; None is none.
    scale: of the scores of all responses, after that. A critic that knows
      nothing yet takes their mean for an advantage, greatest at the last token:
      `whitened_scores` takes it away.
    name: of the column.
  """

  kl_weight: float = 0.05
  missing_end: float | None = None
  score_limit: float | None = None
  scale: Scale = as_they_are
  name: str = 'token_rewards'
  reads: ClassVar[Reads] = ('reference', 'behaviour', 'scores')
  owner: ClassVar[Owner] = ''

  def __post_init__(self):
    _check_rewards(self.kl_weight, self.score_limit)

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    scores = self.scale(of_whole(batch, self.missing_end, self.score_limit))
    return losses.token_rewards(
      batch.columns['behaviour'],
      batch.columns['reference'],
      batch.responses.mask,
      scores,
      kl_weight=self.weight(params),
    )

  def weight(self, params: RoleParams) -> ScalarLike:
    """Of KL, per nat."""
    del params
    return self.kl_weight


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
  """Advantages of tokens, whitened over the global batch (spec 2.16).

  Attributes:
    num_data: responses of a group, the first, that data wrote: they have none.
    name: of the column.
  """

  num_data: Count = 0
  name: str = 'advantages'
  reads: ClassVar[Reads] = ('gae',)
  owner: ClassVar[Owner] = ''

  def __post_init__(self):
    ranges.check(self)

  def __call__(
    self, model: Trained, params: RoleParams, batch: Batch
  ) -> Column:
    """See `Signal`."""
    mask = batch.responses.mask.at[:, : self.num_data].set(0)
    return losses.whiten(batch.columns['gae'], mask)


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


def of_whole(
  batch: Batch, missing_end: float | None, limit: float | None
) -> Float[Array, 'batch n']:
  """The scores within a limit, of responses that ended."""
  scores = batch.scores
  if limit is not None:
    scores = jnp.clip(scores, -limit, limit)
  if missing_end is None:
    return scores
  whole = ended(batch.responses.tokens)
  return jnp.where(whole, scores, missing_end)


def _check_rewards(weight: float, limit: float | None) -> None:
  if not weight >= 0:
    raise errors.InputError(f'kl_weight must be >= 0, got {weight}.')
  if limit is not None and not limit > 0:
    raise errors.InputError(
      f'score_limit must be > 0, or None for no limit, got {limit}.'
    )
