import numpy as np
import pytest
from study.analyses.synthetic import KLS, SETTING, Synthetic, by_name, hill

from dap.study import analyses
from dap.study.reading.evidence import (
  CONTRADICTED,
  NOT_REACHED,
  REPRODUCED,
  UNDECIDED,
)

CLASSIFICATION = analyses.Classification(
  'online_ipo', 'shuffled_ipo', 'offline_ipo', SETTING
)
STEPS = np.arange(10) * 50


def one(made, name):
  return by_name(CLASSIFICATION.predicates(made.evidence))[name]


def answers(accuracies, num_pairs=320, seed=0):
  """[steps, pairs] of right answers, each step at its accuracy."""
  rng = np.random.default_rng(seed)
  ranks = np.stack([rng.permutation(num_pairs) for _ in accuracies])
  return (ranks < num_pairs * np.array(accuracies)[:, None]) * 1.0


def stream(proxy, policy):
  """A measure of the proxy model and two policies along the stream."""

  def of_seed(seed):
    counted = np.ones((10, 320), bool)
    counted[:, ::7] = False  # golden ties
    return {
      'step': STEPS,
      'counted': counted,
      'correct/proxy': answers(proxy, seed=seed),
      'correct/online_ipo': answers([policy] * 10, seed=seed + 10),
      'correct/offline_ipo': answers([policy - 0.1] * 10, seed=seed + 20),
    }

  return of_seed


def along_stream(folder, proxy, policy=0.7):
  made = Synthetic(folder).sft()
  return made.measure('stream_accuracy', stream(proxy, policy))


@pytest.mark.parametrize(
  ('proxy', 'verdict'), [(0.8, REPRODUCED), (0.6, CONTRADICTED)]
)
def test_the_proxy_is_compared_with_the_better_policy(tmp_path, proxy, verdict):
  found = one(along_stream(tmp_path, [proxy] * 10), 'P4a')
  assert found.verdict == verdict
  assert found.estimate == pytest.approx(proxy - 0.7, abs=0.03)


@pytest.mark.parametrize(
  ('last', 'verdict'),
  [(0.6, REPRODUCED), (0.8, UNDECIDED), (0.95, CONTRADICTED)],
)
def test_the_proxy_decays_along_the_stream(tmp_path, last, verdict):
  found = one(along_stream(tmp_path, np.linspace(0.8, last, 10)), 'P4b')
  assert found.verdict == verdict
  # From 0.8 to the last over 450 steps, per 100.
  assert found.estimate == pytest.approx((0.8 - last) / 4.5, abs=0.02)


def policies(folder, noise=0.0, **arms):
  """Runs of (final accuracy on D_golden, final chosen log-ratio)."""
  made = Synthetic(folder, noise=noise).sft()
  for name, (accuracy, chosen) in arms.items():
    made.arm(
      f'{name}_ipo',
      hill(0.5),
      correct=lambda kl, accuracy=accuracy: accuracy,
      chosen=lambda kl, chosen=chosen: chosen * kl / KLS[-1],
    )
  return made


@pytest.mark.parametrize(
  ('online', 'offline', 'verdict'),
  [
    (0.45, 0.8, REPRODUCED),
    (0.8, 0.9, CONTRADICTED),  # online classifies well
    (0.3, 0.4, CONTRADICTED),  # offline does not
    (0.5, 0.6, UNDECIDED),
  ],
)
def test_offline_ends_as_the_better_classifier(
  tmp_path, online, offline, verdict
):
  made = policies(tmp_path, online=(online, -9.0), offline=(offline, -9.0))
  assert one(made, 'P4d').verdict == verdict


@pytest.mark.parametrize(
  ('nats', 'verdict'),
  [
    ((-5.0, -6.0, -9.0), REPRODUCED),
    ((-5.0, -10.0, -9.0), CONTRADICTED),  # offline is not the lowest
    ((1.0, -6.0, -9.0), CONTRADICTED),  # one rises
    ((-5.0, -9.0, -9.0), UNDECIDED),
  ],
)
def test_winners_lose_probability_and_most_offline(tmp_path, nats, verdict):
  arms = dict(zip(('online', 'shuffled', 'offline'), nats))
  made = policies(tmp_path, 1.0, **{arm: (0.6, x) for arm, x in arms.items()})
  found = one(made, 'P4e')
  assert found.verdict == verdict
  assert found.estimate == pytest.approx(nats[2], abs=0.05)


def correlated(folder, offline, others):
  """Runs whose accuracy goes with the win rate by a function of the KL."""
  made = Synthetic(folder, noise=10.0)  # so that ranks scatter
  kls = tuple(np.geomspace(0.5, 16.0, 30))
  for arm in ('online', 'shuffled', 'offline'):
    accuracy = offline if arm == 'offline' else others
    made.arm(
      f'{arm}_ipo',
      lambda kl: 0.1 + 0.1 * np.log(2 * kl),
      kls,
      correct=accuracy,
      chosen=lambda kl: 0.0,
    )
  return made


def test_accuracy_that_rises_with_the_win_rate_contradicts(tmp_path):
  rises = lambda kl: 0.5 + 0.02 * kl
  assert one(correlated(tmp_path, rises, rises), 'P4c').verdict == CONTRADICTED


