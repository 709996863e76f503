"""Layer 5. What a training costs before it runs: parameters, memory, time.

Memory is what XLA's own analysis says of the compiled update; time comes from
the matmul operations of the step and the rate that this device reaches, or
that a `Device` is said to have.
"""

import dataclasses
import functools
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dap import errors, optimizers
from dap.algorithms.algorithm import Algorithm
from dap.algorithms.samplers import FromDataset
from dap.models.heads import JointPreferenceModel
from dap.models.policy import Policy
from dap.models.t5 import T5Config
from dap.records import Pair, PreferenceBatch, Prompts
from dap.training import steps

# Share of the matmul rate that whole steps reach, measured by
# benchmarks/step.py on its small workload; large models reach more.
UTILISATION = 0.5
OVERHEAD = 0.002  # seconds a step beside its operations: dispatch, batches


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


def pair_operations(
  model: Any, prompt_length: int, response_length: int
) -> float:
  """Matmul operations of reading a prompt and two responses to it.

  A policy scores both; a preference model says which is preferred, in both
  orders.
  """
  if isinstance(model, JointPreferenceModel):
    one = operations(model.config, model.context_length, 1)
    return 2 * sum(one)
  one = operations(model.config, prompt_length, response_length)
  head = one.head if isinstance(model, Policy) else 0.0  # none in a judge
  return one.encoder + one.cross + 2 * (one.decoder + head)


def answer_operations(
  model: Any, prompt_length: int, response_length: int
) -> float:
  """Matmul operations of writing or scoring one response to a prompt."""
  return sum(operations(model.config, prompt_length, response_length))


def step_operations(
  run: Any, prompt_length: int, response_length: int
) -> float:
  """Matmul operations of one step of a `train.Run`, its rollout included."""
  lengths = prompt_length, response_length
  forward = pair_operations(run.model, *lengths)
  total = 3 * forward
  if run.algorithm.samples:
    total += forward  # sampling, whose encoder the update cannot reuse
    total += forward  # the reference's log-probs
    total += pair_operations(run.algorithm.annotator.model, *lengths)
  return run.batch_size * total


def sampled_tokens(run: Any) -> int:
  """Tokens that a run draws if every response has the greatest length."""
  if not run.algorithm.samples:
    return 0
  sampler = run.algorithm.sampler
  each = sampler.num_samples * sampler.length
  return run.num_steps * run.batch_size * each


def program(run: Any) -> Any:
  """The run without what does not change its compiled programs.

  Runs with equal programs cost the same for each step.
  """
  loss = run.algorithm.loss
  scalars = tuple((name, 1.0) for name, _ in loss.scalars)
  algorithm = Algorithm(
    dataclasses.replace(loss, scalars=scalars),
    run.algorithm.sampler if run.algorithm.samples else FromDataset(),
    run.algorithm.annotator,
    run.algorithm.pairing,
  )
  return dataclasses.replace(
    run, algorithm=algorithm, learning_rate=1.0, num_steps=1,
    schedule=optimizers.Constant(), seed=0, save_steps=(), log_every=1,
  )  # fmt: skip


def num_parameters(model: Any) -> int:
  """Numbers in the model's parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(shapes(model)))


@functools.cache
def shapes(model: Any) -> Any:
  """The model's parameters as shapes."""
  return jax.eval_shape(model.init, jax.random.key(0))


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
  """The compiled update program, from shapes alone."""
  return lowered_update(run, mesh, prompt_length, response_length).compile()


def lowered_update(
  run: Any, mesh: Any, prompt_length: int, response_length: int
) -> Any:
  """The update program from shapes alone."""
  update: Any = steps.update_program(
    run.objective, run.optimizer, mesh, run.num_microbatches
  )
  state = jax.eval_shape(
    lambda key: steps.new_state(run.model.init(key), run.optimizer),
    jax.random.key(0),
  )
  batch = abstract_batch(run.batch_size, prompt_length, response_length)
  return update.lower(state, batch, run.scalars(0))


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
  """Matmul operations a second of the default device in float32, measured.

  On a CPU by its own time, which other processes change little: operations of
  a core, times the cores that this process has.
  """
  on_cpu = jax.default_backend() == 'cpu'
  clock = time.process_time if on_cpu else time.perf_counter
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(jnp.matmul)
  product(x, x).block_until_ready()
  best = float('inf')
  for _ in range(5):
    start = clock()
    product(x, x).block_until_ready()
    best = min(best, clock() - start)
  return (num_cores() if on_cpu else 1) * 2 * size**3 / best


