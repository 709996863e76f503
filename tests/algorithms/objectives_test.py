import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import errors, losses
from dap.algorithms import objectives
from dap.records import Pair


class Fixed:
  """A policy whose parameters are the log-probs themselves."""

  def pair_log_probs(self, params, prompts, responses):
    return params


@pytest.mark.parametrize(
  ('builder', 'argument', 'value'),
  [
    (objectives.ipo, 'beta', 0.0),
    (objectives.ipo, 'beta', -0.1),
    (objectives.ipo, 'beta', float('nan')),
    (objectives.ipo_azar, 'tau', 0.0),
    (objectives.ipo_gpo_one, 'beta', 0.0),
    (objectives.dpo, 'beta', -1.0),
    (objectives.cdpo, 'beta', 0.0),
    (objectives.hinge, 'beta', 0.0),
    (objectives.exponential, 'beta', 0.0),
    (objectives.truncated_quadratic, 'beta', -1.0),
    (objectives.savage, 'beta', 0.0),
    (objectives.ipo_mean, 'beta', 0.0),
    (objectives.cdpo, 'label_smoothing', 0.5),
    (objectives.cdpo, 'label_smoothing', -0.1),
  ],
)
def test_a_number_out_of_range_is_refused_where_the_loss_is_made(
  builder, argument, value
):
  with pytest.raises(errors.InputError, match=f'{argument} of .*{value}'):
    builder(**{argument: value})


@pytest.mark.parametrize(
  ('builder', 'at_reference'),
  [
    (objectives.ipo, 0.25),
    (objectives.ipo_azar, 1 / (4 * 0.1**2)),  # (1 / (2 tau))^2
    (objectives.ipo_gpo_one, 1.0),
    (objectives.dpo, np.log(2)),
    (objectives.cdpo, np.log(2)),
    (objectives.hinge, 1.0),
    (objectives.exponential, 1.0),
    (objectives.truncated_quadratic, 1.0),
    (objectives.savage, 0.25),  # 1 / (1 + e^0)^2
    (objectives.ipo_mean, 0.25),
  ],
)
def test_every_contrastive_loss_starts_from_its_value_at_the_reference(
  builder, at_reference
):
  batch = tiny.pairs(8).batch(np.arange(8))
  nats = jax.tree.map(lambda mask: -2.0 * jnp.asarray(mask), batch.mask)
  batch = jax.tree.map(jnp.asarray, batch._replace(reference_log_probs=nats))
  loss = builder()
  objective = loss.objective(Fixed(), loss.function)
  found = objective(nats, batch, dict(loss.scalars))
  np.testing.assert_allclose(found.each, at_reference, rtol=1e-5)
  np.testing.assert_allclose(found.metrics['margin'], 0, atol=1e-5)
  np.testing.assert_allclose(found.metrics['accuracy'], 0.5)
  np.testing.assert_array_equal(found.weight, 1)


def test_supervised_training_weighs_by_tokens():
  """Two rows of NLLs (.5, 1, .3) and (1.2, .8): spec 2.20."""
  chosen = -np.array([[0.5, 1.0, 0.3], [1.2, 0.8, 0.0]], np.float32)
  tokens = (chosen < 0).astype(np.int32) * 5
  pairs = dataclasses.replace(
    tiny.pairs(2), chosen=tokens, rejected=np.zeros_like(tokens)
  )
  objective = objectives.SupervisedObjective(Fixed(), losses.supervised_loss)
  batch = jax.tree.map(jnp.asarray, pairs.batch(np.arange(2)))
  both = Pair(jnp.asarray(chosen), jnp.zeros((2, 3)))
  found = objective(both, batch, {})
  mean = np.sum(found.each * found.weight) / np.sum(found.weight)
  assert mean == pytest.approx(0.76, abs=1e-6)  # 3.8 / 5 tokens
  nats = np.mean(found.metrics['nats_per_response'])
  assert nats == pytest.approx(1.9, abs=1e-6)


def test_a_loss_is_a_value_whatever_the_order_of_its_scalars():
  one = objectives.Loss(losses.cdpo_loss, {'beta': 1.0, 'label_smoothing': 0.1})
  other = objectives.Loss(
    losses.cdpo_loss, (('label_smoothing', 0.1), ('beta', 1.0))
  )
  assert one == other and hash(one) == hash(other)


def test_objectives_hold_no_scalar():
  first, second = (
    tiny.run(dataclasses.replace(tiny.OFFLINE, loss=objectives.ipo(beta)))
    for beta in (0.1, 0.7)
  )
  assert first.objective == second.objective  # so one program serves both
  assert first.scalars(0)['beta'] != second.scalars(0)['beta']
