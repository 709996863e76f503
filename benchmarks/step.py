"""What a step costs: offline update, sampling, online step, start-up.

    python benchmarks/step.py                               # one CPU core
    python benchmarks/step.py --workload base --device gpu  # bfloat16

On a CPU the process pins itself to one core and figures are CPU seconds, so
that other processes change them little; on a GPU they are wall seconds. Each
figure is also a share of what the same device reaches in plain matmuls, on the
fewest matmul operations that the step needs (`least_operations`). Prints JSON
lines, then a table; exits 1 when a share misses its target.

Of the padded positions of a batch a third is padding. Real tokens, those of
prompts and of responses, are counted beside them: so many a second, and the
share of the matmul rate on the operations that these alone need. Offline and
online steps are timed padded and packed (gin/packing), in turns; there the
responses of an online step have the lengths of the workload too.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time

import workloads

STARTED = time.perf_counter()
TARGETS = {'offline': 0.50, 'sample': 0.30, 'online': 0.43}
STARTUP_SECONDS = 10.0
GAIN = 1.2  # of packing, in real tokens a second


def restart_on_one_core(core: int | None) -> None:
  """Pins this process, and starts it anew with large pages for its heap.

  The C library reads its tunables before Python runs; without large pages, a
  third of a step goes into page faults.
  """
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, {cores[0] if core is None else core})
  os.environ['JAX_PLATFORMS'] = 'cpu'
  tunables = 'glibc.malloc.hugetlb=1'
  if os.environ.get('GLIBC_TUNABLES') != tunables:
    os.environ['GLIBC_TUNABLES'] = tunables
    os.execv(sys.executable, [sys.executable, *sys.argv])


def cpu_seconds() -> float:
  """CPU seconds of this process and its children since it began."""
  times = os.times()
  return times.user + times.system + times.children_user + times.children_system


class Bench:
  """The library's own programs on one workload, and a clock."""

  def __init__(
    self, workload: workloads.Workload, device: str, repetitions: int
  ):
    import jax

    from dap import losses, optimizers, partitioning, train
    from dap.algorithms import algorithm, objectives
    from dap.models import heads, policy, t5

    self.w, self.on_cpu = workload, device == 'cpu'
    self.clock = time.process_time if self.on_cpu else time.perf_counter
    self.repetitions = repetitions
    self.dtype = 'float32' if self.on_cpu else 'bfloat16'
    config = t5.T5Config(
      workload.vocab,
      workload.emb,
      workload.heads,
      workload.head_dim,
      workload.mlp,
      workload.layers,
      workload.layers,
      dtype=self.dtype,
    )
    model = t5.T5(config)
    self.policy = policy.Policy(model, workload.vocab)
    self.judge = heads.PointwisePreferenceModel(model, heads.PooledScore())
    self.optimizer = optimizers.AdamW(weight_decay=0.01)
    loss = objectives.Loss(losses.ipo_loss, {'beta': 0.1})
    self.padded = train.Run(
      self.policy,
      algorithm.Algorithm(loss),
      self.optimizer,
      learning_rate=1e-4,
      num_steps=1,
      batch_size=workload.batch,
    )
    self.mesh = partitioning.mesh((1, 1))
    self.params = self.policy.init(jax.random.key(0))

  def state(self):
    """A state of its own: an update donates it."""
    import jax
    import jax.numpy as jnp

    from dap.training import steps

    state = steps.new_learner(
      jax.tree.map(jnp.copy, self.params), self.optimizer
    )
    sharding = steps.learner_sharding(self.policy, self.optimizer, self.mesh)
    return jax.device_put(state, sharding)

  def batch(self, seed: int = 0):
    """Random pairs whose reference log-probs have been cached before."""
    import numpy as np

    from dap.records import Batch, Prompts, Responses

    random, rows = np.random.default_rng(seed), self.w.batch

    def tokens(shortest, longest):
      lengths = random.integers(shortest, longest + 1, rows)
      lengths[0] = longest
      ids = random.integers(3, self.w.vocab, (rows, longest))
      ids = np.where(np.arange(longest)[None] < lengths[:, None], ids, 0)
      ids[np.arange(rows), lengths - 1] = 1
      return ids.astype(np.int32)

    prompts = Prompts(np.arange(rows), tokens(*self.w.prompt))
    both = [tokens(*self.w.response) for _ in range(2)]
    both = np.stack(both, axis=1)
    mask = (both > 0).astype(np.float32)
    zeros = np.zeros_like(mask)
    reference = -np.log(self.w.vocab).astype(np.float32) * mask
    return Batch(
      prompts,
      Responses(both, mask, zeros),
      zeros[:, :, 0],
      np.ones(rows, np.float32),
      {'reference': reference},
    )

  def packed(self):
    """The run with packing."""
    from dap.algorithms import rooms

    return dataclasses.replace(self.padded, rooms=rooms.Packed())

  def offline(self, run=None):
    """A function that makes one update on pairs."""
    from dap.training import programs

    run = run or self.padded
    update = programs.one(run, self.mesh).update
    batch, box = self.batch(), [self.state()]

    def step():
      box[0], metrics = update(box[0], batch, run.scalars(0))
      return metrics

    return step

  def sample(self):
    """A function that samples 2 full-length responses to each prompt."""
    import jax
    import jax.numpy as jnp

    from dap.sampling import choose

    prompts = jnp.asarray(self.batch().prompts.tokens)
    keys = jax.random.split(jax.random.key(1), self.w.batch)
    program = jax.jit(
      lambda params, prompts, keys: self.policy.sample(
        params,
        prompts,
        keys,
        num_samples=2,
        length=self.w.response[1],
        choose=choose.InverseCdf((workloads.without_end,)),
      )
    )
    return lambda: program(self.params, prompts, keys)

  def online(self, run=None, lengths=None):
    """A function that makes one online step: rollout, then update.

    Responses are as long as can be, or have given lengths.
    """
    import jax
    import jax.numpy as jnp

    from dap.algorithms import pairings, samplers, signals
    from dap.annotators import models
    from dap.records import RoleParams
    from dap.sampling import choose
    from dap.training import programs, rollouts

    run = run or self.padded
    sampler = samplers.FromPolicy(
      self.w.response[1], choose=choose.InverseCdf((workloads.without_end,))
    )
    if lengths is not None:
      sampler = workloads.Cut(sampler, tuple(map(tuple, lengths.tolist())))
    shape = rollouts.Shape(
      self.policy,
      sampler,
      models.PreferenceAnnotator(self.judge),
      pairings.Two(),
      (signals.Reference(),),
    )
    given = ('policy', 'reference', 'annotator')
    made = programs.one(run, self.mesh)
    rollout = made.place(
      rollouts.rollout, shape, given, ('rows', 'shared', 'shared'), self.mesh
    )
    prompts = jax.tree.map(jnp.asarray, self.batch().prompts)
    judge, root = self.judge.init(jax.random.key(2)), jax.random.key(3)
    box = [self.state()]

    def step():
      learner = box[0]
      params = RoleParams(
        learner.params, reference=self.params, annotator=judge
      )
      batch, _ = rollout(params, prompts, root, learner.updates)
      box[0], metrics = made.update(learner, batch, run.scalars(0))
      return metrics

    return step

  def time(self, run) -> float:
    """Seconds of one call."""
    import jax

    start = self.clock()
    jax.block_until_ready(run())
    return self.clock() - start

  def matmul_rate(self) -> float:
    """Operations a second of the best size of a few square matmuls."""
    import jax
    import jax.numpy as jnp

    multiply, best = jax.jit(jnp.matmul), 0.0
    for size in (512, 1024, 2048) if self.on_cpu else (4096, 8192):
      x = jnp.ones((size, size), self.dtype)
      # Not the fastest: clocks of a shared machine err downwards too.
      seconds = self.median(lambda x=x: multiply(x, x))
      best = max(best, 2 * size**3 / seconds)
    return best

  def median(self, run) -> float:
    """Median seconds of a step, after two that do not count."""
    (seconds,) = self.medians(run)
    return seconds

  def medians(self, *runs) -> list[float]:
    """The same of several, in turns: what slows the machine slows all."""
    for _ in range(2):
      for run in runs:
        self.time(run)
    turns = [[self.time(run) for run in runs] for _ in range(self.repetitions)]
    return [statistics.median(each) for each in zip(*turns, strict=True)]


