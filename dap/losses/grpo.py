"""Layer 1. Group-relative policy optimisation: a loss of all responses at once.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_mean
from dap.losses.ranges import NonNegative, Positive

Tokens = Float[Array, 'batch n length']


def normalised_scores(
  scores: Float[Array, 'batch n'],
) -> Float[Array, 'batch n']:
  """(score - mean) / (standard deviation + 1e-4) within each prompt.

  The deviation is the unbiased one, as implementations have it; equal scores
  give 0.
  """
  centred = scores - jnp.mean(scores, axis=1, keepdims=True)
  square = jnp.sum(jnp.square(centred), axis=1, keepdims=True)
  deviation = jnp.sqrt(square / (scores.shape[1] - 1))
  return centred / (deviation + 1e-4)


def grpo_loss(
  policy: Tokens,
  behaviour: Tokens,
  reference: Tokens,
  scores: Float[Array, 'batch n'],
  mask: Tokens,
  *,
  clip: Positive,
  kl_weight: NonNegative,
) -> tuple[Float[Array, ' batch'], dict[str, Float[Array, ' batch']]]:
  """GRPO: PPO's clipped surrogate with a group's scores for advantages.

  -min(A ratio, A clip(ratio)) + kl_weight * (exp(d) - 1 - d) of each token,
  with ratio = exp(policy - behaviour), d = reference - policy and A the
  `normalised_scores`; the mean in each response, then over a prompt's
  responses.

  Args:
    policy: log-probs of the tokens under the policy, nats.
    behaviour: under the policy that wrote the responses.
    reference: under the reference.
    scores: of whole responses.
    mask: positive on response tokens, 0 on padding.
    clip: of the ratio, from 1.
    kl_weight: per nat and token.

  Returns:
    The loss of each prompt, and the metrics `policy_loss`, `reference_kl` (its
    estimate, nats per token), `clip_fraction` and `equal_scores` (prompts that
    teach nothing).

  Source: Shao et al. 2024, eqs. 3 and 4, https://arxiv.org/abs/2402.03300.
  """
  there = mask > 0
  advantages = jax.lax.stop_gradient(normalised_scores(scores))[..., None]
  ratio = jnp.exp(jnp.where(there, policy - behaviour, 0))
  near = jnp.clip(ratio, 1 - clip, 1 + clip)
  surrogate = -jnp.minimum(advantages * ratio, advantages * near)
  distance = jnp.where(there, reference - policy, 0)
  kl = jnp.exp(distance) - 1 - distance
  beyond = (jnp.abs(ratio - 1) > clip).astype(ratio.dtype)
  same = jnp.max(scores, axis=1) == jnp.min(scores, axis=1)
  metrics = {
    name: jnp.mean(sequence_mean(each, mask), axis=1)
    for name, each in (
      ('policy_loss', surrogate),
      ('reference_kl', kl),
      ('clip_fraction', beyond),
    )
  }
  loss = metrics['policy_loss'] + kl_weight * metrics['reference_kl']
  return loss, metrics | {'equal_scores': same.astype(scores.dtype)}
