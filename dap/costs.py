"""Layer 5. What a training costs before it runs: parameters, memory, time.

Memory is what XLA's own analysis says of the compiled update; time comes from
the matmul operations of the step and the rate that this device reaches, or
that a `Device` is said to have.
"""

import dataclasses
import functools
import os
import time
from typing import NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dap import errors, optimizers, partitioning
from dap.algorithms.refresh import Current, Never, Schedule
from dap.algorithms.run import Run
from dap.algorithms.sources import FromDataset
from dap.models.protocols import LanguageModel, Parameters, Reader
from dap.records import Batch, Prompts, Responses
from dap.training import rollouts, steps

# Share of the matmul rate that whole steps reach, measured by
# benchmarks/step.py on its small workload; large models reach more.
UTILISATION = 0.5
OVERHEAD = 0.002  # seconds a step beside its operations: dispatch, batches


def group_operations(
  model: Reader, prompt_length: int, response_length: int, n: int
) -> float:
  """Matmul operations of reading a prompt and n responses to it."""
  pair = model.pair_operations(prompt_length, response_length)
  if n == 2:
    return pair
  one = model.language_model.operations(prompt_length, response_length)
  prompt = one.encoder + one.cross
  return prompt + n * (pair - prompt) / 2


def step_operations(
  run: Run, prompt_length: int, response_length: int
) -> float:
  """Matmul operations of one step of a `train.Run`, its rollout included."""
  algorithm, lengths = run.algorithm, (prompt_length, response_length)
  sampler = algorithm.sampler
  k, m = rollouts.group_shape(sampler, algorithm.pairing)
  group = group_operations(run.model, *lengths, m)
  total = 3 * k * group * updates_of_step(run) / updates_of_epoch(run)
  if sampler is not None:
    # Sampling, whose encoder the update cannot reuse; what reads it; judging.
    drawn = sampler.num_samples - sampler.num_data
    total += group_operations(run.model, *lengths, drawn)
    total += k * group * sum(bool(each.owner) for each in algorithm.columns)
    if algorithm.annotator is not None:
      judge = algorithm.annotator.model
      total += group_operations(judge, *lengths, sampler.num_samples)
  return run.batch_size * total


def updates_of_step(run: Run) -> int:
  """Updates on the examples of one step."""
  return run.algorithm.passes.num_updates()


def updates_of_epoch(run: Run) -> int:
  """Updates that use every example of a step once."""
  return run.batch_size // run.rows_of_update


def sampled_tokens(run: Run) -> int:
  """Tokens that a run draws if every response has the greatest length."""
  if run.algorithm.sampler is None:
    return 0
  sampler = run.algorithm.sampler
  each = (sampler.num_samples - sampler.num_data) * sampler.length
  return run.num_steps * run.batch_size * each


class ParameterSet(NamedTuple):
  """Numbers that a training holds, and the roles that read them.

  Attributes:
    roles: 'policy', 'critic', 'behaviour', 'reference', 'annotator'.
    schedule: by which they follow the policy; None of those that do not.
  """

  roles: tuple[str, ...]
  schedule: Schedule | None = None


def parameter_sets(run: Run) -> tuple[ParameterSet, ...]:
  """Distinct sets of parameters: roles of one schedule hold the same numbers.

  The loop may keep a copy for each such role. A critic is a set of its own,
  though it may read the policy's states.
  """
  algorithm = run.algorithm
  roles: dict[Schedule, tuple[str, ...]] = {}
  if algorithm.sampler is not None:
    roles[algorithm.behaviour] = ('behaviour',)
  if algorithm.needs_reference:
    before = roles.get(algorithm.reference, ())
    roles[algorithm.reference] = (*before, 'reference')
  sets = [ParameterSet(('policy', *roles.pop(Current(), ())))]
  if 'values' in run.model.gives:
    sets.append(ParameterSet(('critic',)))
  sets += [ParameterSet(own, schedule) for schedule, own in roles.items()]
  if algorithm.sampler is not None and algorithm.annotator is not None:
    sets.append(ParameterSet(('annotator',)))
  return tuple(sets)


