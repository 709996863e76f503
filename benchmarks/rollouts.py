"""What steps of PPO and RLOO cost, and the rollouts of best of 8 with scores.

    python benchmarks/rollouts.py

As `benchmarks/step.py`: one core of a CPU, CPU seconds, shares of what it
reaches in plain matmuls on the fewest operations. The algorithms are read from
configs/embedded, with models and batches of the workload, and their steps are
the loop's own: read prompts, sample, score, columns, update. Prompts and
responses have their full lengths. Prints JSON lines, then a table; exits 1 when
a share misses its target or a step compiled more than once.
"""

import argparse
import dataclasses
import json
import sys

import step as steps_bench
import workloads

TARGET = 0.45
# (name, config of configs/embedded, prompts, responses to each, macros)
STEPS = (
  ('ppo', 'ppo', 64, 1, {'EPOCHS': 1, 'MINIBATCHES': 1}),
  ('rloo', 'rloo', 32, 4, {}),
  ('best_of_8', 'best_of_four', 32, 8, {}),
)
ROLLOUT_ALONE = ('best_of_8',)
PLACES = ('MODEL_DIR', 'INITIAL_CHECKPOINT_PATH', 'ANNOTATOR_CHECKPOINT_PATH')


def run_of(bench, config, rows, samples, macros):
  """The algorithm of an experiment at the sizes of the workload."""
  from dap.algorithms import samplers
  from dap.annotators import models
  from dap.commands import COMMANDS
  from dap.commands import run as commands
  from dap.sampling import choose

  words = {**dict.fromkeys(PLACES, 'none'), 'NUM_SAMPLES': samples, **macros}
  given = commands.configure(
    COMMANDS['train'],
    [f'configs/embedded/{config}.gin'],
    [(name, repr(value)) for name, value in words.items()],
    COMMANDS,
  )['run']
  algorithm = dataclasses.replace(
    given.algorithm,
    sampler=samplers.FromPolicy(
      bench.w.response[1],
      num_samples=samples,
      choose=choose.InverseCdf((workloads.without_end,)),
    ),
    annotator=models.RewardAnnotator(bench.judge),
  )
  return dataclasses.replace(
    given,
    model=given.model.with_shared(bench.policy),
    algorithm=algorithm,
    batch_size=rows,
    num_steps=10**6,
    save_steps=(),
  )


def prompts_of(bench, rows):
  """Pairs of full lengths whose prompts are answered."""
  import numpy as np

  from dap.data.pairs import Pairs

  random = np.random.default_rng(0)
  tokens = lambda length: random.integers(
    3, bench.w.vocab, (rows, length)
  ).astype(np.int32)
  return Pairs(
    np.arange(rows),
    tokens(bench.w.prompt[1]),
    tokens(bench.w.response[1]),
    tokens(bench.w.response[1]),
  )


def step_of(bench, run, rollout_alone):
  """(a function that makes a step of the loop, its compiled programs)."""
  import jax

  from dap import train
  from dap.training import programs, steps

  params = train.Params(
    bench.params, bench.params, bench.judge.init(jax.random.key(2))
  )
  examples = prompts_of(bench, run.batch_size)
  made = programs.of(run, examples, params, bench.mesh)
  box = [made.start()]

  def step():
    state, collected = made.collect(made.refresh(box[0]))
    learner, seen = state.learner, collected
    if not rollout_alone:
      for batch in made.passes(state.step, collected.batch):
        learner, seen = made.update(learner, batch, made.scalars(state.step))
    box[0] = state._replace(learner=learner, step=state.step + 1)
    return seen

  update = steps.update_program(run.objective, run.optimizer, bench.mesh, 1)
  return step, () if rollout_alone else (update,)


def measure(name: str, repetitions: int) -> list[dict]:
  """One record a metric."""
  import jax
  import numpy as np

  w = workloads.WORKLOADS[name]
  bench = steps_bench.Bench(w, 'cpu', repetitions)
  rates, found = [bench.matmul_rate()], {}
  for label, config, rows, samples, macros in STEPS:
    alone = label in ROLLOUT_ALONE
    run = run_of(bench, config, rows, samples, macros)
    step, updates = step_of(bench, run, alone)
    seconds = bench.median(step)
    rates.append(bench.matmul_rate())
    one = workloads.forward(
      w, np.full(rows, w.prompt[1]), np.full((rows, samples), w.response[1])
    )
    operations = one.policy + one.judge if alone else one.step
    compiled = [program._cache_size() for program in updates]
    found[label] = operations, seconds, compiled
  rate = max(rates)
  records = [{'metric': 'matmul_rate', 'value': rate / 1e9, 'unit': 'GFLOP/s'}]
  for label, (operations, seconds, compiled) in found.items():
    share = operations / seconds / rate
    records.append(
      {
        'metric': label,
        'value': seconds,
        'unit': 's',
        'share': share,
        'target': TARGET,
        'compiled': compiled,
        'met': share >= TARGET and all(count == 1 for count in compiled),
      }
    )
  where = {'workload': name, 'device': jax.default_backend()}
  return [{**where, **record} for record in records]


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--workload', choices=workloads.WORKLOADS, default='mini')
  parser.add_argument('--repetitions', type=int, default=15)
  parser.add_argument('--core', type=int, help='the core to use; the first')
  arguments = parser.parse_args()
  steps_bench.restart_on_one_core(arguments.core)
  records = measure(arguments.workload, arguments.repetitions)
  for record in records:
    print(json.dumps(record))
  for record in records:
    share = f'{record["share"]:6.1%}' if 'share' in record else ''
    print(
      f'{record["metric"]:12}{record["value"]:10.4g} {record["unit"]:8}{share}'
    )
  sys.exit(0 if all(record.get('met', True) for record in records) else 1)


if __name__ == '__main__':
  main()
