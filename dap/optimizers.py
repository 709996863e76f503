"""Layer 2. Optimizers and schedules as values; the learning rate is traced.

An optimizer is a frozen value, so compiled programs can be cached by it. Its
transformation leaves out the learning rate: the step multiplies by it, so one
compilation serves a whole grid of rates.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import optax

from dap import errors


@runtime_checkable
class Optimizer(Protocol):
  """A value with a gradient transformation that knows no learning rate."""

  def transformation(self) -> optax.GradientTransformation:
    """Gradients to descent directions, before the learning rate."""
    ...


@dataclasses.dataclass(frozen=True)
class AdamW:
  """Adam with decoupled weight decay and clipping by global norm.

  `clip_norm` is the largest global norm of a gradient, infinity for none.
  `weight_decay` applies to arrays of two and more axes only (kernels, not
  scales). Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101.
  """

  b1: float = 0.9
  b2: float = 0.98
  eps: float = 1e-8
  weight_decay: float = 0.0
  clip_norm: float = 1.0

  def __post_init__(self):
    if not self.clip_norm > 0:
      raise errors.InputError(
        f'AdamW needs clip_norm > 0, got {self.clip_norm}.'
        ' To train without clipping, bind it to inf.'
      )

  def transformation(self) -> optax.GradientTransformation:
    """Clip, scale by Adam, decay: everything but the learning rate."""
    parts = []
    if math.isfinite(self.clip_norm):
      parts.append(optax.clip_by_global_norm(self.clip_norm))
    parts.append(optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps))
    if self.weight_decay:
      parts.append(optax.add_decayed_weights(self.weight_decay, mask=_kernels))
    return optax.chain(*parts)


def _kernels(params):
  import jax

  return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


@dataclasses.dataclass(frozen=True)
class Adafactor:
  """Adafactor as T5 uses it: factored second moments, relative to none.

  Source: Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235; the decay
  of T5X's default, 0.8.
  """

  decay_rate: float = 0.8
  min_dim_size_to_factor: int = 128
  clipping_threshold: float = 1.0

  def transformation(self) -> optax.GradientTransformation:
    """Factored scaling and block clipping, without a learning rate."""
    return optax.chain(
      optax.scale_by_factored_rms(
        decay_rate=self.decay_rate,
        min_dim_size_to_factor=self.min_dim_size_to_factor,
      ),
      optax.clip_by_block_rms(self.clipping_threshold),
    )


# A schedule maps the number of finished updates to a multiple of the peak.
Schedule = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class Constant:
  """1 after a linear warm-up; the first update already has a rate above 0."""

  warmup_steps: int = 0

  def __call__(self, step: int) -> float:
    return min(1.0, (step + 1) / (self.warmup_steps + 1))


@dataclasses.dataclass(frozen=True)
class Cosine:
  """Linear warm-up, then a half cosine down to `floor` at `num_steps`.

  Source: `LL2` sec. 3.1 (Llama 2, https://arxiv.org/abs/2307.09288), whose
  floor is 0.1. Steps are counted from 0, so update `t` uses `schedule(t)`,
  shifted by one within the warm-up: no update has rate 0.
  """

  num_steps: int
  warmup_steps: int = 0
  floor: float = 0.0

  def __post_init__(self):
    if self.warmup_steps > self.num_steps:
      raise errors.InputError(
        f'Cosine needs warmup_steps <= num_steps, got {self.warmup_steps} and'
        f' {self.num_steps}: lower the first or train longer.'
      )

  def __call__(self, step: int) -> float:
    if step < self.warmup_steps:
      return (step + 1) / (self.warmup_steps + 1)
    span = max(1, self.num_steps - self.warmup_steps)
    done = min(1.0, (step - self.warmup_steps) / span)
    return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
