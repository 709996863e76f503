import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import errors, losses, train
from dap.algorithms import (
  algorithm,
  refresh,
  signals,
  views,
)
from dap.algorithms.objectives import Loss, LossObjective, numbers, reads
from dap.models.policy import Policy
from dap.records import Outputs, RoleParams
from dap.training import rollouts


class Fixed(Policy):
  """A policy whose parameters are the log-probs themselves."""

  def __init__(self):
    super().__init__(tiny.POLICY.language_model)

  def outputs(self, params, prompts, responses):
    return Outputs(params)


def batch_of(pairs, **columns):
  batch = tiny.on_device(pairs.batch(np.arange(len(pairs))))
  return batch._replace(columns=columns)


@pytest.mark.parametrize(
  ('function', 'name', 'value'),
  [
    (losses.ipo_loss, 'beta', 0.0),
    (losses.ipo_loss, 'beta', -0.1),
    (losses.ipo_loss, 'beta', float('nan')),
    (losses.ipo_azar_loss, 'tau', 0.0),
    (losses.ipo_gpo_one_loss, 'beta', 0.0),
    (losses.dpo_loss, 'beta', -1.0),
    (losses.cdpo_loss, 'beta', 0.0),
    (losses.hinge_loss, 'beta', 0.0),
    (losses.exponential_loss, 'beta', 0.0),
    (losses.truncated_quadratic_loss, 'beta', -1.0),
    (losses.savage_loss, 'beta', 0.0),
    (losses.ipo_mean_loss, 'beta', 0.0),
    (losses.cdpo_loss, 'label_smoothing', 0.5),
    (losses.cdpo_loss, 'label_smoothing', -0.1),
  ],
)
def test_a_number_out_of_range_is_refused_where_the_loss_is_made(
  function, name, value
):
  given = dict.fromkeys(numbers(function), 0.1) | {name: value}
  with pytest.raises(
    errors.InputError, match=f'{name} of .* must be .*{value}'
  ):
    Loss(function, given)


@pytest.mark.parametrize('given', [{}, {'tau': 0.1}, {'beta': 0.1, 'b': 1}])
def test_numbers_that_a_loss_lacks_or_does_not_know_are_refused(given):
  with pytest.raises(
    errors.InputError, match='ipo_loss takes the numbers beta'
  ):
    Loss(losses.ipo_loss, given)


@pytest.mark.parametrize(
  ('function', 'number', 'at_reference'),
  [
    (losses.ipo_loss, 0.1, 0.25),
    (losses.ipo_azar_loss, 0.1, 1 / (4 * 0.1**2)),  # (1 / (2 tau))^2
    (losses.ipo_gpo_one_loss, 0.2, 1.0),
    (losses.dpo_loss, 0.1, np.log(2)),
    (losses.cdpo_loss, 0.1, np.log(2)),
    (losses.hinge_loss, 0.1, 1.0),
    (losses.exponential_loss, 0.1, 1.0),
    (losses.truncated_quadratic_loss, 0.1, 1.0),
    (losses.savage_loss, 0.1, 0.25),  # 1 / (1 + e^0)^2
    (losses.ipo_mean_loss, 1.0, 0.25),
  ],
)
def test_every_contrastive_loss_starts_from_its_value_at_the_reference(
  function, number, at_reference
):
  mask = tiny.pairs(8).batch(np.arange(8)).responses.mask
  nats = -2.0 * jnp.asarray(mask)
  loss = Loss(function, dict.fromkeys(numbers(function), number))
  objective = LossObjective(Fixed(), loss.function, loss.view)
  batch = batch_of(tiny.pairs(8), reference=nats)
  found = objective(nats, batch, loss.numbers | {'learning_rate': 1.0})
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
  objective = LossObjective(Fixed(), losses.supervised_loss, views.Tokens())
  both = jnp.stack([jnp.asarray(chosen), jnp.zeros((2, 3))], axis=1)
  found = objective(both, batch_of(pairs), {})
  mean = np.sum(found.each * found.weight) / np.sum(found.weight)
  assert mean == pytest.approx(0.76, abs=1e-6)  # 3.8 / 5 tokens
  nats = np.mean(found.metrics['nats_per_response'])
  assert nats == pytest.approx(1.9, abs=1e-6)


