"""Layer 1. PPO-ptx: PPO, and the likelihood of data beside it.

Its file, its gin part, its test and its experiment are all that there is of it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_sum
from dap.losses.policy_gradient import ppo_loss
from dap.losses.ranges import NonNegative, Positive

Tokens = Float[Array, 'rows length']


def ppo_ptx_loss(
  policy: Tokens,
  values: Tokens,
  behaviour: Tokens,
  values_before: Tokens,
  advantages: Tokens,
  returns: Tokens,
  sampled: Float[Array, ' rows'],
  mask: Tokens,
  *,
  clip: Positive,
  value_clip: Positive,
  value_weight: NonNegative,
  data_weight: NonNegative,
) -> tuple[Float[Array, ' rows'], dict[str, Float[Array, ' rows']]]:
  """`ppo_loss` of samples; data_weight * nats of responses of the data.

  Args:
    policy: see `ppo_loss`, as the next five.
    values: ...
    behaviour: ...
    values_before: ...
    advantages: ...
    returns: ...
    sampled: 1 for a response that the policy wrote, 0 for one of the data.
    mask: positive on response tokens, 0 on padding.
    clip: see `ppo_loss`, as the next two.
    value_clip: ...
    value_weight: ...
    data_weight: per nat of the data; InstructGPT's gamma.

  Returns:
    The loss, and the metrics of `ppo_loss`.

  Source: Ouyang et al. 2022, eq. 2, https://arxiv.org/abs/2203.02155, whose
  second term is over pre-training data.
  """
  loss, metrics = ppo_loss(
    policy, values, behaviour, values_before, advantages, returns, mask,
    clip=clip, value_clip=value_clip, value_weight=value_weight,
  )  # fmt: skip
  nats = -sequence_sum(policy, mask)
  return jnp.where(sampled > 0, loss, data_weight * nats), metrics
