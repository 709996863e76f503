"""Layer 4. What an update minimises, and the losses that gin files name.

A builder such as `ipo` checks the range of its numbers where an algorithm is
made and returns a `Loss`: a pure function beside the scalars that it takes.
The scalars stay out of the compiled program's identity; they are traced.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from dap import errors, losses
from dap.training.steps import Losses


@dataclasses.dataclass(frozen=True)
class PreferenceObjective:
  """A loss on the log-probs of chosen and rejected responses."""

  model: Any
  function: Callable[..., Any]

  def __call__(self, params, batch, scalars) -> Losses:
    """The loss of each pair, with accuracy, margin and log-ratios."""
    policy = self.model.pair_log_probs(
      params, batch.prompts.tokens, batch.responses
    )
    numbers = {k: v for k, v in scalars.items() if k != 'learning_rate'}
    each = self.function(
      policy, batch.reference_log_probs, batch.mask, **numbers
    )
    chosen, rejected = (
      losses.log_ratio(*side)
      for side in zip(policy, batch.reference_log_probs, batch.mask)
    )
    margin = chosen - rejected
    same = jnp.all(batch.responses.chosen == batch.responses.rejected, axis=1)
    metrics = {
      'accuracy': 0.5 * (jnp.sign(margin) + 1),
      'margin': margin,
      'chosen_log_ratio': chosen,
      'rejected_log_ratio': rejected,
      'response_length': 0.5
      * (jnp.sum(batch.mask.chosen, 1) + jnp.sum(batch.mask.rejected, 1)),
      'identical_pairs': same.astype(jnp.float32),
    }
    return Losses(each, batch.weight, metrics)


@dataclasses.dataclass(frozen=True)
class SupervisedObjective:
  """Cross-entropy of both responses of a pair: the mean over tokens.

  Both sides are targets (Tang et al. 2024, sec. 2); a row with no rejected
  response trains on its chosen one alone, since padding carries no weight.
  """

  model: Any
  function: Callable[..., Any]

  def __call__(self, params, batch, scalars) -> Losses:
    """Nats per token; a row weighs as many examples as it has tokens."""
    del scalars
    policy = self.model.pair_log_probs(
      params, batch.prompts.tokens, batch.responses
    )
    total: Any = sum(
      self.function(*side) for side in zip(policy, batch.mask, strict=True)
    )
    tokens = sum(jnp.sum(mask, axis=1) for mask in batch.mask)
    each = total / jnp.maximum(tokens, 1.0)
    return Losses(each, batch.weight * tokens, {'nats_per_response': total})


@dataclasses.dataclass(frozen=True)
class PreferenceModelObjective:
  """A preference model's cross-entropy, asked in both orders."""

  model: Any
  function: Callable[..., Any]

  def __call__(self, params, batch, scalars) -> Losses:
    """The loss of each pair, with the sign rule's accuracy (ties half)."""
    del scalars
    first, second = self.model.log_odds(
      params, batch.prompts.tokens, *batch.responses
    )
    each = self.function(first, second)
    metrics = {'accuracy': 0.5 * (jnp.sign(first - second) + 1)}
    return Losses(each, batch.weight, metrics)


@dataclasses.dataclass(frozen=True)
class Loss:
  """A pure loss function, its scalars, and the objective that calls it.

  A new loss needs no more than this: `Loss(my_loss, {'beta': 0.1})`.

  Attributes:
    function: (policy, reference, mask, **scalars) -> [batch] for preferences.
    scalars: numbers for the function, traced; stored as sorted pairs.
    objective: what turns (model, function) into losses of a batch.
    reads_reference: whether reference log-probs must be computed for it.
  """

  function: Callable[..., Any]
  scalars: Any = ()
  objective: Callable[[Any, Callable[..., Any]], Any] = PreferenceObjective
  reads_reference: bool = True

  def __post_init__(self):
    pairs = self.scalars
    if isinstance(pairs, Mapping):
      pairs = pairs.items()
    object.__setattr__(self, 'scalars', tuple(sorted(pairs)))


