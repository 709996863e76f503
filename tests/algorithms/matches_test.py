"""Matches, rejection and likelihood ranking: pairs of many responses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dap.algorithms import likelihood_ranked, matches, pairings, rejection
from dap.errors import InputError
from dap.records import Responses

SCORES = jnp.array([1.0, 0.2, 0.8, 0.5])


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def responses(count, log_probs=None, same=()):
  """One-token responses to one prompt; those of `same` repeat the first."""
  tokens = jnp.arange(3, 3 + count).at[jnp.array(same, int)].set(3)
  mask = jnp.ones((1, count, 1))
  given = mask if log_probs is None else jnp.asarray(log_probs)[None, :, None]
  return Responses(tokens[None, :, None].astype(jnp.int32), mask, given)


def kept(count=4, temperature=0.5, num_kept=3, seed=0, scores=SCORES):
  order, there = rejection.rejection_sample(
    scores,
    jnp.arange(len(scores)) < count,
    jax.random.key(seed),
    num_kept=num_kept,
    temperature=temperature,
  )
  return [int(n) for n, is_there in zip(order, there, strict=True) if is_there]


@pytest.mark.parametrize('n', [2, 3, 7, 8])
def test_a_first_round_has_half_as_many_pairs_and_everybody_plays_once(n):
  scores = jnp.arange(float(n))[None]
  pairing = matches.Ranked(matches.first_round)
  rows, weight = pairing(responses(n), scores, keys(1))
  assert rows.shape == (1, n // 2, 2) and np.all(weight == 1)
  assert len({*np.ravel(rows)}) == n // 2 * 2
  assert np.all(rows[..., 0] > rows[..., 1])  # the higher score wins


@pytest.mark.parametrize('n', [2, 3, 7, 8])
def test_a_tournament_has_a_pair_for_each_who_is_out(n):
  scores = jnp.arange(float(n))[None]
  rows, weight = matches.Ranked()(responses(n), scores, keys(1))
  assert rows.shape == (1, n - 1, 2) and np.all(weight == 1)
  assert sorted(np.ravel(rows[..., 1])) == list(range(n - 1))  # once each
  assert np.all(rows[..., 0] > rows[..., 1])


def test_a_draw_weighs_nothing_and_one_of_them_plays_on():
  rows, weight = matches.Ranked()(responses(4), jnp.zeros((1, 4)), keys(1))
  assert np.all(weight == 0)
  assert len({*np.ravel(rows[..., 1])}) == 3


def test_who_is_not_there_wins_nothing():
  given = responses(4)
  given = given._replace(mask=given.mask.at[0, 3].set(0))
  rows, weight = matches.Ranked()(given, SCORES[None, ::-1], keys(1))
  counted = np.asarray(rows[0])[np.asarray(weight[0]) > 0]
  assert len(counted) == 2 and 3 not in counted


def test_at_temperature_zero_the_best_are_kept_in_order():
  assert kept(temperature=0.0) == [0, 2, 3]


def test_at_infinite_temperature_the_first_are_kept():
  assert kept(temperature=float('inf')) == [0, 1, 2]


def test_fewer_candidates_than_are_asked_for_are_all_kept():
  assert sorted(kept(count=2)) == [0, 1]
  assert kept(count=0) == []


def test_the_first_pass_accepts_as_often_as_its_theorem_says():
  # Worked: 1, exp(-1.6), exp(-.4), exp(-1); their mean .560024.
  def accepted(key):
    dice = jax.random.uniform(jax.random.fold_in(key, 0), (4,))
    return dice < jnp.exp((SCORES - 1.0) / 0.5)

  by_hand = np.asarray(jax.vmap(accepted)(keys(4000)))
  chance = np.exp((np.asarray(SCORES) - 1) / 0.5)
  np.testing.assert_allclose(chance.mean(), 0.560024, atol=5e-7)

  def first(key):
    return rejection.rejection_sample(
      SCORES, jnp.ones(4, bool), key, num_kept=4, temperature=0.5
    )[0]

  orders = np.asarray(jax.vmap(first)(keys(4000)))
  for row, expected in zip(orders[:500], by_hand[:500], strict=True):
    places = [row.tolist().index(n) for n in range(4)]
    inside = sorted(np.flatnonzero(expected), key=lambda n: places[n])
    assert row[: len(inside)].tolist() == inside == sorted(inside)
  # Five sigma of 4000 coins are .04.
  np.testing.assert_allclose(by_hand.mean(0), chance, atol=0.04)


def test_one_that_is_kept_has_the_law_of_the_tilted_policy():
  # One of many candidates, drawn evenly: softmax(score / .5) over the four.
  def one(key):
    pick, draw = jax.random.split(key)
    drawn = jax.random.randint(pick, (64,), 0, 4)
    order, _ = rejection.rejection_sample(
      SCORES[drawn], jnp.ones(64, bool), draw, num_kept=1, temperature=0.5
    )
    return drawn[order[0]]

  found = np.asarray(jax.vmap(one)(keys(8000)))
  share = np.bincount(found, minlength=4) / len(found)
  expected = jax.nn.softmax(SCORES / 0.5)
  np.testing.assert_allclose(
    expected, [0.446409, 0.090129, 0.299237, 0.164225], atol=5e-7
  )
  np.testing.assert_allclose(share, expected, atol=0.028)  # five sigma


def test_repeated_candidates_are_kept_once():
  given = responses(4, same=(1, 2))
  pairing = rejection.Rejection(4, float('inf'), matches.tournament)
  rows, weight = pairing(given, SCORES[None], keys(1))
  counted = np.asarray(rows[0])[np.asarray(weight[0]) > 0]
  np.testing.assert_array_equal(counted, [[0, 3]])


def test_more_than_there_are_cannot_be_kept():
  with pytest.raises(InputError, match='keeps 8 .* of which there are 4'):
    rejection.Rejection(8)(responses(4), SCORES[None], keys(1))


@pytest.mark.parametrize('temperature', [-1.0, float('nan')])
def test_a_temperature_below_zero_is_refused(temperature):
  with pytest.raises(InputError, match='temperature of rejection'):
    rejection.Rejection(4, temperature)


def test_a_match_needs_two():
  with pytest.raises(InputError, match='at least two'):
    matches.Ranked()(responses(1), jnp.ones((1, 1)), keys(1))


def test_of_a_bad_sample_the_likeliest_good_one_below_it():
  # The first is the data's. Good: 1 and 2, at -4 and -3; bad: 3 at -2, whose
  # partner is 2, and 4 at -5, of which no good one is less likely.
  scores = jnp.array([[9.0, 1.0, 1.0, -1.0, -1.0]])
  given = responses(5, log_probs=(0.0, -4.0, -3.0, -2.0, -5.0))
  pairing = likelihood_ranked.LikelihoodRanked()
  rows, weight = pairing(given, scores, keys(1))
  np.testing.assert_array_equal(weight, [[0, 0, 1, 0]])
  np.testing.assert_array_equal(rows[0, 2], [2, 3, 0])


def test_likelihood_ranking_needs_two_samples():
  with pytest.raises(InputError, match='at least two samples'):
    likelihood_ranked.LikelihoodRanked()(
      responses(2), jnp.ones((1, 2)), keys(1)
    )


def test_a_higher_threshold_keeps_a_subset():
  subsets = []
  for threshold in (0.1, 0.5, 0.9, 2.0):
    pairing = pairings.Above(threshold)
    rows, weight = pairing(responses(4), SCORES[None], keys(1))
    assert rows.shape == (1, 4, 1)
    subsets.append({*np.flatnonzero(weight[0])})
  assert subsets == [{0, 1, 2, 3}, {0, 2}, {0}, set()]


def test_as_drawn_asks_nobody():
  pairing = pairings.AsDrawn()
  rows, weight = pairing(responses(2), jnp.zeros((1, 2)), keys(1))
  np.testing.assert_array_equal(rows, [[[0, 1]]])
  np.testing.assert_array_equal(weight, [[1]])
  assert not pairing.reads_scores
