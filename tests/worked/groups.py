"""Losses of a group, and what is kept of it (2.6 to 2.14, and 2.29)."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from worked import inputs
from worked.inputs import edge, parts

from dap import losses
from dap.algorithms import pairings, rejection, signals
from dap.estimators import limits
from dap.losses import click, cringe, grpo, log_probs, pro, rrhf
from dap.records import Pair, Responses


def group(sums, lengths):
  """Responses of these log-probs, equal at each token; junk on padding."""
  policy = np.full((1, len(sums), 4), -9.9)
  mask = np.zeros_like(policy)
  for row, (total, length) in enumerate(zip(sums, lengths, strict=True)):
    policy[0, row, :length] = total / length
    mask[0, row, :length] = 1
  return jnp.asarray(policy), jnp.asarray(mask)


@jax.jit
def of_rrhf():
  policy, mask = group((-2.4, -2.0, -1.8), (3, 4, 2))
  loss, metrics = rrhf.rrhf_loss(
    policy,
    jnp.array([[1.0, 0.2, 0.8]]),
    mask,
    length_power=1.0,
    rank_weight=1.0,
  )
  # Their code's likelihood is a mean over the padded row.
  likelihood = metrics['likelihood_loss']
  return metrics['rank_loss'], likelihood, loss, likelihood


@functools.partial(jax.jit, static_argnums=(0, 1))
def of_pro(scores=(2.0 / 0.6, 1.8 / 0.6, 0.2 / 0.6), sums=(-1.8, -1.32, -3.6)):
  """Three responses of 3, 2 and 4 tokens.

  What is ranked are means, -1, -1.1 and -1.5, and the best has -1.8 nats: no
  number of tokens does both, so the means are .6 of these. With scores over .6
  all products of means and gaps, which alone count, are the same.
  """
  policy, mask = group(sums, (3, 2, 4))
  loss, metrics = pro.pro_loss(
    policy, jnp.array([scores]), mask, likelihood_weight=0.05
  )
  return metrics['rank_loss'], loss


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def ranking(values, scores, *sharpness):
  values, scores = (jnp.asarray([x]) for x in (values, scores))
  there = jnp.ones(scores.shape, bool)
  return pro.ranking_loss(values, scores, there, *sharpness)


@jax.jit
def of_ranks():
  """The first of three against the others; the second against the third."""
  every = ranking((-1.0, -1.1, -1.5), (2.0, 1.8, 0.2))
  second = ranking((-1.1, -1.5), (1.8, 0.2))
  return every - second, second


@jax.jit
def of_click():
  policy, mask = group((-1.8, -2.0, -1.8), (3, 2, 3))
  loss, metrics = click.click_loss(policy, mask, margin=15.0, rank_weight=0.1)
  return metrics['rank_loss'], loss


def said(token, num_rivals):
  """Log-probs of a token and of its rivals."""
  nats = jax.nn.log_softmax(jnp.array([[2.0, 1.0, 0.5, -1.0]]))
  rivals = log_probs.rival_log_probs(nats, jnp.array([token]), num_rivals)
  return nats[:, token], rivals


def of_token(token, num_rivals):
  return jax.jit(
    lambda: cringe.rival_loss(*said(token, num_rivals), jnp.ones(1))
  )


@jax.jit
def chance_of_first_rival():
  """The pull on it where the token is sure: loss = token - chances @ rivals."""
  _, rivals = said(0, 2)
  loss = lambda x: cringe.rival_loss(jnp.full(1, 60.0), x, jnp.ones(1))[0]
  return -jax.grad(loss)(rivals)[0, 0]


@jax.jit
def of_cringe():
  """.6 nats of a wanted token; a rival stands 1 below each of the others."""
  policy, mask = group((-1.8, -0.9), (3, 2))
  wanted = jnp.array([[1.0, 0.0]])
  return cringe.cringe_loss(
    policy, policy[..., None] - 1, wanted, mask, rival_weight=1.0
  )[0]


@jax.jit
def of_pairwise_cringe():
  policy, mask = (inputs.arrays(x) for x in (inputs.POLICY, inputs.MASK))
  rivals = Pair(*(side[..., None] - 1 for side in policy))
  loss, metrics = cringe.pairwise_cringe_loss(
    policy,
    rivals,
    mask,
    gate_shift=-10.0,
    gate_temperature=10.0,
    rival_weight=0.005,
  )
  return metrics['gate'], loss


RAW = np.array([[-2.0, 0.0, 1.0, 3.0]])


def kept_above(share):
  """Which responses score above this share of the range of all scores."""
  threshold = np.interp(share, [0, 1], [RAW.min(), RAW.max()])
  ones = jnp.ones((1, 4, 1))
  given = Responses(jnp.ones((1, 4, 1), int), ones, ones)
  keys = jax.random.split(jax.random.key(0), 1)
  pairing = pairings.Above(float(threshold))
  return pairing(given, jnp.asarray(RAW), keys)[1][0]


REWARDS = np.array([1.0, 0.2, 0.8, 0.5])


@functools.cache
def acceptances():
  """The dice up to which each is taken while the best is there too."""

  @jax.jit
  def taken(dice, score):
    throw = lambda key, shape: jnp.full(shape, dice)
    with mock.patch.object(jax.random, 'uniform', throw):
      order, there = rejection.rejection_sample(
        jnp.stack([score, 1.0]),
        jnp.ones(2, bool),
        jax.random.key(0),
        num_kept=1,
        temperature=0.5,
      )
    return there[0] & (order[0] == 0)

  return [edge(functools.partial(taken, score=score)) for score in REWARDS]


def tilted():
  """Chances under exp(reward / .5) of responses that are drawn evenly."""
  twice = np.tile(REWARDS, (4, 2))  # a limit needs eight samples
  who = np.tile(np.eye(4), 2)
  return limits.tilted(twice, who, [1 / 0.5]).values[0]


SCORES = np.array([[1.0, 0.2, 0.6]])


@jax.jit
def of_grpo():
  """Surrogate of the first of three responses, the others without a token.

  The loss is a mean over the three.
  """
  mask = jnp.zeros((1, 3, 3)).at[:, 0].set(1)
  alike = lambda tokens: jnp.broadcast_to(jnp.asarray(tokens), (1, 3, 3))
  behaviour, distance = alike(-1.0), alike([-0.3, 0.1, 0.0])
  policy = behaviour + alike(np.log([1.105171, 0.740818, 1.0]))
  given = policy, behaviour, policy + distance, jnp.asarray(SCORES), mask
  metrics = grpo.grpo_loss(*given, clip=0.2, kl_weight=0.04)[1]
  return [3 * metrics[name] for name in ('policy_loss', 'reference_kl')]


CALLS = {
  **parts('rrhf.', ('rank', 'ft', 'total', 'ft_padded_code'), of_rrhf),
  # Equal scores leave the likelihood of the first, 1 nat, and its weight.
  'pro.sft_beta_l3': lambda: of_pro(scores=(1.0,) * 3, sums=(-1.0,) * 3)[1],
  **parts('pro.', ('k1', 'k2'), of_ranks),
  **parts('pro.', ('rank', 'total'), of_pro),
  'pro.plain': lambda: ranking((0, -0.4, -1.2), (3.0, 2.0, 1.0), pro.even),
  'pro.plain_reversed': lambda: ranking(
    (-1.2, -0.4, 0), (3.0, 2.0, 1.0), pro.even
  ),
  'pro.n2': lambda: ranking((-1.0, -1.5), (2.0, 0.2)),
  **parts('click.', ('cl', 'total'), of_click),
  'cringe.k1_neg0': of_token(0, 1),
  'cringe.k2_neg0': of_token(0, 2),
  'cringe.k2_q': chance_of_first_rival,
  'cringe.k1_neg2': of_token(2, 1),
  'cringe.total': of_cringe,
  **parts('pcringe.', ('gate', 'total'), of_pairwise_cringe),
  # Of the third response: the share of the range up to which it is kept.
  'rest.norm2': lambda: edge(lambda share: kept_above(share)[2]),
  'rest.kept_at_0.7': lambda: kept_above(0.7).sum(),
  'rest.kept_at_0.5': lambda: kept_above(0.5).sum(),
  # The score that a preference model learns of a response that wins .8.
  'rso.point_score': lambda: inputs.least(
    lambda x: losses.soft_preference_loss(
      Pair(x[None], -x[None]), Pair(jnp.array([0.8]), jnp.array([0.2]))
    )[0],
    -5.0,
    5.0,
  ),
  **parts('rso.acc', range(1, 4), lambda: acceptances()[1:]),
  'rso.mean_acc': lambda: np.mean(acceptances()),
  **parts('rso.target', range(4), tilted),
  **parts(
    'grpo.',
    ('a0', 'a1'),
    lambda: grpo.normalised_scores(jnp.asarray(SCORES))[0],
  ),
  # The population's deviation is that of a batch, not of a group.
  'grpo.a0_population': lambda: signals.whitened_scores(jnp.asarray(SCORES))[
    0, 0
  ],
  # Undivided is RLOO's, of (n - 1) / n of the scores.
  'grpo.a0_undivided': lambda: losses.leave_one_out_advantages(
    jnp.asarray(SCORES) * 2 / 3
  )[0, 0],
  **parts('grpo.', ('clipped', 'k3'), of_grpo),
}
