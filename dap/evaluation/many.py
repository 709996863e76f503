"""Layer 6. Many responses to each prompt, each held against one other.

Samples of a prompt share its encoding, sixteen at a time, so that a call has as
many responses as any other of its batch size.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from dap import partitioning
from dap.evaluation import points, programs
from dap.models.protocols import Comparer, Scorer
from dap.models.trained import Policy

_TOGETHER = 16  # samples of one prompt in a row of a call


def answers(
  policy: Policy,
  params: PyTree,
  asked: points.Questions,
  count: int,
  length: int,
  settings: points.Evaluation,
  mesh: Mesh,
  slot: int,
) -> np.ndarray:
  """[rows, count, length]: independent samples; `slot` as in `points`."""
  together, parts = _split(count)
  program = _answer_program(policy, together, length, settings.choose, mesh)
  root = jax.random.fold_in(jax.random.key(settings.seed), slot)

  def call(prompts, ids, places):
    return program(params, prompts, ids, places, root)

  rows = (
    np.repeat(asked.prompts, parts, axis=0),
    np.repeat(asked.prompt_ids, parts),
    np.tile(np.arange(parts, dtype=np.int32), len(asked.prompts)),
  )
  size = _rows(settings.batch_size, together, mesh)
  drawn = programs.in_batches(call, (), rows, size)
  return drawn.reshape(-1, count, length)


def margins(
  judge: points.Judge,
  prompts: np.ndarray,
  ours: np.ndarray,
  theirs: np.ndarray,
  batch_size: int,
  mesh: Mesh,
) -> np.ndarray:
  """Log-odds of each of our responses against theirs, mean of both orders.

  Args:
    judge: preference model.
    prompts: [rows, prompt_length].
    ours: [rows, count, length].
    theirs: [rows, length].
    batch_size: responses of ours in a call.
    mesh: of devices.

  Returns:
    [rows, count]; the sign rule gives wins by their sign.
  """
  rows, count, length = ours.shape
  together, parts = _split(count)
  program = _margin_program(judge.model, mesh)
  columns = (
    np.repeat(prompts, parts, axis=0),
    ours.reshape(rows * parts, together, length),
    np.repeat(theirs, parts, axis=0),
  )
  size = _rows(batch_size, together, mesh)
  found = programs.in_batches(program, (judge.params,), columns, size)
  return found.reshape(rows, count)


def scores(
  model: Scorer,
  params: PyTree,
  prompts: np.ndarray,
  tokens: np.ndarray,
  batch_size: int,
  mesh: Mesh,
) -> np.ndarray:
  """[rows, count] of responses [rows, count, length], each by itself.

  Args:
    model: reward model.
    params: of it.
    prompts: [rows, prompt_length].
    tokens: of the responses.
    batch_size: responses in a call.
    mesh: of devices.
  """
  rows, count, length = tokens.shape
  together, parts = _split(count)
  columns = (
    np.repeat(prompts, parts, axis=0),
    tokens.reshape(rows * parts, together, length),
  )
  size = _rows(batch_size, together, mesh)
  program = _score_program(model, mesh)
  return programs.in_batches(program, (params,), columns, size).reshape(
    rows, count
  )


def _split(count: int) -> tuple[int, int]:
  """Samples in a row of a call, and such rows for a prompt."""
  together = math.gcd(count, _TOGETHER)
  return together, count // together


def _rows(batch_size: int, together: int, mesh: Mesh) -> int:
  """Of a call with `batch_size` responses, as many on each device."""
  devices = mesh.shape['data']
  return devices * math.ceil(max(1, batch_size // together) / devices)


@functools.cache
def _answer_program(
  policy: Policy, count: int, length: int, choose: Callable, mesh: Mesh
) -> Callable:
  """(params, prompts, ids, places, root key) -> tokens [rows, count, length].

  One key for each prompt and place.
  """

  def answer(params, prompts, ids, places, root):
    keys = jax.vmap(
      lambda i, p: jax.random.fold_in(jax.random.fold_in(root, i), p)
    )(ids, places)
    return policy.sample(
      params, prompts, keys, num_samples=count, length=length, choose=choose
    ).tokens

  placed = partitioning.param_sharding(policy.logical_axes(), mesh)
  rows = partitioning.by_example(mesh)
  return jax.jit(
    answer,
    in_shardings=(placed, rows, rows, rows, partitioning.replicated(mesh)),
    out_shardings=rows,
  )


@functools.cache
def _score_program(model: Scorer, mesh: Mesh) -> Callable:
  """(params, prompts, tokens [rows, n, length]) -> scores [rows, n]."""
  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  rows = partitioning.by_example(mesh)
  return jax.jit(
    model.scores, in_shardings=(placed, rows, rows), out_shardings=rows
  )


@functools.cache
def _margin_program(model: Comparer, mesh: Mesh) -> Callable:
  """(params, prompts, ours, theirs) -> log-odds [rows, count]."""
  if isinstance(model, Scorer):
    margin = functools.partial(programs.score_margins, model)
  else:
    margin = functools.partial(_by_pairs, model)
  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  rows = partitioning.by_example(mesh)
  return jax.jit(
    margin, in_shardings=(placed, rows, rows, rows), out_shardings=rows
  )


def _by_pairs(model: Comparer, params, prompts, ours, theirs):
  """Of any other: a pair for each response, in both orders."""
  rows, count, length = ours.shape
  first, second = model.log_odds(
    params,
    jnp.repeat(prompts, count, axis=0),
    ours.reshape(-1, length),
    jnp.repeat(theirs, count, axis=0),
  )
  return 0.5 * (first - second).reshape(rows, count)
