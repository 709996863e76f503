"""The best that any policy can do, against enumeration of all responses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap import errors
from dap.estimators import limits

law = settings(deadline=None, derandomize=True, max_examples=25)
STRENGTHS = (0.0, 2.0, 5.0, 12.0, 30.0)  # to 2.4 nats
PROMPTS, SAMPLES = 400, 256


def world(seed, prompts=PROMPTS, vocabulary=4, length=3):
  """Chances and scores of all responses of a tiny language, by prompt."""
  rng = np.random.default_rng(seed)
  responses = vocabulary**length
  chances = rng.dirichlet(np.full(responses, 0.5), prompts)
  return chances, rng.random((prompts, responses)), rng


def exact(chances, scores, judged, strength):
  """KL and value of the tilted policy, by enumeration."""
  weights = chances * np.exp(strength * scores)
  weights /= np.sum(weights, axis=1, keepdims=True)
  with np.errstate(divide='ignore', invalid='ignore'):
    terms = weights * np.log(weights / chances)
  kl = np.sum(np.nan_to_num(terms), axis=1)
  return np.mean(kl), np.mean(np.sum(weights * judged, axis=1))


def drawn(chances, rng, samples=SAMPLES):
  """Indices of samples of each prompt's responses."""
  return np.stack(
    [rng.choice(chances.shape[1], samples, p=row) for row in chances]
  )


@pytest.mark.parametrize('seed', range(3))
def test_samples_tell_what_enumeration_tells_within_the_stated_error(seed):
  chances, scores, rng = world(seed)
  judged = 0.7 * scores + rng.normal(size=scores.shape)  # another judge
  rows = drawn(chances, rng)
  take = lambda values: np.take_along_axis(values, rows, axis=1)
  found = limits.tilted(take(scores), take(judged), STRENGTHS)
  noise = lambda values: 3 * np.std(values) / PROMPTS**0.5
  for place, strength in enumerate(STRENGTHS):
    kl, value = exact(chances, scores, judged, strength)
    plain = np.mean(take(judged), axis=1) - np.sum(chances * judged, axis=1)
    assert abs(found.kl[place] - kl) < found.kl_error[place] + 0.02
    assert abs(np.mean(found.values[place]) - value) < (
      found.error[place] + noise(plain) + 0.01
    )
  # It says enough: at 1 nat the error is a fraction of it.
  assert found.kl_error[2] < 0.1 * found.kl[2]
  assert found.kl[-1] < found.end


def test_more_samples_lower_the_stated_error():
  chances, scores, rng = world(7)
  rows = drawn(chances, rng, 512)
  taken = np.take_along_axis(scores, rows, axis=1)
  whole = limits.tilted(taken, taken, STRENGTHS)
  half = limits.tilted(taken[:, ::2], taken[:, ::2], STRENGTHS)
  for name in ('kl_error', 'error'):
    ratio = getattr(half, name)[2:] / getattr(whole, name)[2:]
    assert (ratio > 1).all()


def test_nothing_is_tilted_at_strength_zero():
  _, scores, rng = world(0, prompts=5)
  judged = rng.normal(size=scores.shape)
  found = limits.tilted(scores, judged, (0.0, 1.0))
  assert found.kl[0] == pytest.approx(0, abs=1e-12)
  np.testing.assert_allclose(found.values[0], judged.mean(axis=1))
  assert found.end == pytest.approx(np.log(scores.shape[1]) - 1)


@law
@given(st.integers(0, 2**16))
def test_more_strength_is_more_kl_and_more_score(seed):
  _, scores, _ = world(seed, prompts=6)
  found = limits.tilted(scores, scores, (0.0, 1.0, 3.0, 10.0, 30.0))
  assert (np.diff(found.kl) > 0).all()
  assert (np.diff(found.values, axis=0) >= 0).all()
  assert (found.kl <= np.log(scores.shape[1]) + 1e-9).all()


@law
@given(st.integers(0, 2**16))
def test_no_other_weights_of_a_kl_score_higher(seed):
  # The tilt is the optimum of E[score] - KL / strength.
  _, scores, rng = world(seed, prompts=1)
  strength = rng.uniform(0.5, 20.0)
  found = limits.tilted(scores, scores, (strength,))
  best = found.values[0, 0] - found.kl[0] / strength
  other = rng.dirichlet(np.full(scores.shape[1], rng.uniform(0.1, 5)))
  with np.errstate(divide='ignore', invalid='ignore'):
    kl = np.nansum(other * np.log(other * len(other)))
  assert other @ scores[0] - kl / strength <= best + 1e-9