def _positive(name: str, value: float, why: str) -> None:
  if not value > 0:
    raise errors.InputError(f'{name} must be > 0, got {value}: {why}')


def ipo(beta: float = 0.1) -> Loss:
  """IPO, form B: the study's loss. `beta` is per nat."""
  _positive(
    'beta of IPO', beta, 'the target margin is 1 / (2 beta). To train with no'
    ' pull to the reference, choose gin/losses/best_of_two.gin.',
  )  # fmt: skip
  return Loss(losses.ipo_loss, {'beta': beta})


def ipo_azar(tau: float = 0.1) -> Loss:
  """IPO, form A: equation 17 of Azar et al. 2023."""
  _positive('tau of IPO', tau, 'the target margin is 1 / (2 tau).')
  return Loss(losses.ipo_azar_loss, {'tau': tau})


def ipo_gpo_one(beta: float = 0.2) -> Loss:
  """IPO, form C: the squared loss of GPO, whose target margin is 1 / beta."""
  _positive('beta of IPO', beta, 'the target margin is 1 / beta.')
  return Loss(losses.ipo_gpo_one_loss, {'beta': beta})


def dpo(beta: float = 0.1) -> Loss:
  """DPO: the logistic loss."""
  _positive('beta of DPO', beta, 'it scales the margin of the logistic loss.')
  return Loss(losses.dpo_loss, {'beta': beta})


def cdpo(beta: float = 0.1, label_smoothing: float = 0.1) -> Loss:
  """Conservative DPO: labels are wrong with probability `label_smoothing`."""
  _positive('beta of cDPO', beta, 'it scales the margin.')
  if not 0 <= label_smoothing < 0.5:
    raise errors.InputError(
      f'label_smoothing of cDPO must be in [0, 1/2), got {label_smoothing}:'
      ' at 1/2 labels say nothing, beyond it they are reversed.'
    )
  return Loss(
    losses.cdpo_loss, {'beta': beta, 'label_smoothing': label_smoothing}
  )


def hinge(beta: float = 0.1) -> Loss:
  """The hinge on log-ratios (RSO's hinge-norm)."""
  _positive('beta of the hinge', beta, 'it scales the margin.')
  return Loss(losses.hinge_loss, {'beta': beta})


def exponential(beta: float = 0.1) -> Loss:
  """The exponential curve of the GPO family."""
  _positive('beta of the exponential loss', beta, 'it scales the margin.')
  return Loss(losses.exponential_loss, {'beta': beta})


def truncated_quadratic(beta: float = 0.1) -> Loss:
  """The truncated quadratic of the GPO family: zero beyond its target."""
  _positive(
    'beta of the truncated_quadratic loss', beta, 'it scales the margin.'
  )
  return Loss(losses.truncated_quadratic_loss, {'beta': beta})


def savage(beta: float = 0.1) -> Loss:
  """The Savage curve of the GPO family; not convex far below 0."""
  _positive('beta of the savage loss', beta, 'it scales the margin.')
  return Loss(losses.savage_loss, {'beta': beta})


def ipo_mean(beta: float = 1.0) -> Loss:
  """IPO, form B, on means over tokens: `beta` is per nat a token."""
  _positive('beta of IPO', beta, 'the target margin is 1 / (2 beta).')
  return Loss(losses.ipo_mean_loss, {'beta': beta})


def best_of_two() -> Loss:
  """Negative log-likelihood of the chosen response; reads no reference."""
  return Loss(losses.best_of_two_loss)


def supervised() -> Loss:
  """Supervised fine-tuning on both responses, mean over tokens."""
  return Loss(losses.supervised_loss, (), SupervisedObjective, False)


def preference_model() -> Loss:
  """Training of a preference model, both orders."""
  return Loss(
    losses.pairwise_preference_loss, (), PreferenceModelObjective, False
  )
