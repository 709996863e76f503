"""Estimators, evaluation and curves (sections 3 and 4)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from worked.inputs import MASK, POLICY, REFERENCE, arrays, parts

from dap import estimators, losses
from dap.estimators import BEST_OF_N, LEARNT, best_of_n, limits, peaks

# Tokens a = 0 and end = 1, at most two of them: the texts are 'end', 'a a' and
# 'a end'. A row for the empty prefix and one for that of an a.
PROBABILITIES = np.log([[0.6, 0.4], [0.5, 0.5]])
ANCHOR = np.log([[0.5, 0.5], [0.25, 0.75]])
TEXTS = np.array([[1, 0], [0, 0], [0, 1]])
WRITTEN = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])


def by_text(logits):
  """The logits of each place of each text."""
  return jnp.broadcast_to(jnp.asarray(logits), (3, 2, 2))


def nats(logits):
  """Log-probs of the tokens of each text."""
  return losses.token_log_probs(
    by_text(logits), jnp.asarray(TEXTS), jnp.asarray(WRITTEN)
  )


@jax.jit
def chances(logits=PROBABILITIES):
  """Of each text."""
  return jnp.exp(losses.sequence_sum(nats(logits), jnp.asarray(WRITTEN)))


@jax.jit
def token_kl(policy=PROBABILITIES, reference=ANCHOR):
  return estimators.token_kl(by_text(policy), by_text(reference))


@jax.jit
def exact(*policies, mask=WRITTEN):
  """The exact estimate of each text."""
  return estimators.sequence_kl(token_kl(*policies), jnp.asarray(mask))


@jax.jit
def log_ratios():
  return losses.log_ratio(
    nats(PROBABILITIES), nats(ANCHOR), jnp.asarray(WRITTEN)
  )


@functools.partial(jax.jit, static_argnums=0)
def by_token(estimate):
  """Of each text, the sum of an estimate of its tokens."""
  each = estimate(nats(PROBABILITIES) - nats(ANCHOR))
  return losses.sequence_sum(each, jnp.asarray(WRITTEN))


def mean(values, logits=PROBABILITIES):
  return np.average(values, weights=chances(logits))


def variance(values):
  return np.cov(values, ddof=0, aweights=chances())


# 1200 wins, 48 ties and 800 losses.
FIRST = np.repeat([0.8, 0.5, 0.2], [1200, 48, 800])
SECOND = np.full(2048, 0.5)


def interval(wins):
  return estimators.win_rate_interval(wins, np.random.default_rng(0))


def paired():
  moves = np.array([1, 0.5, 0, -0.5, 1, 0, 0, 0.5, -1, 1.0])
  return estimators.paired_difference(moves, np.zeros(10))


@functools.cache
def kl_of_best(n):
  scores = np.arange(64.0)[None]
  return limits.best_of(scores, scores, (n,)).kl[0]


def curve(form, distance, beta):
  return estimators.overoptimisation(form, np.array([distance]), 0.5, beta)


def relative_to_pair():
  ratio = losses.log_ratio(
    *(arrays(x).chosen for x in (POLICY, REFERENCE, MASK))
  )
  return estimators.relative_log_prob(np.asarray(ratio))


RATES = np.array([0.1, 0.2, 0.3, 0.4, 0.5])

CALLS = {
  **parts('kl.', ('step1', 'step2'), lambda: token_kl()[0]),
  'kl.seq': lambda: mean(exact()),
  'kl.reverse': lambda: mean(exact(ANCHOR, PROBABILITIES), ANCHOR),
  'kl.no_first': lambda: mean(exact(mask=WRITTEN * [0, 1])),
  'kl.k1_aa': lambda: estimators.k1(log_ratios())[1],
  'kl.k2_aa': lambda: estimators.k2(log_ratios())[1],
  'kl.k3_aa': lambda: estimators.k3(log_ratios())[1],
  'kl.k3_tok_aa': lambda: by_token(estimators.k3)[1],
  'kl.rb_aa': lambda: exact()[1],
  'kl.k1_E': lambda: estimators.k1(log_ratios())[0],
  'kl.k2_mean': lambda: mean(estimators.k2(log_ratios())),
  'kl.var_k1': lambda: variance(estimators.k1(log_ratios())),
  'kl.var_rb': lambda: variance(exact()),
  'wr.p': lambda: estimators.win_rate(FIRST, SECOND),
  **parts(
    'wr.',
    ('lo', 'hi'),
    lambda: interval(estimators.sign_rule_wins(FIRST, SECOND)),
  ),
  **parts('wr.zero_', ('lo', 'hi'), lambda: interval(np.zeros(20))),
  **parts('paired.', ('mean', 'se'), paired),
  'mcnemar': lambda: estimators.mcnemar(12, 4),
  'clf.acc': lambda: estimators.classification_accuracy(
    np.array([1.0, -1.0, 2.0, 0.0])
  ),
  'rel_logp_w': relative_to_pair,
  **{f'bon.kl{n}': functools.partial(kl_of_best, n) for n in (1, 2, 4, 16, 64)},
  'bon.discrete2': lambda: best_of_n.kl(
    np.repeat([[1, 2, 3]], (2, 3, 5), axis=1), (2,)
  ),
  # Worth of the four from the best by the proxy to the worst.
  'bon.unbiased': lambda: (
    peaks.chances_of_best(4, 2) @ np.array([0.9, 0.3, 0.4, 0.1])
  ),
  'gao.d16': lambda: np.sqrt(kl_of_best(16)),
  'gao.bon16': lambda: curve(BEST_OF_N, np.sqrt(kl_of_best(16)), 0.05),
  **parts(
    'gao.bon_peak_', ('d', 'R'), lambda: BEST_OF_N.peak(np.array(0.5), 0.05)
  ),
  'gao.rl_d3': lambda: curve(LEARNT, 3.0, 0.1),
  **parts('gao.rl_peak_', ('d', 'R'), lambda: LEARNT.peak(np.array(0.5), 0.1)),
  'fig11.q90': lambda: estimators.quantile_peak(RATES),
  'fig11.rel': lambda: 0.30 / estimators.quantile_peak(RATES),
  'recover.rho': lambda: estimators.recovered_share(
    np.array([0.15, 0.18, 0.40])
  ),
}
