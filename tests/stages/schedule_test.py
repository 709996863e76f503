import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st

from dap.stages.artefacts import Job, Stage
from dap.stages.schedule import Schedule


def job(key, needs=(), weight=1.0, group=None):
  stage = Stage(key, print, group=group, weight=weight)
  return Job(key, pathlib.Path(key), stage, {}, tuple(needs), {})


def simulate(jobs, num_workers):
  """(key, worker, start, end) of each job, were each to take its weight."""
  schedule, now, ends, log = Schedule(jobs, num_workers), 0.0, {}, []
  while not schedule.finished:
    for worker in set(range(num_workers)) - set(schedule.running.values()):
      if taken := schedule.take(worker):
        ends[taken.key] = now + taken.stage.weight
        log.append((taken.key, worker, now, ends[taken.key]))
    key = min(schedule.running, key=lambda key: ends[key])
    now = ends[key]
    schedule.done(key)
  return log


@st.composite
def graphs(draw):
  size = draw(st.integers(1, 12))
  return [
    job(
      f'j{i}',
      draw(st.sets(st.sampled_from([f'j{k}' for k in range(i)]))) if i else (),
      draw(st.floats(0.1, 10.0)),
      draw(st.sampled_from([None, 'a', 'b'])),
    )
    for i in range(size)
  ]


@settings(deadline=None, derandomize=True, max_examples=200)
@given(graphs(), st.integers(1, 4))
def test_every_job_runs_once_after_its_inputs_and_no_worker_idles(
  jobs, num_workers
):
  log = simulate(jobs, num_workers)
  assert sorted(key for key, *_ in log) == sorted(each.key for each in jobs)
  start = {key: at for key, _, at, _ in log}
  end = {key: at for key, *_, at in log}
  for each in jobs:
    ready = max((end[need] for need in each.needs), default=0.0)
    assert start[each.key] >= ready
    # While it was ready and not started, all workers were busy.
    others = [key for key in start if key != each.key]
    busy = [k for k in others if start[k] <= ready and end[k] > ready]
    assert start[each.key] == ready or len(busy) == num_workers


def test_the_longest_way_goes_first():
  jobs = [
    job('short'),
    job('long', weight=2.0),
    job('first', weight=0.1),
    job('last', ['first'], weight=9.0),
  ]
  assert [key for key, *_ in simulate(jobs, 1)] == [
    'first',
    'last',
    'long',
    'short',
  ]


def test_a_group_stays_with_its_worker_until_that_would_idle_the_other():
  jobs = [job(f'online{i}', weight=3.0, group='online') for i in range(4)]
  jobs += [job(f'offline{i}', weight=1.0, group='offline') for i in range(4)]
  log = simulate(jobs, 2)
  workers = {key: worker for key, worker, *_ in log}
  assert len({workers[f'offline{i}'] for i in range(4)}) == 1
  assert workers['online0'] != workers['offline0']
  assert max(end for *_, end in log) == 9.0  # the other helps with online


def test_an_urgent_chain_goes_before_a_compiled_group():
  jobs = [job(f'leaf{i}', weight=1.0, group='leaf') for i in range(5)]
  jobs += [job('gate', weight=1.0), job('chain', ['gate'], weight=9.0)]
  log = simulate(jobs, 2)
  assert max(end for *_, end in log) == 10.0  # gate, chain


def test_nothing_is_started_after_a_failure():
  schedule = Schedule([job('a'), job('b', ['a'])], 1)
  taken = schedule.take(0)
  assert taken is not None
  schedule.done('a')
  schedule.drop_waiting()
  assert schedule.take(0) is None
  assert schedule.finished
