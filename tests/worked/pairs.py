"""Losses of a pair (sections 0 to 2.5, 2.9 and 2.11), and of 2.28."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from worked.inputs import MASK, POLICY, REFERENCE, arrays, least, parts

from dap import losses
from dap.algorithms import signals
from dap.estimators import limits
from dap.losses import kto, orpo, simpo, slic
from dap.models.policy import Policy
from dap.records import Batch, Pair, Prompts, Responses, RoleParams


def on_pair(loss, **numbers):
  given = POLICY, REFERENCE, MASK
  return jax.jit(lambda: loss(*map(arrays, given), **numbers))


def at_reference(loss, **numbers):
  given = REFERENCE, REFERENCE, MASK
  return jax.jit(lambda: loss(*map(arrays, given), **numbers))


def alone(loss, **numbers):
  """Of a loss without reference."""
  return jax.jit(lambda: loss(arrays(POLICY), arrays(MASK), **numbers))


def metric(name, loss, **numbers):
  return lambda: alone(loss, **numbers)()[1][name]


def in_chosen(loss, **numbers):
  """The gradient in a token of the chosen response."""

  def total(policy):
    return loss(policy, arrays(REFERENCE), arrays(MASK), **numbers)[0]

  return jax.jit(lambda: jax.grad(total)(arrays(POLICY)).chosen[0, 0])


def of_one_token(loss, policy, reference, **numbers):
  """Of a pair of responses of one token, from their log-probs."""
  column = lambda nats: jnp.reshape(jnp.asarray(nats, float), (1, 1))
  pairs = (Pair(*map(column, x)) for x in (policy, reference, (1, 1)))
  return loss(*pairs, **numbers)[0]


def best_margin(loss, **numbers):
  """The margin at which the loss is least."""
  value = lambda x: of_one_token(loss, (x, 0.0), (0.0, 0.0), **numbers)
  return lambda: least(value, -10.0, 60.0)


def of_votes(*pairs, share):
  votes = jnp.array([share])
  return losses.soft_dpo_loss(*pairs, beta=0.1, chosen_probability=votes)


def of_table(chosen, rejected):
  """DPO where each of the two had half of the reference's mass."""
  nats = np.log([chosen, rejected]), np.log([0.5, 0.5])
  return jax.jit(lambda: of_one_token(losses.dpo_loss, *nats, beta=0.1))


# Three responses: how often each is drawn, and how often it wins.
BEHAVIOUR = np.repeat([0, 1, 2], [5, 3, 2])
WINS = np.array([[0.5, 0.8, 0.6], [0.2, 0.5, 0.6], [0.4, 0.4, 0.5]])
START = np.array([0.2, 0.5, 0.3])


def wins_over_behaviour():
  """What each wins, in the mean over who is drawn: no tilt."""
  wins = WINS[:, BEHAVIOUR]
  return limits.tilted(np.zeros_like(wins), wins, [0.0]).values[0]


@jax.jit
def learnt_of_all_pairs():
  """The policy that descent on IPO comes to, every pair by its chance."""
  first, second = (x.ravel() for x in np.mgrid[:3, :3])
  drawn = np.bincount(BEHAVIOUR) / len(BEHAVIOUR)
  weight = drawn[first] * drawn[second] * WINS[first, second]
  ones, start = jnp.ones((9, 1)), jnp.log(START)

  def total(logits):
    policy, reference = (
      Pair(x[first][:, None], x[second][:, None])
      for x in (jax.nn.log_softmax(start + logits), start)
    )
    each = losses.ipo_loss(policy, reference, Pair(ones, ones), beta=0.5)
    return jnp.sum(weight * each)

  move = lambda _, x: x - jax.grad(total)(x)
  return jax.nn.softmax(start + jax.lax.fori_loop(0, 1000, move, jnp.zeros(3)))


@jax.jit
def learnt_margin():
  """By how much more than at the start it prefers the first to the second."""
  policy = learnt_of_all_pairs()
  sides = [
    Pair(*jnp.log(jnp.asarray(x))[:2, None, None]) for x in (policy, START)
  ]
  one = jnp.ones((1, 1))
  return losses.log_ratio_margin(*sides, Pair(one, one))


CURVES = {
  'logistic': losses.logistic,
  'hinge': losses.hinge,
  'squared': losses.squared,
  'exponential': losses.exponential,
  'truncquad': losses.truncated_quadratic,
  'savage': losses.savage,
}


@functools.partial(jax.jit, static_argnums=0)
def of_curve(curve):
  return [*curve(jnp.array([0.0, 0.09, 1.5])), jax.grad(curve)(jnp.zeros(()))]


@jax.jit
def of_kto():
  """A wanted and an unwanted response of one token."""
  ratios = jnp.array([[0.5], [-0.4]])
  numbers = {'beta': 0.1, 'desirable_weight': 1.0, 'undesirable_weight': 1.0}
  wanted, anchors = jnp.array([1.0, 0.0]), jnp.full(2, 0.2)
  arrays = ratios, jnp.zeros((2, 1)), jnp.ones((2, 1))
  return kto.kto_loss(*arrays, wanted, anchors, **numbers)[0]


