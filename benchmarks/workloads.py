"""What benchmarks/step.py measures: sizes, lengths, operations."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np


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


class Forward(NamedTuple):
  """Matmul operations (2 a multiply-add) of one forward, each [batch].

  A prompt is encoded once for all its responses.
  """

  encoder: np.ndarray
  cross: np.ndarray  # keys and values of the prompt
  decoder: np.ndarray
  head: np.ndarray

  @property
  def policy(self) -> float:
    """Of log-probs, or of sampling."""
    return float(sum(part.sum() for part in self))

  @property
  def judge(self) -> float:
    """Of a model of the same size that gives a score."""
    return float(sum(part.sum() for part in self[:3]))

  @property
  def prompts(self) -> float:
    """Of what depends on prompts alone."""
    return float(self.encoder.sum() + self.cross.sum())

  @property
  def step(self) -> float:
    """Of sampling, scores, reference log-probs and an update.

    A gradient costs two forwards; the policy's encoder is counted once for
    sampling and training together.
    """
    return self.policy + self.judge + 4 * self.policy - self.prompts


def forward(w: Workload, prompt, response) -> Forward:
  """One forward over the whole batch.

  Args:
    w: sizes.
    prompt: lengths of prompts, [batch].
    response: lengths of responses, [batch, n].
  """
  joined = w.heads * w.head_dim
  gated = 3 * w.emb * w.mlp
  decoder = w.layers * (
    2 * response * (6 * w.emb * joined + gated)
    + 4 * response * (response + prompt[:, None]) * joined
  )
  return Forward(
    w.layers
    * (
      2 * prompt * (4 * w.emb * joined + gated) + 4 * prompt * prompt * joined
    ),
    w.layers * 2 * prompt * 2 * w.emb * joined,
    decoder.sum(axis=1),
    (2 * response * w.emb * w.vocab).sum(axis=1),
  )


def least_operations(w: Workload, prompt, response) -> dict[str, float]:
  """Matmul operations of an offline update, of samples, of an online step.

  Offline reads reference log-probs from a cache. Arguments as of `forward`.
  """
  one = forward(w, prompt, response)
  return {'offline': 3 * one.policy, 'sample': one.policy, 'online': one.step}


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