def test_accuracy_that_falls_with_the_win_rate_says_nothing_of_it(tmp_path):
  falls = lambda kl: 0.9 - 0.02 * kl
  assert one(correlated(tmp_path, falls, falls), 'P4c').verdict == REPRODUCED


def test_few_checkpoints_do_not_show_that_accuracy_says_nothing(tmp_path):
  # The win rate rises and falls while the accuracy rises: no correlation.
  made = Synthetic(tmp_path)
  for arm in CLASSIFICATION.arms:
    rises = lambda kl: 0.5 + 0.01 * kl
    made.arm(arm, hill(0.5, at=2.8), correct=rises, chosen=lambda kl: 0.0)
  assert one(made, 'P4c').verdict == UNDECIDED


def own(accuracy, num_pairs=320):
  def of_seed(seed):
    return {
      'step/online_ipo': np.array([100, 500]),
      'correct/online_ipo': answers([0.5, accuracy], num_pairs, seed),
      'counted/online_ipo': np.ones((2, num_pairs), bool),
    }

  return of_seed


@pytest.mark.parametrize(
  ('accuracy', 'num_pairs', 'verdict'),
  [(0.5, 320, REPRODUCED), (0.7, 320, CONTRADICTED), (0.5, 40, UNDECIDED)],
)
def test_own_pairs_are_classified_at_chance(
  tmp_path, accuracy, num_pairs, verdict
):
  made = Synthetic(tmp_path).sft()
  found = one(made.measure('own_pairs', own(accuracy, num_pairs)), 'P4f')
  assert found.verdict == verdict
  assert found.estimate == pytest.approx(accuracy, abs=0.01)


@pytest.mark.parametrize(
  ('accuracy', 'num_pairs', 'verdict'),
  [
    (0.5, 320, REPRODUCED),
    (0.2, 320, REPRODUCED),  # below chance is no classification either
    (0.7, 320, CONTRADICTED),
    (0.5, 40, UNDECIDED),
  ],
)
def test_own_pairs_are_classified_no_better_than_chance(
  tmp_path, accuracy, num_pairs, verdict
):
  made = Synthetic(tmp_path).sft()
  found = one(made.measure('own_pairs', own(accuracy, num_pairs)), 'P4f-n')
  assert found.verdict == verdict
  assert found.estimate == pytest.approx(max(accuracy, 0.5), abs=0.01)


@pytest.mark.parametrize(
  ('per_nat', 'verdict'),
  [(0.8, CONTRADICTED), (1.3, REPRODUCED)],
)
def test_probability_is_compared_at_equal_kl(tmp_path, per_nat, verdict):
  # The offline run goes twice as far: at its end it has lost more than the
  # online run, whatever it loses a nat.
  made = Synthetic(tmp_path, noise=1.0).sft()
  for arm, kls, lost in (
    ('online_ipo', KLS, 1.0),
    ('shuffled_ipo', KLS, 1.0),
    ('offline_ipo', tuple(2 * kl for kl in KLS), per_nat),
  ):
    made.arm(
      arm,
      hill(0.5),
      kls,
      correct=lambda kl: 0.6,
      chosen=lambda kl, lost=lost: -lost * kl,
    )
  assert one(made, 'P4e').estimate == pytest.approx(-32 * per_nat, rel=0.05)
  found = one(made, 'P4e-k')
  assert found.verdict == verdict
  # Over ten KLs from 1 to 16 nats, whose mean is 5.76.
  assert found.estimate == pytest.approx(5.76 * (per_nat - 1), abs=0.1)


def test_no_correlation_is_beyond_one(tmp_path):
  made = Synthetic(tmp_path, seeds=(0, 1, 2, 3), noise=10.0)
  for arm in CLASSIFICATION.arms:
    rises = lambda kl: 0.5 + 0.02 * kl + 0.05 * np.sin(7 * kl)
    made.arm(arm, lambda kl: 0.1 + 0.2 * np.log(2 * kl), correct=rises,
             chosen=lambda kl: 0.0)  # fmt: skip
  found = one(made, 'P4c')
  assert -1 <= found.low < found.high <= 1


def test_without_measures_and_arms_nothing_is_reached(tmp_path):
  found = CLASSIFICATION.predicates(Synthetic(tmp_path).sft().evidence)
  assert {each.verdict for each in found} == {NOT_REACHED}
  assert not CLASSIFICATION.figures(Synthetic(tmp_path).sft().evidence)


def test_figures_show_classifiers_along_stream_and_training(tmp_path):
  arms = dict.fromkeys(('online', 'shuffled', 'offline'), (0.6, -8.0))
  made = policies(tmp_path, **arms)
  made.measure('stream_accuracy', stream([0.8] * 10, 0.7))
  made.measure('own_pairs', own(0.5))
  figures = {e.name: e for e in CLASSIFICATION.figures(made.evidence)}
  assert list(figures) == [
    'fig6', 'fig7', 'fig8_top', 'fig8_bottom', 'fig8_rejected', 'own_pairs',
  ]  # fmt: skip
  online = figures['fig8_bottom'].series[0]
  assert list(online.x) == [100 * (place + 1) for place in range(len(KLS))]
  np.testing.assert_allclose(online.y, -8 * np.array(KLS) / KLS[-1])
  proxy = figures['fig6'].series[0]
  assert proxy.role == 'proxy'
  assert all(low < 0.8 < high for low, high in zip(proxy.low, proxy.high))
