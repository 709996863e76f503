"""Reward models as one: laws of ensembles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from dap import errors, losses, partitioning
from dap.annotators.models import RewardAnnotator
from dap.checkpoints import load
from dap.models import heads, joined, t5
from dap.records import Pair

MESH = partitioning.mesh((1, 1))
JUDGE = heads.PointwisePreferenceModel(tiny.T5)
PAIRS = tiny.pairs()
PROMPTS = jnp.asarray(PAIRS.prompts[:4])
RESPONSES = jnp.stack(
  [
    jnp.asarray(side[:4])
    for side in (tiny.pairs().chosen, tiny.pairs().rejected)
  ],
  axis=1,
)


def test_rewards_that_are_all_alike_are_0():
  found = joined.helpful_unless_unsafe(jnp.full((2, 3, 1), 0.7))
  np.testing.assert_array_equal(found, jnp.zeros((3, 1)))


def both():
  params = [JUDGE.init(jax.random.key(seed)) for seed in range(2)]
  alone = jnp.stack([JUDGE.scores(p, PROMPTS, RESPONSES) for p in params])
  return tuple(params), alone


@pytest.mark.parametrize('combine', [joined.mean_score, joined.worst_score])
def test_an_ensemble_combines_what_its_members_say(combine):
  params, alone = both()
  model = joined.Joined((JUDGE, JUDGE), combine)
  found = model.scores(params, PROMPTS, RESPONSES)
  np.testing.assert_allclose(found, combine(alone), atol=1e-6)
  assert np.all(joined.worst_score(alone) <= joined.mean_score(alone))
  # As an annotator of a run, and as a preference model.
  odds = model.log_odds(params, PROMPTS, RESPONSES[:, 0], RESPONSES[:, 1])
  np.testing.assert_allclose(odds[0], found[:, 0] - found[:, 1], atol=1e-6)
  assert RewardAnnotator(model).model is model


def test_members_have_their_own_parameters_and_axes():
  model = joined.Joined((JUDGE, JUDGE))
  first, second = model.init(jax.random.key(0))
  same = jax.tree.map(lambda a, b: np.array_equal(a, b), first, second)
  assert not all(jax.tree.leaves(same))
  assert jax.tree.structure(model.init(jax.random.key(1))) == (
    jax.tree.structure((first, second))
  )
  assert model.logical_axes() == (JUDGE.logical_axes(),) * 2
  assert model.pair_operations(6, 5) == 2 * JUDGE.pair_operations(6, 5)


def test_the_implicit_reward_of_a_policy_is_what_dpo_trains():
  policy = [tiny.POLICY.init(jax.random.key(seed)) for seed in range(2)]
  model = joined.ImplicitReward(tiny.POLICY, beta=0.3)
  scores = model.scores(tuple(policy), PROMPTS, RESPONSES)
  mask = (RESPONSES > 0).astype(jnp.float32)
  own, reference = (
    tiny.POLICY.log_probs(p, PROMPTS, RESPONSES) for p in policy
  )
  sides = [Pair(each[:, 0], each[:, 1]) for each in (own, reference, mask)]
  np.testing.assert_allclose(
    losses.bradley_terry_loss(scores[:, 0], scores[:, 1]),
    losses.dpo_loss(*sides, beta=0.3),
    atol=1e-5,
  )
  start = model.scores((policy[0], policy[0]), PROMPTS, RESPONSES)
  np.testing.assert_array_equal(start, jnp.zeros((4, 2)))


def test_each_member_has_a_checkpoint(tmp_path):
  model = joined.Joined((JUDGE, JUDGE))
  with pytest.raises(errors.InputError, match='paths of 2 checkpoints'):
    load.member_params(model, str(tmp_path), MESH)
  with pytest.raises(errors.InputError, match='paths of 1 checkpoints'):
    load.member_params(JUDGE, ('a', 'b'), MESH)


@pytest.mark.parametrize(
  'make, words',
  [
    (lambda: joined.Joined((JUDGE,)), 'at least two members, got 1'),
    (
      lambda: joined.Joined((
        JUDGE,
        heads.PointwisePreferenceModel(
          t5.T5(dataclasses.replace(tiny.CONFIG, vocab_size=40))
        ),
      )),
      r'the same token ids, got vocabularies of',
    ),
    (lambda: joined.ImplicitReward(tiny.POLICY, 0.0), 'beta .* must be > 0'),
  ],
)  # fmt: skip
def test_what_cannot_answer_as_one_is_refused(make, words):
  with pytest.raises(errors.InputError, match=words):
    make()
