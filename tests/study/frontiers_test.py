import numpy as np
import pytest

from dap.errors import InputError
from dap.estimators import statistics
from dap.study import frontiers
from dap.study.points import Point

IDS = np.arange(40)


def point(folder, arm, kl, wins, seed=0, ids=IDS, repeats=1):
  """A checkpoint that wins its first `wins` prompts, `repeats` rows each."""
  name = f'{arm}-{seed}-{kl}.npz'
  each = np.repeat((np.arange(len(ids)) < wins).astype(float), repeats)
  np.savez(
    folder / name,
    prompt_ids=np.repeat(ids, repeats),
    golden_p_ab=each,
    golden_p_ba=1 - each,
  )
  return Point(
    arm,
    f'{arm}_ipo',
    seed,
    int(100 * kl),
    kl_nats=kl,
    win_rate=wins / len(ids),
    per_prompt=name,
  )


def test_curves_hold_the_wins_of_each_prompt(tmp_path):
  found = frontiers.curves(
    [point(tmp_path, 'online', 1.0, 30), point(tmp_path, 'sft', 0.0, 4)],
    tmp_path,
  )
  assert list(found) == ['online']
  curve = found['online'][0]
  assert np.sum(curve.selection_wins) + np.sum(curve.test_wins) == 30
  assert curve.selection_wins.shape[1] + curve.test_wins.shape[1] == 40


def test_several_samples_of_a_prompt_count_as_one(tmp_path):
  once = frontiers.curves([point(tmp_path, 'online', 1.0, 30)], tmp_path)
  thrice = frontiers.curves(
    [point(tmp_path, 'online', 1.0, 30, repeats=3)], tmp_path
  )
  np.testing.assert_array_equal(
    once['online'][0].test_wins, thrice['online'][0].test_wins
  )


def test_the_gap_of_arms_that_differ_on_all_prompts_is_one(tmp_path):
  found = frontiers.curves(
    [
      point(tmp_path, arm, kl, wins, seed)
      for arm, wins in (('online', 40), ('offline', 0))
      for kl in (2.0, 4.0)
      for seed in (0, 1)
    ],
    tmp_path,
  )
  window = statistics.kl_bins((1.0, 3.0))
  gap = frontiers.gap(found, window, np.random.default_rng(0))
  assert gap is not None
  assert (gap.mean, gap.interval.low) == (1.0, 1.0)
  assert gap.num_windows.tolist() == [1, 1]
  assert frontiers.mean_envelope(found, 'online', window) == 1.0
  assert frontiers.mean_envelope(found, 'offline', window) == 0.0


def test_one_arm_alone_has_no_gap(tmp_path):
  found = frontiers.curves([point(tmp_path, 'online', 1.0, 30)], tmp_path)
  assert frontiers.gap(found, np.ones((1, 2)), np.random.default_rng(0)) is None


def test_a_band_passes_through_lone_checkpoints_and_breaks_between(tmp_path):
  found = frontiers.curves(
    [point(tmp_path, 'online', 0.1, 10), point(tmp_path, 'online', 10.0, 20)],
    tmp_path,
  )
  band = frontiers.band(found['online'], np.random.default_rng(0))
  np.testing.assert_allclose(band.kl[[0, -1]], [0.1, 10.0])
  np.testing.assert_allclose(band.win_rate[[0, -1]], [0.25, 0.5])
  assert np.isnan(band.win_rate[len(band.kl) // 2])
  assert np.all(band.low[[0, -1]] < band.win_rate[[0, -1]])


def test_the_peak_is_the_best_checkpoint(tmp_path):
  points = [
    point(tmp_path, 'online', kl, wins)
    for kl, wins in ((1, 10), (2, 40), (3, 9))
  ]
  peak = frontiers.peak(
    frontiers.curves(points, tmp_path)['online'], np.random.default_rng(0)
  )
  assert (peak.win_rate, peak.kl_nats, peak.num_seeds) == (1.0, 2.0, 1)


def test_checkpoints_asked_other_prompts_are_refused(tmp_path):
  points = [
    point(tmp_path, 'online', 1.0, 10),
    point(tmp_path, 'online', 2.0, 10, ids=IDS + 1),
  ]
  with pytest.raises(
    InputError, match='online-0-2.0.npz is about other prompts'
  ):
    frontiers.curves(points, tmp_path)
