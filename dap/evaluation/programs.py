"""Layer 6. Programs that ask policies and judges, called in batches.

A program is compiled once for all checkpoints of a study.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dap import partitioning
from dap.models.protocols import Comparer, Scorer
from dap.models.trained import Policy


@functools.cache
def answer_program(
  policy: Policy, length: int, choose: Callable, mesh: Mesh
) -> Callable:
  """One response a row: (params, prompts, ids, samples, root key) -> tokens."""

  def answer(params, prompts, ids, samples, root):
    keys = jax.vmap(
      lambda i, s: jax.random.fold_in(jax.random.fold_in(root, i), s)
    )(ids, samples)
    responses = policy.sample(
      params, prompts, keys, num_samples=1, length=length, choose=choose
    )
    return responses.tokens[:, 0]

  placed = partitioning.param_sharding(policy.logical_axes(), mesh)
  rows = partitioning.by_example(mesh)
  return jax.jit(
    answer,
    in_shardings=(placed, rows, rows, rows, partitioning.replicated(mesh)),
    out_shardings=rows,
  )


@functools.cache
def judge_program(model: Comparer, mesh: Mesh) -> Callable:
  """Both orders: (params, prompts, ours, theirs) -> (p_ab, p_ba)."""

  def judge(params, prompts, ours, theirs):
    odds = model.log_odds(params, prompts, ours, theirs)
    return tuple(jax.nn.sigmoid(each) for each in odds)

  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  rows = partitioning.by_example(mesh)
  return jax.jit(
    judge, in_shardings=(placed, rows, rows, rows), out_shardings=rows
  )


@functools.cache
def judge_all_program(model: Scorer, mesh: Mesh) -> Callable:
  """As `judge_program`, of several of ours: [rows, count, length]."""

  def judge(params, prompts, ours, theirs):
    margin = score_margins(model, params, prompts, ours, theirs)
    return jax.nn.sigmoid(margin), jax.nn.sigmoid(-margin)

  placed = partitioning.param_sharding(model.logical_axes(), mesh)
  rows = partitioning.by_example(mesh)
  return jax.jit(
    judge, in_shardings=(placed, rows, rows, rows), out_shardings=rows
  )


def score_margins(model: Scorer, params, prompts, ours, theirs) -> jax.Array:
  """Scores of [rows, count, length] less that of theirs, each read once."""
  both = jnp.concatenate([ours, theirs[:, None]], axis=1)
  scores = model.scores(params, prompts, both)
  return scores[:, :-1] - scores[:, -1:]


@functools.cache
def kl_program(policy: Policy, mesh: Mesh) -> Callable:
  """Exact KL of each response: (params, reference, prompts, tokens) -> nats."""

  def kl(params, reference, prompts, tokens):
    each = policy.kl(params, reference, prompts, tokens[:, None])
    return jnp.sum(each[:, 0], axis=-1)

  placed = partitioning.param_sharding(policy.logical_axes(), mesh)
  rows = partitioning.by_example(mesh)
  return jax.jit(
    kl, in_shardings=(placed, placed, rows, rows), out_shardings=rows
  )


def in_batches(program: Callable, fixed: tuple, rows: tuple, batch_size: int):
  """Calls `program(*fixed, *rows)` in batches of one shape; joins the results.

  The last batch is filled with repeated rows, whose results are dropped.
  """
  count = len(rows[0])
  parts = []
  for start in range(0, count, batch_size):
    index = np.arange(start, start + batch_size) % count
    out = program(*fixed, *(np.asarray(column[index]) for column in rows))
    parts.append(jax.device_get(out))
  return jax.tree.map(lambda *xs: np.concatenate(xs)[:count], *parts)