@law
@given(st.integers(0, 2**16), st.integers(1, 12))
def test_the_best_of_n_is_the_mean_over_draws(seed, n):
  rng = np.random.default_rng(seed)
  scores = rng.integers(0, 6, (1, 12)).astype(float)  # ties
  judged = (
    scores**2
  )  # of equal scores equal, so that a tie's order is no matter
  found = limits.best_of(scores, judged, (n,))
  draws = [rng.permutation(12)[:n] for _ in range(3000)]
  mean = np.mean([np.max(scores[0, draw]) ** 2 for draw in draws])
  spread = np.std([np.max(scores[0, draw]) ** 2 for draw in draws])
  assert abs(found.values[0, 0] - mean) < 5 * spread / 3000**0.5 + 1e-9
  assert found.kl[0] == pytest.approx(np.log(n) - (n - 1) / n)


def test_best_of_n_stays_below_the_limit_at_its_kl():
  chances, scores, rng = world(4)
  rows = drawn(chances, rng)
  taken = np.take_along_axis(scores, rows, axis=1)
  limit = limits.tilted(taken, taken, np.geomspace(0.3, 40, 40).tolist())
  best = limits.best_of(taken, taken, (2, 4, 8))
  at = limits.at_kl(limit, best.kl.tolist())
  room = np.mean(at - best.values, axis=1)
  assert (room > -np.max(limit.error)).all()
  assert room[0] < 0.15 * np.mean(best.values[0] - taken.mean(axis=1))


def test_between_policies_it_is_linear_and_beyond_the_end_unknown():
  limit = limits.Limit(
    np.array([0.0, 1.0, 3.0]),
    np.array([[0.0, 0.2], [0.4, 0.6], [0.8, 1.0]]),
    np.zeros(3),
    np.zeros(3),
    2.5,
  )
  found = limits.at_kl(limit, [0.5, 2.0, 2.6, 4.0])
  np.testing.assert_allclose(found[:2], [[0.2, 0.4], [0.6, 0.8]])
  assert np.isnan(found[2:]).all()


def test_the_share_of_no_gain_is_unknown():
  assert limits.attained(0.2, 0.35, 0.5) == pytest.approx(0.5)
  assert np.isnan(limits.attained(0.5, 0.6, 0.5))
  np.testing.assert_allclose(
    limits.attained(np.array([0.2]), np.array([0.1]), np.array([0.4])), [-0.5]
  )


def test_wrong_shapes_and_orders_are_refused():
  with pytest.raises(errors.InputError, match='8 samples'):
    limits.tilted(np.zeros((2, 3)), np.zeros((2, 3)), (1.0,))
  with pytest.raises(errors.InputError, match='ascend'):
    limits.tilted(np.zeros((2, 8)), np.zeros((2, 8)), (1.0, 0.5))
  with pytest.raises(errors.InputError, match='1 <= n <= 8'):
    limits.best_of(np.zeros((2, 8)), np.zeros((2, 8)), (9,))


def straight(kl_error, error):
  """A curve of slope 0.2 from 0.1 at 0 nats to 0.7 at 3."""
  kl = np.linspace(0.0, 3.0, 4)
  return limits.Limit(
    kl, np.tile(0.1 + 0.2 * kl[:, None], 5), np.array(kl_error),
    np.array(error), end=2.5,
  )  # fmt: skip


def test_an_error_of_the_kl_moves_the_value_along_the_curve():
  found = straight((0.0, 0.1, 0.2, 0.1), (0.0, 0.0, 0.01, 0.02))
  # 0.2 a nat, beside the value's own; at the last a step back.
  np.testing.assert_allclose(
    limits.total_error(found), [0.0, 0.02, 0.05, 0.04], atol=1e-12
  )


@pytest.mark.parametrize(('most', 'count'), [(0.04, 2), (0.01, 1), (1.0, 3)])
def test_a_limit_is_known_to_its_error_and_its_end(most, count):
  found = limits.known(
    straight((0.0, 0.1, 0.2, 0.0), (0.0, 0.0, 0.01, 0.0)), most
  )
  assert len(found.kl) == len(found.values) == count
  last = found.kl[-1]
  assert np.isnan(limits.at_kl(found, (last + 0.1,))).all()
