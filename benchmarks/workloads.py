"""What benchmarks/step.py measures: sizes, lengths, operations."""

import dataclasses
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True)
class Workload:
  """Sizes of a model and of its batches of random tokens."""

  vocab: int
  emb: int
  heads: int
  head_dim: int
  mlp: int
  layers: int
  batch: int
  prompt: tuple[int, int]  # shortest and longest, tokens
  response: tuple[int, int]


WORKLOADS = {
  'mini': Workload(1024, 128, 4, 32, 256, 4, 32, (24, 64), (8, 32)),
  'base': Workload(32128, 768, 12, 64, 2048, 12, 32, (192, 512), (32, 128)),
  # As the embedded study: prompts of 37, responses of 14.5 in the mean.
  'embedded': Workload(140, 64, 2, 32, 96, 1, 32, (34, 40), (7, 22)),
  'tiny': Workload(64, 16, 2, 8, 32, 1, 4, (6, 16), (2, 8)),
}


def least_operations(w: Workload, prompt, response) -> dict[str, float]:
  """Matmul operations (2 a multiply-add) of one step over the whole batch.

  A prompt is encoded once for all that a model does with it; a gradient costs
  two forwards. Offline reads reference log-probs from a cache; online counts
  the policy's encoder once for sampling and training together.

  Args:
    w: sizes.
    prompt: lengths of prompts, [batch].
    response: lengths of responses, [batch, 2].
  """
  joined = w.heads * w.head_dim
  gated = 3 * w.emb * w.mlp
  encoder = w.layers * (
    2 * prompt * (4 * w.emb * joined + gated) + 4 * prompt * prompt * joined
  )
  cross = w.layers * 2 * prompt * 2 * w.emb * joined
  decoder = w.layers * (
    2 * response * (6 * w.emb * joined + gated)
    + 4 * response * (response + prompt[:, None]) * joined
  )
  head = 2 * response * w.emb * w.vocab
  forward = encoder + cross + (decoder + head).sum(axis=1)
  preference = encoder + cross + decoder.sum(axis=1)
  online = forward + preference + 4 * forward - encoder - cross
  each = {'offline': 3 * forward, 'sample': forward, 'online': online}
  return {name: float(rows.sum()) for name, rows in each.items()}


@dataclasses.dataclass(frozen=True)
class Cut:
  """A sampler whose responses end where they are told to."""

  sampler: Any
  lengths: tuple[tuple[int, ...], ...]
  num_data: ClassVar[int] = 0

  @property
  def num_samples(self) -> int:
    """Responses to each prompt."""
    return self.sampler.num_samples

  @property
  def length(self) -> int:
    """Of the longest."""
    return self.sampler.length

  def __call__(self, policy, behaviour, prompts, keys):
    """What was drawn, cut."""
    import jax.numpy as jnp

    drawn = self.sampler(policy, behaviour, prompts, keys)
    position = jnp.arange(self.length)[None, None]
    last = jnp.array(self.lengths)[:, :, None] - 1
    cut = type(drawn)(*(jnp.where(position <= last, x, 0) for x in drawn))
    return cut._replace(tokens=jnp.where(position == last, 1, cut.tokens))


def without_end(logits):
  """Logits with the end-of-sequence token forbidden: all rows work equally."""
  import jax
  import jax.numpy as jnp

  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
  return jnp.where(ids == 1, -jnp.inf, logits)