class Table(Policy):
  """Says the same of a token after every prompt."""

  def log_probs(self, params, prompts, responses):
    return params[responses]


@jax.jit
def anchor_of_kto():
  """Of three responses of one token, each read with another's prompt."""
  tokens, ones = jnp.arange(3)[:, None, None], jnp.ones((3, 1, 1))
  batch = Batch(
    Prompts(jnp.arange(3), jnp.ones((3, 1), int)),
    Responses(tokens, ones, ones),
    jnp.zeros((3, 1)),
    jnp.ones(3),
    {},
  )
  roles = RoleParams(jnp.array([-0.4, 0.6, -0.1]), reference=jnp.zeros(3))
  return signals.MismatchedRatio()(Table(tiny.T5), roles, batch)[0, 0]


@jax.jit
def sums_of_pair():
  """Log-probs and log-ratios of the chosen and the rejected response."""
  policy, reference, mask = map(arrays, (POLICY, REFERENCE, MASK))
  return [
    *map(losses.sequence_sum, policy, mask),
    *map(losses.log_ratio, policy, reference, mask),
  ]


SLIC = {'margin': 1.0, 'likelihood_weight': 0.1}
CALLS = {
  **parts('pair.', ('lw', 'll', 'hw', 'hl'), sums_of_pair),
  'pair.delta': on_pair(losses.log_ratio_margin),
  'pair.delta_mean': on_pair(losses.mean_log_ratio_margin),
  # Equation 1 as it is printed, (margin - beta / 2)^2, would pull the harder
  # to the reference the smaller beta is.
  'ipo.eq1_as_extracted': on_pair(losses.ipo_azar_loss, tau=0.1),
  'dpo': on_pair(losses.dpo_loss, beta=0.1),
  'dpo.at_ref': at_reference(losses.dpo_loss, beta=0.1),
  'dpo.grad_hw': in_chosen(losses.dpo_loss, beta=0.1),
  'cdpo': on_pair(losses.cdpo_loss, beta=0.1, label_smoothing=0.1),
  'cdpo.opt_delta': best_margin(
    losses.cdpo_loss, beta=0.1, label_smoothing=0.1
  ),
  'dpo.tabular_logit_gap': best_margin(of_votes, share=0.8),
  # Mass on a response that was never compared satisfies DPO.
  'xu.table1': of_table(0.1, 1e-6),
  'xu.table1_ref': of_table(0.5, 0.5),
  'ipoA': on_pair(losses.ipo_azar_loss, tau=0.1),
  'ipoB': on_pair(losses.ipo_loss, beta=0.1),
  'ipoC': on_pair(losses.ipo_gpo_one_loss, beta=0.2),
  'ipoA.at_ref': at_reference(losses.ipo_azar_loss, tau=0.1),
  'ipoB.at_ref': at_reference(losses.ipo_loss, beta=0.1),
  'ipoC.at_ref': at_reference(losses.ipo_gpo_one_loss, beta=0.2),
  'ipoB.grad_hw': in_chosen(losses.ipo_loss, beta=0.1),
  'ipoB.opt_delta': best_margin(losses.ipo_loss, beta=0.1),
  'ipoA.mean': on_pair(losses.ipo_azar_mean_loss, tau=0.1),
  **parts('ipo.pop.p', range(3), wins_over_behaviour),
  'ipo.pop.d01': learnt_margin,
  **parts('ipo.pop.pi', range(3), learnt_of_all_pairs),
  'hinge_norm': on_pair(losses.hinge_loss, beta=0.1),
  'hinge_raw.rso': alone(losses.likelihood_hinge_loss, beta=0.05),
  'slic.rank': metric('rank_loss', slic.slic_loss, **SLIC),
  'slic.total': lambda: alone(slic.slic_loss, **SLIC)()[0],
  # SPIN is DPO of data against samples, from the policy that wrote these.
  'spin.start': at_reference(losses.dpo_loss, beta=0.1),
  'spin': on_pair(losses.dpo_loss, beta=0.1),
  'bo2': alone(losses.best_of_two_loss),
  **parts('kto.', ('desirable', 'undesirable'), of_kto),
  'kto.z0_rolled': anchor_of_kto,
  'simpo': alone(simpo.simpo_loss, beta=2.0, margin=0.5),
  'orpo.odds': metric('log_odds_ratio', orpo.orpo_loss, odds_weight=0.1),
  'orpo.ratio': metric('odds_loss', orpo.orpo_loss, odds_weight=0.1),
  'orpo.total': lambda: alone(orpo.orpo_loss, odds_weight=0.1)()[0],
  'dpo.mean': on_pair(losses.dpo_mean_loss, beta=2.0),
}
for _name, _curve in CURVES.items():
  CALLS |= parts(
    f'gpo.{_name}.',
    ('z0', 'z009', 'z15', 'slope0'),
    functools.partial(of_curve, _curve),
  )
