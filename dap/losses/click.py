"""Layer 1. CLICK: a hinge on likelihoods beside language modelling.

Its files are this, its pairing, its gin part, its test and its experiment.
"""

import jax
from jaxtyping import Array, Float

from dap.losses.log_probs import sequence_mean, sequence_sum
from dap.losses.ranges import NonNegative, Positive

Tokens = Float[Array, 'batch n length']


def click_loss(
  policy: Tokens, mask: Tokens, *, margin: Positive, rank_weight: NonNegative
) -> tuple[Float[Array, ' batch'], dict[str, Float[Array, ' batch']]]:
  """Controllable generation with sequence likelihood contrast (CLICK).

  Cross-entropy of the data's response per token, plus rank_weight * max(0,
  margin + NLL(good) - NLL(bad)), each NLL summed over its tokens. No reference
  is read; at margins of 15 to 20 nats nearly every pair counts at first.

  Args:
    policy: log-probs of the tokens under the policy, nats; of each example a
      good sample, a bad one, and the data's response.
    mask: positive on response tokens, 0 on padding.
    margin: nats; the code's alpha, 15 or 20.
    rank_weight: the code's GAMMA, 0.1 to 0.5.

  Returns:
    The loss of each example in nats, and the metrics `rank_loss`,
    `language_loss` and `likelihood_gap`.

  Source: Zheng et al. 2023, https://arxiv.org/abs/2306.03350, and its code.
  """
  good, bad = (sequence_sum(policy[:, i], mask[:, i]) for i in range(2))
  gap = good - bad
  rank = jax.nn.relu(margin - gap)
  language = -sequence_mean(policy[:, 2], mask[:, 2])
  metrics = {
    'rank_loss': rank,
    'language_loss': language,
    'likelihood_gap': gap,
  }
  return language + rank * rank_weight, metrics
