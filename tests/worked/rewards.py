"""Policy gradients, reward models, likelihood and schedules (2.16 to 2.27)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from jax.scipy.special import logit
from worked.inputs import parts

from dap import losses, optimizers
from dap.algorithms import controls, refresh, signals
from dap.annotators import labels
from dap.losses import reinforce
from dap.models import joined
from dap.records import Batch, Pair, Prompts, Responses, Role, RoleParams

# The worked response: three tokens; the fourth place is padding with junk.
BEHAVIOUR = (-0.5, -1.0, -0.3, -9.9)
REFERENCE = (-0.7, -1.1, -0.5, -4.4)
VALUES = (0.1, 0.2, 0.3, 7.7)
MASK = (1.0, 1.0, 1.0, 0.0)
NEW = (-0.4, -1.3, -0.3, -1.1)
NEW_VALUES = (0.5, 0.2, 0.0, 3.3)


def batch_of(mask, scores, **columns):
  """A batch of one response to a prompt."""
  count = len(scores)
  mask = jnp.asarray(mask)
  return Batch(
    Prompts(jnp.arange(count), jnp.ones((count, 1), int)),
    Responses(mask.astype(int), mask, mask),
    jnp.asarray(scores),
    jnp.ones(count),
    {name: jnp.asarray(column) for name, column in columns.items()},
  )


@functools.partial(jax.jit, static_argnames='decay')
def columns(decay=0.95):
  """Everything that PPO reads, each signal from those before it."""
  batch = batch_of(
    [[MASK]],
    [[1.0]],
    behaviour=[[BEHAVIOUR]],
    reference=[[REFERENCE]],
    values_before=[[VALUES]],
  )
  for signal in (
    signals.TokenRewards(kl_weight=0.05),
    signals.Gae(discount=1.0, decay=decay),
    signals.Returns(),
    signals.Whitened(),
  ):
    found = signal(tiny.POLICY, RoleParams(None), batch)
    batch = batch._replace(columns={**batch.columns, signal.name: found})
  return {name: column[:, 0] for name, column in batch.columns.items()}


def column(name, **numbers):
  return lambda: columns(**numbers)[name][0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def ppo(policy, values):
  """The loss a token, and metrics."""
  given = columns()
  names = 'behaviour', 'values_before', 'advantages', 'returns'
  arrays = (jnp.array([x]) for x in (policy, values))
  clips = {'clip': 0.2, 'value_clip': 0.2, 'value_weight': 0.1}
  loss, metrics = losses.ppo_loss(
    *arrays, *(given[name] for name in names), jnp.array([MASK]), **clips
  )
  return {**metrics, 'total': loss / 3}


@jax.jit
def ratios():
  """What the surrogate of an advantage of -1 is, token by token, unclipped."""
  policy, before = (jnp.array([x[:3]]).T for x in (NEW, BEHAVIOUR))
  zeros, ones = jnp.zeros((3, 1)), jnp.ones((3, 1))
  given = policy, zeros, before, zeros, -ones, zeros, ones
  return losses.ppo_loss(*given, clip=9.0, value_clip=1.0, value_weight=0.0)[0]


@jax.jit
def adapted():
  """The KL weight after 512 responses at 9 nats from the reference."""
  rows = np.ones((512, 1, 1))
  batch = batch_of(rows, rows[..., 0], behaviour=9 * rows, reference=0 * rows)
  control = controls.AdaptiveKl(initial=0.15, target=6.0, horizon=1e4)
  return control(control.start(), batch)['kl_weight']


SCORES = [1.0, 0.2, 0.6]
NATS = [[-1.8], [-2.0], [-1.5]]


@jax.jit
def of_reinforce():
  ones = jnp.ones((3, 1))
  given = jnp.array(NATS), 0.5 * ones, jnp.array(SCORES)[:, None], ones
  _, metrics = reinforce.reinforce_value_loss(*given, value_weight=1.0)
  return [metrics[name].mean() for name in ('policy_loss', 'value_loss')]


@jax.jit
def of_rloo():
  found = losses.leave_one_out_advantages(jnp.array([SCORES]))[0]
  each = losses.reinforce_loss(jnp.array(NATS), found, jnp.ones((3, 1)))
  return *found, each.mean()


def bradley_terry(margin):
  return lambda: losses.bradley_terry_loss(
    jnp.array([1.2]), jnp.array([0.7]), margin=margin
  )


def of_both_orders(function):
  """Of the answers of a preference model: .8, and .35 when the other leads."""
  return lambda: function(jnp.array([0.8]), jnp.array([0.35]))


def supervised():
  """Means over tokens and over responses, and of sums."""
  nats = -jnp.array([[0.5, 1.0, 0.3], [1.2, 0.8, 7.7]])
  mask = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
  means = losses.mean_supervised_loss(nats, mask)
  weights = losses.token_weight(mask), losses.sequence_weight(mask)
  return [
    *(np.average(means, weights=weight) for weight in weights),
    losses.supervised_loss(nats, mask).mean(),
  ]


@jax.jit
def of_two_reward_models():
  """A prompt about safety, a response that is unsafe, and two that are not."""
  safe = logit(jnp.array([[0.9], [0.10], [0.5], [0.15]]))
  helpful = logit(jnp.array([[0.2], [0.8], [0.8], [0.6]]))
  about_safety = jnp.array([True, False, False, False])
  return joined.helpful_unless_unsafe(jnp.stack([helpful, safe]), about_safety)


@jax.jit
def less_the_kl():
  """The first of these rewards at 12 nats from the reference."""
  nats, one = jnp.zeros((1, 1)), jnp.ones((1, 1))
  score = of_two_reward_models()[0]
  return losses.token_rewards(nats, nats - 12, one, score, kl_weight=0.01)


def rate_at(step):
  schedule = optimizers.Cosine(10_000, warmup_steps=2000, floor=0.1)
  return lambda: schedule(step)


def moved(role, policy=5.0):
  """A role after one more update of its moving average."""
  return refresh.Ema(0.001)(1, Role(role, 0), jnp.float32(policy)).params


def updates_to_halve():
  role, count = jnp.float32(1.0), 0
  while role > 0.5:
    role, count = moved(role, policy=0.0), count + 1
  return count


CALLS = {
  'ppo.adaptive_kl': adapted,
  **parts('ppo.r', range(3), column('token_rewards')),
  **parts('ppo.adv', range(3), column('gae')),
  **parts('ppo.ret', range(3), column('returns')),
  'ppo.adv0_lam1': lambda: columns(decay=1.0)['gae'][0, 0],
  **parts('ppo.white', range(3), column('advantages')),
  **parts('ppo.ratio', range(3), ratios),
  'ppo.pg': lambda: ppo(NEW, NEW_VALUES)['policy_loss'],
  'ppo.clipfrac': lambda: ppo(NEW, NEW_VALUES)['clip_fraction'],
  'ppo.pg_epoch1': lambda: ppo(BEHAVIOUR, VALUES)['policy_loss'],
  'ppo.vf': lambda: ppo(NEW, NEW_VALUES)['value_loss'],
  'ppo.total': lambda: ppo(NEW, NEW_VALUES)['total'],
  **parts('reinforce.', ('pg', 'vf'), of_reinforce),
  **parts('rloo.', ('a0', 'a1', 'a2', 'loss'), of_rloo),
  'bt': bradley_terry(0.0),
  'bt.margin_third': bradley_terry(1 / 3),
  'bt.margin_3': bradley_terry(3.0),
  'pm.loss': of_both_orders(
    lambda *both: losses.pairwise_preference_loss(Pair(*map(logit, both)))
  ),
  'pm.sym_prob': of_both_orders(labels.mean_probability),
  'pm.sym_logit': of_both_orders(labels.mean_log_odds_probability),
  **parts('sft.', ('token_mean', 'seq_mean', 'seq_sum'), supervised),
  'rlaif.soft_rm': lambda: losses.soft_preference_loss(
    Pair(jnp.array([0.5]), jnp.array([-0.5])),
    Pair(jnp.array([0.659179]), jnp.array([1 - 0.659179])),
  ),
  **parts('llama2.w', range(4), of_two_reward_models),
  'llama2.R0': less_the_kl,
  'sched.warm': rate_at(500),
  'sched.quarter': rate_at(4000),
  'sched.mid': rate_at(6000),
  'sched.end': rate_at(10_000),
  'ema.step': lambda: moved(jnp.float32(2.0)),
  'ema.halflife_steps': updates_to_halve,
}
