"""Layer 7. Simple rules that a learnt model must beat, on the same pairs."""

from typing import Any

import numpy as np

from dap import estimators
from dap.data.pairs import Pairs
from dap.records import PADDING

_BUCKETS = 1 << 16
_PENALTY = 1.0  # of the squared weights, chosen once, not tuned


def proportion(wins: np.ndarray) -> dict[str, float]:
  """A mean of 0, 1/2 and 1 with Wilson's interval and the count."""
  low, high = estimators.wilson_interval(float(np.sum(wins)), len(wins))
  return {
    'value': float(np.mean(wins)),
    'low': low,
    'high': high,
    'count': len(wins),
  }


def longer(pairs: Pairs) -> np.ndarray:
  """Wins of the chosen response by the rule "the longer one"; ties half."""
  chosen, rejected = (
    np.sum(side > PADDING, axis=1) for side in (pairs.chosen, pairs.rejected)
  )
  return estimators.margin_wins(chosen - rejected)


def bigram_wins(train: Pairs, test: Pairs) -> np.ndarray:
  """Wins by a Bradley-Terry model on hashed bags of words and bigrams.

  Logistic regression on the difference of the two responses' bags, fitted to
  its optimum: the model that reads no prompt and no order.
  """
  from scipy import optimize

  features = _difference(train)
  seen = np.flatnonzero(features.getnnz(axis=0))  # all other weights stay 0
  features = features[:, seen]

  def objective(weights):
    margin = features @ weights
    value = (
      np.sum(np.logaddexp(0, -margin)) + 0.5 * _PENALTY * weights @ weights
    )
    gradient = features.T @ (-1 / (1 + np.exp(margin))) + _PENALTY * weights
    return value, gradient

  fitted = optimize.minimize(
    objective, np.zeros(len(seen)), jac=True, method='L-BFGS-B',
    options={'maxiter': 100},
  )  # fmt: skip
  return estimators.margin_wins(_difference(test)[:, seen] @ fitted.x)


def _difference(pairs: Pairs) -> Any:  # scipy's sparse matrix
  """[pairs, buckets]: counts of the chosen less those of the rejected."""
  from scipy import sparse

  parts = []
  for side, sign in ((pairs.chosen, 1.0), (pairs.rejected, -1.0)):
    tokens = np.asarray(side, np.int64)
    words = (tokens * 0x9E3779B1) % _BUCKETS
    bigrams = (
      tokens[:, :-1] * 0x85EBCA6B + tokens[:, 1:] * 0xC2B2AE35
    ) % _BUCKETS
    rows = np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)
    real = tokens > PADDING
    both = np.concatenate([words[real], bigrams[real[:, 1:]]])
    where = np.concatenate([rows[real], rows[:, 1:][real[:, 1:]]])
    parts.append((np.full(len(both), sign), where, both))
  value, row, column = (np.concatenate(column) for column in zip(*parts))
  shape = (len(pairs), _BUCKETS)
  return sparse.csr_matrix((value, (row, column)), shape)


def unigram_loss(train: Pairs, test: Pairs) -> float:
  """Nats per token of held-out responses under add-one unigram counts."""
  seen, held = (
    np.concatenate([side[side > PADDING] for side in (x.chosen, x.rejected)])
    for x in (train, test)
  )
  size = int(max(seen.max(), held.max())) + 1
  counts = np.bincount(seen, minlength=size) + 1.0
  return float(-np.mean(np.log(counts / counts.sum())[held]))


def measure(train: Pairs, test: Pairs) -> dict[str, object]:
  """All baselines of a data set, by name."""
  return {
    'choose_longer': proportion(longer(test)),
    'bag_of_bigrams': proportion(bigram_wins(train, test)),
    'unigram_loss': unigram_loss(train, test),
  }
