"""Layer 1. Policy gradients: rewards of tokens, advantages, clipped losses.

Rows are responses, right-padded: `[..., length]`. Nothing here is averaged over
a batch but what whitening says.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from dap.losses.log_probs import sequence_mean, sequence_sum
from dap.losses.ranges import NonNegative, Positive

Tokens = Float[Array, '*rows length']


def token_rewards(
  behaviour: Tokens,
  reference: Tokens,
  mask: Tokens,
  scores: Float[Array, '*rows'],
  *,
  kl_weight: ScalarLike,
) -> Tokens:
  """Reward of each token: the KL penalty, and the score at the last one.

  Args:
    behaviour: log-probs of the tokens under the policy that wrote them, nats.
    reference: the same under the reference.
    mask: positive on response tokens, 0 on padding.
    scores: of whole responses, from a reward model.
    kl_weight: per nat, >= 0.

  Returns:
    -kl_weight * (behaviour - reference), with the score added to the last real
    token; 0 on padding.

  Source: Ouyang et al. 2022, eq. 2, https://arxiv.org/abs/2203.02155, by token
  as its implementations have it (spec 2.16).
  """
  there = mask > 0
  read = jnp.cumsum(there, axis=-1)
  last = there & (read == jnp.sum(there, axis=-1, keepdims=True))
  penalty = jnp.where(there, (reference - behaviour) * kl_weight, 0)
  return penalty + jnp.where(last, scores[..., None], 0)


def generalised_advantages(
  rewards: Tokens,
  values: Tokens,
  mask: Tokens,
  *,
  discount: ScalarLike,
  decay: ScalarLike,
) -> Tokens:
  """Generalised advantage estimation (GAE), backwards over the tokens.

  delta_t = r_t + discount * V_{t+1} - V_t and A_t = delta_t + discount * decay
  * A_{t+1}; V and A beyond the last token are 0. Returns are A + V.

  Args:
    rewards: of each token.
    values: expected return before each token.
    mask: positive on response tokens, 0 on padding.
    discount: gamma, in [0, 1].
    decay: lambda, in [0, 1].

  Source: Schulman et al. 2016, eqs. 11 to 16,
  https://arxiv.org/abs/1506.02438.
  """
  there = mask > 0
  values, rewards = (jnp.where(there, x, 0) for x in (values, rewards))
  after = jnp.concatenate(
    [values[..., 1:], jnp.zeros_like(values[..., :1])], -1
  )
  deltas = rewards + discount * after - values

  def back(later, delta):
    now = delta + discount * decay * later
    return now, now

  last = jnp.zeros_like(deltas[..., 0])
  steps = jnp.moveaxis(jnp.where(there, deltas, 0), -1, 0)
  _, found = jax.lax.scan(back, last, steps, reverse=True)
  return jnp.where(there, jnp.moveaxis(found, 0, -1), 0)


def whiten(values: Tokens, mask: Tokens) -> Tokens:
  """Mean 0 and variance 1 over all real tokens; 0 on padding.

  (x - mean) / sqrt(variance + 1e-8) with the unbiased variance, over the whole
  array: with it sharded, over the global batch.
  """
  there = mask > 0
  count = jnp.sum(there)
  mean = jnp.sum(jnp.where(there, values, 0)) / jnp.maximum(count, 1)
  centred = jnp.where(there, values - mean, 0)
  variance = jnp.sum(jnp.square(centred)) / jnp.maximum(count - 1, 1)
  return centred * jax.lax.rsqrt(variance + 1e-8)


def leave_one_out_advantages(
  rewards: Float[Array, 'batch n'],
) -> Float[Array, 'batch n']:
  """Each reward less the mean of the others of its prompt; sums to 0.

  Source: Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE; RLOO of
  Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740.
  """
  n = rewards.shape[1]
  others = jnp.sum(rewards, axis=1, keepdims=True) - rewards
  return rewards - others / (n - 1)


def reinforce_loss(
  policy: Float[Array, 'rows length'],
  advantages: Float[Array, ' rows'],
  mask: Float[Array, 'rows length'],
) -> Float[Array, ' rows']:
  """REINFORCE: -advantage * log-probability of the response, in nats.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    advantages: of whole responses, held constant.
    mask: positive on response tokens, 0 on padding.

  Source: Williams 1992; with `leave_one_out_advantages` RLOO.
  """
  return -jax.lax.stop_gradient(advantages) * sequence_sum(policy, mask)


def ppo_loss(
  policy: Float[Array, 'rows length'],
  values: Float[Array, 'rows length'],
  behaviour: Float[Array, 'rows length'],
  values_before: Float[Array, 'rows length'],
  advantages: Float[Array, 'rows length'],
  returns: Float[Array, 'rows length'],
  mask: Float[Array, 'rows length'],
  *,
  clip: Positive,
  value_clip: Positive,
  value_weight: NonNegative,
) -> tuple[Float[Array, ' rows'], dict[str, Float[Array, ' rows']]]:
  """PPO: clipped surrogate and clipped value loss, summed over tokens.

  max(-A ratio, -A clip(ratio)) + value_weight / 2 * max((V - R)^2, (V_clipped -
  R)^2) of each token, with ratio = exp(policy - behaviour) and V_clipped within
  value_clip of the value before. A step that averages over tokens
  (`views.responses_by_token`) makes the means of the sources of it.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    values: of the critic, expected return before each token.
    behaviour: log-probs under the policy that wrote the responses.
    values_before: of the critic at that time.
    advantages: of each token, held constant.
    returns: of each token, held constant.
    mask: positive on response tokens, 0 on padding.
    clip: of the ratio, from 1.
    value_clip: of the value, from the value before.
    value_weight: of the value loss.

  Returns:
    The loss, and metrics, which are means over the tokens of each response:
    `policy_loss`, `value_loss`, `clip_fraction` (tokens whose ratio is beyond
    `clip`) and `behaviour_kl` (ratio - 1 - log ratio, from the policy that
    wrote the response, nats).

  Source: Schulman et al. 2017, eqs. 7 and 9, https://arxiv.org/abs/1707.06347;
  value clipping of its implementation, github.com/openai/baselines.
  """
  there = mask > 0
  log_ratio = jnp.where(there, policy - behaviour, 0)
  ratio = jnp.exp(log_ratio)
  near = jnp.clip(ratio, 1 - clip, 1 + clip)
  surrogate = jnp.maximum(-advantages * ratio, -advantages * near)
  moved = jnp.clip(values - values_before, -1 * value_clip, value_clip)
  misses = (values - returns, values_before + moved - returns)
  misses = (jnp.square(jnp.where(there, miss, 0)) for miss in misses)
  error = 0.5 * jnp.maximum(*misses)
  beyond = (jnp.abs(ratio - 1) > clip).astype(ratio.dtype)
  metrics = {
    'policy_loss': sequence_mean(surrogate, mask),
    'value_loss': sequence_mean(error, mask),
    'clip_fraction': sequence_mean(beyond, mask),
    'behaviour_kl': sequence_mean(ratio - 1 - log_ratio, mask),
  }
  total = surrogate + value_weight * error
  return sequence_sum(total, mask), metrics
