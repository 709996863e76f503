"""Layer 1. Policy gradients: rewards of tokens, advantages, clipped losses.

Rows are responses, right-padded: `[..., length]`. Nothing here is averaged over
a batch but what whitening says.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from dap.losses.log_probs import sequence_sum
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
  position = jnp.arange(mask.shape[-1])
  last = there & (position == jnp.sum(there, -1, keepdims=True) - 1)
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
  there = (mask > 0).astype(values.dtype)
  count = jnp.sum(there)
  mean = jnp.sum(values * there) / jnp.maximum(count, 1)
  square = jnp.sum(jnp.square(values - mean) * there)
  variance = square / jnp.maximum(count - 1, 1)
  return (values - mean) * there * jax.lax.rsqrt(variance + 1e-8)


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
  (`views.Tokens`) makes the means of the sources of it.

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
    The loss, and the metrics `clip_fraction` (share of tokens whose ratio is
    beyond `clip`), `policy_loss` and `value_loss` (sums over tokens).

  Source: Schulman et al. 2017, eqs. 7 and 9, https://arxiv.org/abs/1707.06347;
  value clipping of its implementation, github.com/openai/baselines.
  """
  ratio = jnp.exp(jnp.where(mask > 0, policy - behaviour, 0))
  near = jnp.clip(ratio, 1 - clip, 1 + clip)
  surrogate = jnp.maximum(-advantages * ratio, -advantages * near)
  moved = jnp.clip(values - values_before, -1 * value_clip, value_clip)
  error = jnp.maximum(
    jnp.square(values - returns), jnp.square(values_before + moved - returns)
  )
  policy_loss = sequence_sum(surrogate, mask)
  value_loss = 0.5 * sequence_sum(error, mask)
  beyond = sequence_sum((jnp.abs(ratio - 1) > clip).astype(ratio.dtype), mask)
  tokens = jnp.maximum(jnp.sum(mask > 0, axis=-1), 1)
  metrics = {
    'policy_loss': policy_loss,
    'value_loss': value_loss,
    'clip_fraction': beyond / tokens,
  }
  return policy_loss + value_weight * value_loss, metrics