def compare(bench: Bench, rate: float) -> list[dict]:
  """Padded and packed steps: real tokens a second, and what packing gains."""
  import numpy as np

  batch, records = bench.batch(), []
  prompts = np.sum(batch.prompts.tokens > 0, axis=1)
  responses = np.sum(batch.responses.tokens > 0, axis=2)
  operations = workloads.least_operations(bench.w, prompts, responses)
  tokens = int(prompts.sum() + responses.sum())
  runs = {'padded': bench.padded, 'packed': bench.packed()}
  for step, more in (('offline', {}), ('online', {'lengths': responses})):
    made = [getattr(bench, step)(run, **more) for run in runs.values()]
    seconds = dict(zip(runs, bench.medians(*made), strict=True))
    records += [
      {
        'metric': f'{step}_{how}',
        'value': tokens / each,
        'unit': 'tokens/s',
        'share': operations[step] / each / rate,
        'seconds': each,
        'tokens': tokens,
      }
      for how, each in seconds.items()
    ]
    gain = seconds['padded'] / seconds['packed']
    records.append(
      {
        'metric': f'{step}_gain',
        'value': gain,
        'unit': 'x',
        'target': GAIN,
        'met': gain >= GAIN,
      }
    )
  return records


def measure(name: str, device: str, repetitions: int) -> list[dict]:
  """One record a metric."""
  import numpy as np

  workload = workloads.WORKLOADS[name]
  bench = Bench(workload, device, repetitions)
  offline = bench.offline()
  bench.time(offline)
  startup = cpu_seconds() if bench.on_cpu else time.perf_counter() - STARTED
  rates = [bench.matmul_rate()]
  seconds = {'offline': bench.median(offline)}
  for step in ('sample', 'online'):
    rates.append(bench.matmul_rate())
    seconds[step] = bench.median(getattr(bench, step)())
  rates.append(bench.matmul_rate())
  rate = max(rates)
  prompts = np.full(workload.batch, workload.prompt[1])
  responses = np.full((workload.batch, 2), workload.response[1])
  operations = workloads.least_operations(workload, prompts, responses)
  records = [
    {'metric': 'matmul_rate', 'value': rate / 1e9, 'unit': 'GFLOP/s'},
    {
      'metric': 'startup',
      'value': startup,
      'unit': 's',
      'target': STARTUP_SECONDS,
      'met': startup <= STARTUP_SECONDS,
    },
  ]
  for step, value in seconds.items():
    share = operations[step] / value / rate
    records.append(
      {
        'metric': step,
        'value': value,
        'unit': 's',
        'share': share,
        'target': TARGETS[step],
        'met': share >= TARGETS[step],
      }
    )
  records += compare(bench, rate)
  return [{'workload': name, 'device': device, **record} for record in records]


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--workload', choices=workloads.WORKLOADS, default='mini')
  parser.add_argument('--device', choices=('cpu', 'gpu'), default='cpu')
  parser.add_argument('--repetitions', type=int, default=15)
  parser.add_argument('--core', type=int, help='the core to use; the first')
  arguments = parser.parse_args()
  if arguments.device == 'cpu':
    restart_on_one_core(arguments.core)
  records = measure(arguments.workload, arguments.device, arguments.repetitions)
  for record in records:
    print(json.dumps(record))
  for record in records:
    share = f'{record["share"]:6.1%}' if 'share' in record else ' ' * 6
    target = f'target {record["target"]:g}' if 'target' in record else ''
    print(
      f'{record["metric"]:12}{record["value"]:10.4g} {record["unit"]:8}'
      f'{share}  {target}'
    )
  if arguments.device == 'cpu' and arguments.workload == 'mini':
    sys.exit(0 if all(record.get('met', True) for record in records) else 1)


if __name__ == '__main__':
  main()
