"""No two algorithms are one: they differ in a slot, and in what a step does.

What a step does is asked of a toy in the middle of a run: at its start policy,
sampler and reference are one, and many algorithms agree.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toys

from dap.algorithms import samplers
from dap.commands import experiments
from dap.records import Role, RoleParams
from dap.training import rollouts, steps

# It trains no policy, so that its gradient is of other parameters.
JUDGES = ['preference_model']
NAMES = [name for name in experiments.names() if name not in JUDGES]
PAIRS = [*itertools.combinations(NAMES, 2)]

# Schedules act after 50 steps; the policy moves on from there.
REFRESHED, NOW = 50, 60
ROOT = jax.random.key(0)
MOST = 32  # responses to a prompt: RSO's
DATA = tiny.on_device(tiny.pairs().batch(np.arange(8)))


@functools.cache
def draw_program(choose):
  """(writer, prompts, keys) to the responses that all algorithms share."""
  draw = functools.partial(
    toys.POLICY.sample, num_samples=MOST, length=tiny.LENGTH, choose=choose
  )
  return jax.jit(draw)


class FirstOfAll(samplers.FromPolicy):
  """Gives the first of the same responses, however many it is asked for.

  No two algorithms differ by the dice then, and one program draws for all.
  """

  def __call__(self, policy, behaviour, prompts, keys):
    assert self.num_samples <= MOST
    drawn = draw_program(self.choose)(behaviour, prompts.tokens, keys)
    return jax.tree.map(lambda x: x[:, : self.num_samples], drawn)


def first_of_all(sampler):
  return FirstOfAll(tiny.LENGTH, sampler.num_samples, sampler.choose)


def roles_of(run):
  """Who is who now, of three policies: of the start, of 50 steps, of now."""
  start, then, now = (toys.moved(run.model, number) for number in range(3))
  start, then = (run.model.split(each)[0] for each in (start, then))

  def role(schedule):
    return schedule(REFRESHED, Role(start, 0), then).params

  asked, control = run.algorithm.annotator, run.algorithm.control
  return RoleParams(
    now,
    role(run.algorithm.behaviour),
    role(run.algorithm.reference),
    None if asked is None else toys.WORTH,
    None if control is None else control.start(),
  )


def drawn(run, params):
  """Prompts and responses to them; None where a step reads pairs."""
  if run.algorithm.sampler is None:
    return None
  answers = DATA.responses if run.algorithm.sampler.num_data else None
  prompts = DATA.prompts._replace(answers=answers)
  shape = rollouts.shape_of(run.model, run.algorithm)
  return prompts, rollouts.sample(shape, params, prompts, ROOT, NOW)


def examples(run, params, drawn):
  """What a step makes of them, or of pairs, for its updates."""
  if drawn is None:
    columns = run.algorithm.columns
    return rollouts.with_columns(run.model, columns, params, DATA)
  shape = rollouts.shape_of(run.model, run.algorithm)
  scores = rollouts.annotate(shape, params, *drawn, ROOT, NOW)
  return rollouts.finish(shape, params, *drawn, scores, ROOT, NOW)[0]


@functools.partial(jax.jit, static_argnums=0)
def step(run, params, drawn):
  """The examples, and the gradient of the first update."""
  batch, objective = examples(run, params, drawn), run.objective
  taken = run.algorithm.passes(len(batch.weight), run.seed, NOW)
  rows = next(iter(taken))
  part = batch if rows is None else steps.rows_of(batch, rows)

  def mean(policy):
    losses = objective(policy, part, run.algorithm.loss.numbers)
    return jnp.sum(losses.weight * losses.each) / jnp.sum(losses.weight)

  return batch, jax.grad(mean)(params.policy)


def direction(run):
  """Of that gradient in the policy's parameters; 0 where there is none.

  Not its length: what differs by a factor is one algorithm to Adam.
  """
  params, control = roles_of(run), run.algorithm.control
  responses = drawn(run, params)
  batch, gradient = step(run, params, responses)
  if control is not None:  # its numbers follow what is sampled
    numbers = control(params.control, batch)
    _, gradient = step(run, params._replace(control=numbers), responses)
  flat = np.ravel(run.model.split(gradient)[0]['table'])
  assert np.all(np.isfinite(flat))
  return flat / max(np.linalg.norm(flat), 1e-9)


@pytest.fixture(scope='module')
def runs():
  return {name: experiments.read(name).run for name in NAMES}


def test_any_two_algorithms_differ_in_a_slot_beside_numbers_of_the_loss(runs):
  def slots(run):
    loss = run.algorithm.loss.with_any_numbers()
    return dataclasses.replace(run.algorithm, loss=loss)

  found = {name: slots(run) for name, run in runs.items()}
  assert not [(a, b) for a, b in PAIRS if found[a] == found[b]]


def test_any_two_algorithms_go_another_way_from_the_same_samples(runs):
  ways = {
    name: direction(toys.of_toy(run, first_of_all))
    for name, run in runs.items()
  }
  assert [name for name, way in ways.items() if not np.any(way)] == ['nothing']
  # Of the nearest, PPO and PPO with an adaptive KL weight, it is .9991.
  assert not [(a, b) for a, b in PAIRS if ways[a] @ ways[b] > 0.9999]