def program(run: Run) -> Run:
  """The run without what does not change its compiled programs.

  Runs with equal programs cost the same for each step.
  """
  algorithm = dataclasses.replace(
    run.algorithm,
    loss=run.algorithm.loss.with_any_numbers(),
    source=FromDataset(),
    behaviour=Current(),
    reference=Never(),
    refit=Never(),
  )
  return dataclasses.replace(
    run, algorithm=algorithm, learning_rate=1.0, num_steps=1,
    schedule=optimizers.Constant(), seed=0, save_steps=(), log_every=1,
  )  # fmt: skip


def num_parameters(model: Parameters) -> int:
  """Numbers in the model's parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(shapes(model)))


@functools.cache
def shapes(model: Parameters) -> PyTree:
  """The model's parameters as shapes."""
  return jax.eval_shape(model.init, jax.random.key(0))


def abstract_batch(
  run: Run, batch_size: int, prompt_length: int, response_length: int
) -> Batch:
  """Shapes of a run's batch of so many rows, for lowering without data."""

  def of(dtype, *shape):
    return jax.ShapeDtypeStruct((batch_size, *shape), dtype)

  algorithm = run.algorithm
  _, n = rollouts.group_shape(algorithm.sampler, algorithm.pairing)
  tokens = of(jnp.int32, n, response_length)
  numbers = of(jnp.float32, n, response_length)
  batch = Batch(
    Prompts(of(jnp.int32), of(jnp.int32, prompt_length)),
    Responses(tokens, numbers, numbers),
    of(jnp.float32, n),
    of(jnp.float32),
    {},
  )
  return rollouts.abstract_columns(run.model, run.algorithm.columns, batch)


def compiled_update(
  run: Run, mesh: partitioning.AnyMesh, prompt_length: int, response_length: int
) -> jax.stages.Compiled:
  """The compiled update program, from shapes alone."""
  return lowered_update(run, mesh, prompt_length, response_length).compile()


def lowered_update(
  run: Run, mesh: partitioning.AnyMesh, prompt_length: int, response_length: int
) -> jax.stages.Lowered:
  """The update program from shapes alone."""
  update = steps.update_program(
    run.objective, run.optimizer, mesh, run.num_microbatches
  )
  learner = jax.eval_shape(
    lambda key: steps.new_learner(run.model.init(key), run.optimizer),
    jax.random.key(0),
  )
  batch = abstract_batch(
    run, run.rows_of_update, prompt_length, response_length
  )
  return cast(jax.stages.Wrapped, update).lower(learner, batch, run.scalars(0))


@runtime_checkable
class MemoryAnalysis(Protocol):
  """What XLA says of the memory of a program."""

  argument_size_in_bytes: int
  output_size_in_bytes: int
  alias_size_in_bytes: int
  temp_size_in_bytes: int


@runtime_checkable
class Analysed(Protocol):
  """A compiled program, of which only its memory is asked."""

  def memory_analysis(self) -> MemoryAnalysis | None:
    """None where the backend does not say."""
    ...


def memory(compiled: Analysed) -> int | None:
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
  run: Run, prompt_length: int, response_length: int, rate: float
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
    run: Run,
    mesh_shape: tuple[int, int],
    prompt_length: int,
    response_length: int,
  ) -> float:
    """Expected time of a step of a `train.Run` on a mesh of such devices."""
    work = step_operations(run, prompt_length, response_length)
    seconds = work / (self.rate * mesh_shape[0] * mesh_shape[1])
    if run.algorithm.sampler is not None:
      model = run.model.language_model
      read = decoding_bytes(model, prompt_length, response_length)
      sampler = run.algorithm.sampler
      samples = sampler.num_samples - sampler.num_data
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
  model: LanguageModel, prompt_length: int, response_length: int
) -> Read:
  """Of responses of the greatest length; each token reads the whole cache."""
  each = model.decoding()
  return Read(
    response_length * each.weights,
    response_length * prompt_length * each.token,
    response_length**2 * each.token,
  )
