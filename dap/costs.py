"""Layer 4. What a training costs before it runs: parameters, memory, time.

Memory is what XLA's own analysis says of the compiled update; time comes from
the matmul operations of the step and the rate that this device reaches.
"""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dap import steps
from dap.models.policy import Policy
from dap.models.t5 import T5Config
from dap.records import Pair, PreferenceBatch, Prompts

# Share of the matmul rate that whole steps reach, measured by
# benchmarks/step.py on its small workload; large models reach more.
_UTILISATION = 0.5
_OVERHEAD = 0.002  # seconds a step beside its operations: dispatch, batches


class Operations(NamedTuple):
  """Matmul operations (2 a multiply-add) of one forward pass, padded lengths.

  `encoder` is of one prompt, `cross` of its cross-attention keys and values,
  `decoder` and `head` of one response.
  """

  encoder: float
  cross: float
  decoder: float
  head: float


def operations(
  config: T5Config, prompt_length: int, response_length: int
) -> Operations:
  """Counts of a T5; gated or not, attention included."""
  inner, d = config.num_heads * config.head_dim, config.emb_dim
  mlp = (len(config.mlp_activations) + 1) * d * config.mlp_dim
  p, r = prompt_length, response_length
  encoder = 2 * p * (4 * d * inner + mlp) + 4 * p * p * inner
  decoder = 2 * r * (6 * d * inner + mlp) + 4 * r * (r + p) * inner
  return Operations(
    config.num_encoder_layers * encoder,
    config.num_decoder_layers * 2 * p * 2 * d * inner,
    config.num_decoder_layers * decoder,
    2 * r * d * config.vocab_size,
  )


def step_operations(
  run: Any, prompt_length: int, response_length: int
) -> float:
  """Matmul operations of one step of a `train.Run`, its rollout included."""
  model = run.model
  one = operations(model.config, prompt_length, response_length)
  shared = one.encoder + one.cross
  head = one.head if isinstance(model, Policy) else 0.0  # none in a judge
  forward = shared + 2 * (one.decoder + head)
  total = 3 * forward
  if run.algorithm.samples:
    judge = operations(
      run.algorithm.annotator.model.config, prompt_length, response_length
    )
    total += forward  # sampling, whose encoder the update cannot reuse
    total += forward  # the reference's log-probs
    total += judge.encoder + judge.cross + 2 * judge.decoder
  return run.batch_size * total


def num_parameters(model: Any) -> int:
  """Numbers in the model's parameters."""
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def abstract_batch(
  batch_size: int, prompt_length: int, response_length: int
) -> PreferenceBatch:
  """Shapes of a batch, for lowering without data."""

  def of(dtype, *shape):
    return jax.ShapeDtypeStruct((batch_size, *shape), dtype)

  tokens = of(jnp.int32, response_length)
  numbers = of(jnp.float32, response_length)
  return PreferenceBatch(
    Prompts(of(jnp.int32), of(jnp.int32, prompt_length)),
    Pair(tokens, tokens),
    Pair(numbers, numbers),
    Pair(numbers, numbers),
    of(jnp.float32),
  )


def compiled_update(
  run: Any, mesh: Any, prompt_length: int, response_length: int
) -> Any:
  """The compiled update program, from shapes alone; once for runs of a grid."""
  return _compiled(
    run.objective,
    run.optimizer,
    mesh,
    run.num_microbatches,
    tuple(run.scalars(0)),
    (run.batch_size, prompt_length, response_length),
  )


@functools.cache
def _compiled(
  objective: Any,
  optimizer: Any,
  mesh: Any,
  num_microbatches: int,
  scalars: tuple[str, ...],
  sizes: tuple[int, int, int],
) -> Any:
  program: Any = steps.update_program(
    objective, optimizer, mesh, num_microbatches
  )
  state = jax.eval_shape(
    lambda key: steps.new_state(objective.model.init(key), optimizer),
    jax.random.key(0),
  )
  numbers = dict.fromkeys(scalars, np.float32(1))
  return program.lower(state, abstract_batch(*sizes), numbers).compile()


def memory(compiled: Any) -> int | None:
  """Bytes that XLA says the program needs on each device; None if it is silent.

  Arguments, results that are no argument's memory, and temporary buffers.
  """
  analysis = compiled.memory_analysis()
  if analysis is None:
    return None
  return int(
    analysis.argument_size_in_bytes
    + analysis.output_size_in_bytes
    - analysis.alias_size_in_bytes
    + analysis.temp_size_in_bytes
  )


def matmul_rate(size: int = 512) -> float:
  """Matmul operations a second of the default device in float32, measured."""
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(jnp.matmul)
  product(x, x).block_until_ready()
  best = float('inf')
  for _ in range(5):
    start = time.perf_counter()
    product(x, x).block_until_ready()
    best = min(best, time.perf_counter() - start)
  return 2 * size**3 / best


def seconds(
  run: Any, prompt_length: int, response_length: int, rate: float
) -> float:
  """Expected time of a run on a device of that matmul rate, an estimate."""
  work = step_operations(run, prompt_length, response_length)
  return run.num_steps * (work / (_UTILISATION * rate) + _OVERHEAD)