def test_a_loss_is_a_value_whatever_the_order_of_its_scalars():
  one = Loss(losses.cdpo_loss, {'beta': 1.0, 'label_smoothing': 0.1})
  other = Loss(losses.cdpo_loss, (('label_smoothing', 0.1), ('beta', 1.0)))
  assert one == other and hash(one) == hash(other)


def test_objectives_hold_no_scalar():
  first, second = (
    tiny.run(dataclasses.replace(tiny.OFFLINE, loss=tiny.ipo(beta)))
    for beta in (0.1, 0.7)
  )
  assert first.objective == second.objective  # so one program serves both
  assert first.scalars(0)['beta'] != second.scalars(0)['beta']


def test_losses_that_differ_in_numbers_alone_have_the_same_stand_in():
  def of(beta, smoothing):
    given = {'beta': beta, 'label_smoothing': smoothing}
    return Loss(losses.cdpo_loss, given).with_any_numbers()

  assert of(0.1, 0.0) == of(2.0, 0.4)


def test_a_loss_names_what_it_reads():
  assert reads(losses.ipo_loss) == ('policy', 'reference', 'mask')
  assert reads(losses.best_of_two_loss) == ('policy', 'mask')
  bound = functools.partial(losses.gpo_loss, f=losses.hinge)
  assert reads(bound) == ('policy', 'reference', 'mask')
  assert list(numbers(losses.cdpo_loss)) == ['beta', 'label_smoothing']


def test_what_a_loss_reads_decides_whether_a_reference_is_needed():
  assert tiny.OFFLINE.needs_reference
  best = algorithm.Algorithm(Loss(losses.best_of_two_loss))
  assert not best.needs_reference and not best.columns


def my_loss(policy, margins, mask):
  return margins[:, 0] + 0 * policy.chosen[:, 0] * mask.chosen[:, 0]


def test_a_column_that_nobody_makes_is_refused_where_the_algorithm_is_made():
  with pytest.raises(
    errors.InputError, match='my_loss reads the column margins'
  ):
    algorithm.Algorithm(Loss(my_loss))
  with pytest.raises(errors.InputError, match='signals.LeaveOneOut or'):
    algorithm.Algorithm(Loss(losses.reinforce_loss, view=views.responses))


@dataclasses.dataclass(frozen=True)
class Margins:
  """A column of a user's own."""

  name = 'margins'
  reads = ()
  owner = ''

  def __call__(self, model, params, batch):
    return batch.scores


def test_a_signal_of_ones_own_is_what_a_loss_asks_for():
  found = algorithm.Algorithm(Loss(my_loss), signals=(Margins(),))
  assert [each.name for each in found.columns] == ['margins']


def test_two_signals_of_one_name_and_circles_are_refused():
  with pytest.raises(errors.InputError, match='Two signals are called margins'):
    algorithm.Algorithm(Loss(my_loss), signals=(Margins(), Margins()))
  circle = dataclasses.make_dataclass(
    'Circle',
    [],
    bases=(Margins,),
    frozen=True,
    namespace={'reads': ('margins',)},
  )
  with pytest.raises(errors.InputError, match='in a circle'):
    algorithm.Algorithm(Loss(my_loss), signals=(circle(),))


@dataclasses.dataclass(frozen=True)
class Gap:
  """What separates the scores of a pair, at each of its responses."""

  name: str = 'gap'
  reads: ClassVar = ('scores',)
  owner: ClassVar = ''

  def __call__(self, model, params, batch):
    return jnp.repeat(jnp.ptp(batch.scores, axis=1, keepdims=True), 2, axis=1)


def gap_loss(policy, mask, gap, *, beta):
  margin = losses.log_ratio_margin(policy, policy, mask)
  return beta * margin * gap.chosen


@pytest.mark.parametrize(
  ('slot', 'value', 'words'),
  [
    ('signals', Gap, r'signals .* is a value, got the class Gap.*@Gap\(\)'),
    ('passes', Gap(), r'passes .* is a Passes; Gap.* has no .*rows_of_update'),
    ('annotator', Gap(), r'annotator .* is a Annotator; Gap.* has no model'),
    ('reference', refresh.Current(), r'reference .* refresh.Every\(1\)'),
  ],
)
def test_what_fits_no_slot_is_refused_where_the_algorithm_is_made(
  slot, value, words
):
  # The types of most are checked before in tests, though not for users.
  with pytest.raises(errors.InputError, match=words):
    algorithm._check_slot(slot, value)


