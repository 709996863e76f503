"""The limit behind the arms, where its value is known by a formula."""

import numpy as np
import pytest
from scipy import optimize
from study.analyses.synthetic import Synthetic, by_name, hill

from dap.errors import InputError
from dap.study import analyses
from dap.study.reading.evidence import CONTRADICTED, REPRODUCED, UNDECIDED

GAP = analyses.Gap()
START = 0.125  # of the samples win, to every prompt alike: each eighth
PROMPTS, SAMPLES = 40, 256


def most(kl):
  """Win rate of the best policy at a KL: that of a coin so far from START."""
  far = lambda w: (
    w * np.log(w / START) + (1 - w) * np.log((1 - w) / (1 - START))
  )
  return optimize.brentq(lambda w: far(w) - kl, START, 1 - 1e-9)


def samples(seed, **more):
  """Arrays of the measure; the proxy says nothing of who wins."""
  rng = np.random.default_rng(seed)
  wins = np.tile(np.arange(SAMPLES) % 8 == 0, (PROMPTS, 1))
  return {
    'prompt_ids': np.arange(0, 400, 400 // PROMPTS),
    'golden': np.where(wins, 2.0, -1.0).astype(np.float32),
    'proxy': rng.normal(size=wins.shape).astype(np.float32),
    **more,
  }


def study(folder, online, offline, utility=False, **more):
  made = Synthetic(folder, **more)
  told = {'utility': lambda kl: kl} if utility else {}
  made.arm('sft', lambda kl: START, (0.0,), (3e-3, None), **told)
  made.arm('online_ipo', online, **told).arm('offline_ipo', offline, **told)
  return made


def predicates(made):
  return by_name(GAP.predicates(made.evidence))


def test_shares_are_of_what_the_best_policy_gains(tmp_path):
  made = study(tmp_path, hill(0.6), hill(0.4)).measure('limit', samples)
  found = predicates(made)
  for budget in (1.0, 2.0):  # checkpoints at .5, .77, 1.19, 1.83 nats, ...
    nearest = {1.0: 0.7711, 2.0: 1.8340}[budget]
    room = most(budget) - START
    shares = [(hill(top)(nearest) - START) / room for top in (0.6, 0.4)]
    predicate = found[f'L{budget:g}']
    assert predicate.verdict == REPRODUCED
    assert predicate.estimate == pytest.approx(shares[0] - shares[1], abs=0.02)
    assert f'online has {shares[0]:.2f}'[:-1] in predicate.detail
    end = float(predicate.detail.rstrip('.').rsplit(' ', 1)[1])
    assert end == pytest.approx(most(budget), abs=0.01)
    assert predicate.by_seed.keys() == {0, 1}


def test_where_the_limit_has_ended_shares_are_of_a_win_rate_of_1(tmp_path):
  made = study(tmp_path, hill(0.6), hill(0.4)).measure('limit', samples)
  found = predicates(made)['L4']
  # All weight is on samples that win at -log START = 2.08 nats.
  assert 'Beyond 2.1 nats the limit is not known with 2 of 2' in found.detail
  assert found.estimate == pytest.approx(0.2 / (1 - START), abs=0.02)


def test_arms_below_the_limit_are_told_from_one_above(tmp_path):
  below = study(tmp_path, hill(0.5), hill(0.4)).measure('limit', samples)
  found = predicates(below)['L']
  assert found.verdict == REPRODUCED and found.estimate < -0.1
  above = study(tmp_path, lambda kl: 0.95, hill(0.4)).measure('limit', samples)
  found = predicates(above)['L']
  assert found.verdict == CONTRADICTED
  # Farthest above at .5 nats, the smallest KL.
  assert found.estimate == pytest.approx(0.95 - most(0.5), abs=0.05)


def test_a_seed_without_checkpoints_below_the_limit_leaves_the_others(tmp_path):
  def judged(seed):
    some = samples(seed)
    if seed == 1:  # all of its samples win: no KL is needed for that
      some['golden'] = np.abs(some['golden'])
    return some

  made = study(tmp_path, hill(0.5), hill(0.4)).measure('limit', judged)
  found = predicates(made)['L']
  assert found.verdict == REPRODUCED and found.by_seed.keys() == {0}
  assert found.detail.endswith(
    'Not checked on seed 1: no checkpoint lies where the limit is known.'
  )


def test_equal_arms_have_equal_shares(tmp_path):
  made = study(tmp_path, hill(0.5), hill(0.5), noise=1.0)
  found = predicates(made.measure('limit', samples))['L2']
  assert found.verdict == UNDECIDED and abs(found.estimate) < 0.05


def test_a_study_without_the_measure_says_nothing_of_a_limit(tmp_path):
  made = study(tmp_path, hill(0.6), hill(0.4))
  assert not {'L', 'L1', 'L2', 'L4'} & predicates(made).keys()
  assert not [f for f in GAP.figures(made.evidence) if 'limit' in f.name]


def test_grey_lines_lie_behind_the_arms_and_end_where_they_are_known(tmp_path):
  made = study(tmp_path, hill(0.6), hill(0.4)).measure('limit', samples)
  figures = {each.name: each for each in GAP.figures(made.evidence)}
  figure = figures['fig1_limit_golden']
  assert list(figures)[:2] == ['fig1', 'fig1_limit_golden']
  limit, proxy, *others = figure.series
  assert limit.role == proxy.role == 'limit'
  assert {each.role for each in others} == {'sft', 'online', 'offline'}
  x, y = np.array(limit.x), np.array(limit.y)
  known = np.isfinite(y)
  assert x[known][-1] <= -np.log(START) < x[~known][0] + 0.2
  expected = [most(kl) for kl in x[known]]
  np.testing.assert_allclose(y[known], expected, atol=0.02)
  assert 'ends at 2.1 nats, where the best samples' in figure.caption
  # A proxy that knows nothing of wins gains none.
  np.testing.assert_allclose(np.array(proxy.y)[:20], START, atol=0.03)


def test_hidden_utility_has_a_figure_and_shares_of_its_own(tmp_path):
  def judged(seed):
    return samples(
      seed,
      truth=samples(seed)['golden'],
      opponent_ids=np.arange(400),
      opponent_utility=np.full(400, 0.5),
    )

  made = study(tmp_path, hill(0.6), hill(0.4), utility=True)
  made.measure('limit', judged)
  figures = {each.name: each for each in GAP.figures(made.evidence)}
  figure = figures['fig1_limit_truth']
  assert [each.kind for each in figure.series[:2]] == ['line', 'line']
  dots = next(each for each in figure.series if each.role == 'online')
  # Utility at a KL is spread evenly within half a unit about it.
  by_kl = dict(zip(np.round(dots.x, 2), dots.y))
  assert by_kl[0.5] == pytest.approx(0.5, abs=0.01) and by_kl[16.0] == 1
  assert 'By hidden utility online has' in predicates(made)['L2'].detail


def test_utilities_of_other_prompts_are_refused(tmp_path):
  def judged(seed):
    return samples(
      seed,
      truth=samples(seed)['golden'],
      opponent_ids=np.arange(300),
      opponent_utility=np.full(300, 0.5),
    )

  made = study(tmp_path, hill(0.6), hill(0.4), utility=True)
  with pytest.raises(InputError, match='other prompts than the samples'):
    GAP.figures(made.measure('limit', judged).evidence)