def num_cores() -> int:
  """Cores that jax's programs use in this process, on a CPU."""
  return int(os.environ.get('NPROC') or len(os.sched_getaffinity(0)))


def seconds(
  run: Any, prompt_length: int, response_length: int, rate: float
) -> float:
  """Expected time of a run on a device of that matmul rate, an estimate."""
  work = step_operations(run, prompt_length, response_length)
  return run.num_steps * (work / (UTILISATION * rate) + OVERHEAD)


@dataclasses.dataclass(frozen=True)
class Device:
  """What an accelerator can do, and how much of that is expected of it.

  Attributes:
    name: for people.
    peak: matmul operations a second in the compute dtype.
    bandwidth: bytes a second from its memory.
    memory: bytes.
    utilisation: share of the peak that updates, judging and scoring reach.
    streaming: share of the bandwidth that drawing tokens reaches.
  """

  name: str
  peak: float
  bandwidth: float
  memory: float
  utilisation: float = 0.4
  streaming: float = 0.5

  def __post_init__(self):
    for field in ('peak', 'bandwidth', 'memory', 'utilisation', 'streaming'):
      if not getattr(self, field) > 0:
        raise errors.InputError(
          f'A device needs {field} > 0, got {getattr(self, field)}.'
        )

  @property
  def rate(self) -> float:
    """Matmul operations a second that are expected."""
    return self.utilisation * self.peak

  def step_seconds(
    self,
    run: Any,
    mesh_shape: tuple[int, int],
    prompt_length: int,
    response_length: int,
  ) -> float:
    """Expected time of a step of a `train.Run` on a mesh of such devices."""
    work = step_operations(run, prompt_length, response_length)
    seconds = work / (self.rate * mesh_shape[0] * mesh_shape[1])
    if run.algorithm.samples:
      read = decoding_bytes(run.model.config, prompt_length, response_length)
      samples = run.algorithm.sampler.num_samples
      seconds += self.drawing_seconds(read, run.batch_size, mesh_shape, samples)
    return seconds + OVERHEAD

  def drawing_seconds(
    self,
    read: 'Read',
    prompts: float,
    mesh_shape: tuple[int, int],
    samples: int = 1,
  ) -> float:
    """Time of drawing a batch of responses: memory bounds it, not arithmetic.

    Every data group reads all weights; the model axis splits all.
    """
    data, split = mesh_shape
    caches = prompts / data * (read.prompt + samples * read.response)
    rate = split * self.streaming * self.bandwidth
    return (read.weights + caches) / rate


class Read(NamedTuple):
  """Bytes that decoding a whole response reads.

  Attributes:
    weights: of the decoder and its head, once a token whatever the batch.
    prompt: keys and values of a prompt, which its responses share.
    response: keys and values of a response itself.
  """

  weights: float
  prompt: float
  response: float


def decoding_bytes(
  config: T5Config, prompt_length: int, response_length: int
) -> Read:
  """Of responses of the greatest length; each token reads the whole cache."""
  size = jnp.dtype(config.dtype).itemsize
  inner, d = config.num_heads * config.head_dim, config.emb_dim
  mlp = (len(config.mlp_activations) + 1) * d * config.mlp_dim
  layers = config.num_decoder_layers
  weights = size * layers * (6 * d * inner + mlp) + 4 * d * config.vocab_size
  cache = size * layers * 2 * inner  # of one token
  return Read(
    response_length * weights,
    response_length * prompt_length * cache,
    response_length**2 * cache,
  )
