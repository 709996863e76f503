"""Layer 4. Views: how a loss sees a batch, and what becomes of its numbers.

A view takes the loss, all that it may read as `[batch, n, ...]`, and the batch;
it gives the loss what it reads in the form that it wants (as pairs, response by
response, ...) and says with which weights the step averages.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from dap import errors, losses
from dap.losses.ranges import Size
from dap.records import Batch, Losses, Pair, Responses

Seen = Mapping[str, Float[Array, 'batch n ...']]
Metrics = dict[str, Float[Array, ' examples']]
# A loss with its numbers: from its arguments by name to one number an example,
# and metrics of its own.
Apply = Callable[
  [Mapping[str, Array | Pair[Array]]],
  tuple[Float[Array, ' examples'], Metrics],
]


@runtime_checkable
class View(Protocol):
  """A hashable value or a function."""

  def __call__(self, loss: Apply, seen: Seen, batch: Batch) -> Losses:
    """The losses of a batch, to be averaged."""
    ...


def pairs(loss: Apply, seen: Seen, batch: Batch) -> Losses:
  """Chosen and rejected: each column is a `Pair` of `[batch, ...]`."""
  sides = {name: _pair(column) for name, column in seen.items()}
  each, metrics = loss(sides)
  tokens = _pair(batch.responses.tokens)
  mask = _pair(batch.responses.mask)
  same = jnp.all(tokens.chosen == tokens.rejected, axis=1)
  metrics |= {
    'response_length': 0.5
    * (jnp.sum(mask.chosen, 1) + jnp.sum(mask.rejected, 1)),
    'identical_pairs': same.astype(jnp.float32),
  }
  if 'policy' in sides and 'reference' in sides:
    chosen, rejected = (
      losses.log_ratio(*side)
      for side in zip(sides['policy'], sides['reference'], mask, strict=True)
    )
    metrics |= {
      'accuracy': 0.5 * (jnp.sign(chosen - rejected) + 1),
      'margin': chosen - rejected,
      'chosen_log_ratio': chosen,
      'rejected_log_ratio': rejected,
    }
  return Losses(each, batch.weight, metrics)


def comparisons(loss: Apply, seen: Seen, batch: Batch) -> Losses:
  """Pairs that a preference model reads; a tie is half right."""
  sides = {name: _pair(column) for name, column in seen.items()}
  each, metrics = loss(sides)
  first, second = sides['log_odds']
  metrics |= {'accuracy': 0.5 * (jnp.sign(first - second) + 1)}
  return Losses(each, batch.weight, metrics)


def lists(loss: Apply, seen: Seen, batch: Batch) -> Losses:
  """The group of a prompt as it lies, `[batch, n, ...]`."""
  each, metrics = loss(seen)
  lengths = jnp.sum(batch.responses.mask, axis=2)
  metrics |= {
    'score': jnp.mean(batch.scores, axis=1),
    'response_length': jnp.mean(lengths, axis=1),
  }
  return Losses(each, batch.weight, metrics)


def responses(loss: Apply, seen: Seen, batch: Batch) -> Losses:
  """One response an example, `[batch * n, ...]`; one that is not there is none.

  The step then averages over responses.
  """
  each, metrics = loss({name: _flat(column) for name, column in seen.items()})
  mask = _flat(batch.responses.mask)
  there = jnp.any(mask > 0, axis=1).astype(mask.dtype)
  weight = jnp.repeat(batch.weight, batch.scores.shape[1]) * there
  metrics |= {
    'score': _flat(batch.scores),
    'response_length': jnp.sum(mask, axis=1),
  }
  return Losses(each, weight, metrics)


def responses_by_token(loss: Apply, seen: Seen, batch: Batch) -> Losses:
  """`responses` of a loss that is a sum over tokens, averaged over all tokens.

  Its metrics are means over the tokens of a response. Score and length remain
  means over responses.
  """
  found = responses(loss, seen, batch)
  tokens = jnp.sum(_flat(batch.responses.mask), axis=1)
  weight = found.weight * tokens
  each = jnp.maximum(tokens, 1.0)
  # The step will weigh by tokens and divide by the sum of these weights.
  scale = jnp.sum(weight) / jnp.maximum(jnp.sum(found.weight), 1.0) / each
  whole = {n: found.metrics[n] * scale for n in ('score', 'response_length')}
  return Losses(found.each / each, weight, found.metrics | whole)


@dataclasses.dataclass(frozen=True)
class BesideData:
  """A view of groups whose first responses are the data's.

  Both parts are seen alike and averaged together; metrics are those of the
  samples, and `data_loss` is the mean loss of the data's part.

  Attributes:
    view: of either part.
    num_data: responses of a group, the first, that data wrote.
  """

  view: View
  num_data: Size = 1

  def __call__(self, loss: Apply, seen: Seen, batch: Batch) -> Losses:
    """See `View`."""
    data, samples = (
      self.view(loss, *_part(part, seen, batch))
      for part in (slice(0, self.num_data), slice(self.num_data, None))
    )
    weight = jnp.concatenate([data.weight, samples.weight])
    total = jnp.sum(weight)

    def of_all(
      values: Float[Array, ' own'], own: Float[Array, ' own'], first: bool
    ) -> Float[Array, ' all']:
      """Averaged over all, it is the mean over its own part."""
      scaled = values * total / jnp.maximum(jnp.sum(own), 1e-9)
      other = jnp.zeros(len(weight) - len(own), values.dtype)
      parts = (scaled, other) if first else (other, scaled)
      return jnp.concatenate(parts)

    metrics = {
      name: of_all(values, samples.weight, first=False)
      for name, values in samples.metrics.items()
    }
    metrics['data_loss'] = of_all(data.each, data.weight, first=True)
    each = jnp.concatenate([data.each, samples.each])
    return Losses(each, weight, metrics)


@dataclasses.dataclass(frozen=True)
class Tokens:
  """A loss that is a sum over the tokens of a response; the step averages it
  over all tokens, so that a response counts as often as it has tokens.

  Attributes:
    total: name of a metric, the loss of a whole group.
  """

  total: str = 'nats_per_response'

  def __call__(self, loss: Apply, seen: Seen, batch: Batch) -> Losses:
    """Sums of a group by its number of tokens, weighted by that number."""
    shape = batch.scores.shape
    each, metrics = loss({name: _flat(column) for name, column in seen.items()})
    total = jnp.sum(each.reshape(shape), axis=1)
    tokens = jnp.sum(batch.responses.mask, axis=(1, 2))
    metrics = {
      name: jnp.mean(value.reshape(shape), axis=1)
      for name, value in metrics.items()
    }
    each = total / jnp.maximum(tokens, 1.0)
    metrics |= {self.total: total}
    return Losses(each, batch.weight * tokens, metrics)


def _part(
  part: slice, seen: Seen, batch: Batch
) -> tuple[Mapping[str, Float[Array, 'batch part ...']], Batch]:
  """Some responses of each group."""
  cut = {name: column[:, part] for name, column in seen.items()}
  responses = Responses(*(each[:, part] for each in batch.responses))
  own = batch._replace(responses=responses, scores=batch.scores[:, part])
  return cut, own


def _flat(column: Shaped[Array, 'batch n ...']) -> Shaped[Array, 'rows ...']:
  return column.reshape(-1, *column.shape[2:])


def _pair(column: Shaped[Array, 'batch n ...']) -> Pair[Array]:
  if column.shape[1] != 2:
    raise errors.InputError(
      'A loss of pairs needs groups of two responses, chosen first; got groups'
      f' of {column.shape[1]}. Choose a pairing that makes pairs, such as'
      ' @pairings.Two() or @pairings.BestWorst(), or another view of the loss.'
    )
  return Pair(column[:, 0], column[:, 1])