@pytest.mark.parametrize('name', ['policy', 'values', 'log_odds'])
def test_a_signal_asks_the_model_itself(name):
  class Mistaken(Gap):
    reads = (name,)

  with pytest.raises(errors.InputError, match=f'reads {name}, which is no col'):
    algorithm.Algorithm(Loss(gap_loss, {'beta': 1}), signals=(Mistaken(),))


def test_scores_that_nobody_gives_are_refused(tmp_path):
  offline = algorithm.Algorithm(Loss(gap_loss, {'beta': 1}), signals=(Gap(),))
  with pytest.raises(
    errors.InputError, match='gap_loss.*this data set has not'
  ):
    train.fit(
      tiny.run(offline),
      tiny.pairs(),
      train.Params(tiny.POLICY.init(jax.random.key(0))),
      tmp_path,
    )


@pytest.mark.parametrize('shape', [(8,), (8, 1)])
def test_a_column_is_of_every_response(shape):
  class Short(Gap):
    def __call__(self, model, params, batch):
      return jnp.zeros(shape)

  batch = tiny.on_device(tiny.pairs(8).batch(np.arange(8)))
  with pytest.raises(
    errors.InputError, match=r'gap must give .*\(8, 2, \.\.\.\)'
  ):
    rollouts.with_columns(tiny.POLICY, (Short(),), RoleParams(None), batch)


def test_a_number_that_is_positional_is_told_to_be_keyword_only():
  def lonely_loss(policy, reference, mask, beta):
    return beta * losses.log_ratio_margin(policy, reference, mask)

  with pytest.raises(errors.InputError, match=r'write \* before it.*\*, beta'):
    Loss(lonely_loss, {'beta': 0.1})


@pytest.mark.parametrize('view', [views.pairs, views.responses, views.Tokens()])
def test_a_loss_leaves_the_mean_to_the_step(view):
  def mean_loss(policy):
    return jnp.mean(jnp.zeros(()))

  objective = LossObjective(Fixed(), mean_loss, view)
  batch = batch_of(tiny.pairs(8))
  with pytest.raises(errors.InputError, match='one number for each example'):
    objective(jnp.zeros((8, 2, 5)), batch, {})


def test_columns_come_after_those_that_they_read():
  given = (signals.Whitened(), signals.Returns(), signals.Gae(),
           signals.TokenRewards())  # fmt: skip
  loss = Loss(
    losses.ppo_loss,
    {'clip': 0.2, 'value_clip': 0.2, 'value_weight': 0.1},
    views.Tokens('loss_per_response'),
  )
  order = [
    each.name for each in algorithm.Algorithm(loss, signals=given).columns
  ]
  for signal in given:
    for read in {*signal.reads} - {'scores'}:
      assert order.index(read) < order.index(signal.name)


def test_a_loss_of_values_needs_a_model_that_gives_them():
  loss = Loss(
    losses.ppo_loss,
    {'clip': 0.2, 'value_clip': 0.2, 'value_weight': 0.1},
    views.Tokens(),
  )
  given = (signals.TokenRewards(), signals.Gae(), signals.Returns(),
           signals.Whitened())  # fmt: skip
  with pytest.raises(
    errors.InputError, match='reads values, which Policy does'
  ):
    tiny.run(algorithm.Algorithm(loss, signals=given))


def test_a_view_of_pairs_refuses_other_groups():
  batch = batch_of(tiny.pairs(4))
  three = batch._replace(
    responses=batch.responses._replace(
      tokens=jnp.zeros((4, 3, 5), int), mask=jnp.ones((4, 3, 5))
    ),
    scores=jnp.zeros((4, 3)),
  )
  objective = LossObjective(Fixed(), losses.best_of_two_loss, views.pairs)
  with pytest.raises(errors.InputError, match='groups of two responses'):
    objective(jnp.zeros((4, 3, 5)), three, {})
