import numpy as np
import pytest

from dap import estimators
from dap.errors import InputError
from dap.estimators import Curve
from dap.study.reading import frontiers
from dap.study.reading.evidence import Evidence
from dap.study.reading.runs import Point

IDS = np.arange(40)


def point(folder, kl, wins, arm='online_ipo', seed=0, ids=IDS, repeats=1):
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
    arm,
    seed,
    int(100 * kl),
    lr=1e-3,
    kl_nats=kl,
    win_rate=wins / len(ids),
    per_prompt=name,
  )


def read(folder, *points, arm='online_ipo', setting=None):
  return frontiers.frontiers(Evidence(points, folder, {}), arm, setting)


def test_a_frontier_holds_the_wins_of_each_prompt(tmp_path):
  points = point(tmp_path, 1.0, 30), point(tmp_path, 0.0, 4, 'sft')
  frontier = read(tmp_path, *points)[0]
  assert frontier.points == points[:1]
  assert np.sum(frontier.values) == 30
  assert frontier.values.shape == (1, 40)


def test_several_samples_of_a_prompt_count_as_one(tmp_path):
  once = read(tmp_path, point(tmp_path, 1.0, 30))[0]
  thrice = read(tmp_path, point(tmp_path, 1.0, 30, repeats=3))[0]
  np.testing.assert_array_equal(once.values, thrice.values)


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
  for wins in (30, 20):
    assert np.sum(read(tmp_path, point(tmp_path, 1.0, wins))[0].values) == wins


def test_the_end_is_the_last_step_and_the_farthest_the_largest_kl(tmp_path):
  points = [
    point(tmp_path, 2.0, 1)._replace(step=9),
    point(tmp_path, 3.0, 1)._replace(step=5),
  ]
  frontier = read(tmp_path, *points)[0]
  assert (frontier.end, frontier.farthest) == (0, 1)


def test_a_setting_picks_one_run(tmp_path):
  points = point(tmp_path, 1.0, 1), point(tmp_path, 2.0, 1)._replace(lr=2e-3)
  found = read(tmp_path, *points, setting=(2e-3, None))
  assert found[0].points == points[1:]
  assert not read(tmp_path, *points, arm='offline_ipo')


def test_points_without_arrays_are_left_out(tmp_path):
  assert not read(tmp_path, point(tmp_path, 1.0, 1)._replace(per_prompt=None))


def test_a_band_passes_through_lone_checkpoints_and_breaks_between(tmp_path):
  found = read(tmp_path, point(tmp_path, 0.1, 10), point(tmp_path, 10.0, 20))
  band = frontiers.envelope_band(found, np.random.default_rng(0))
  np.testing.assert_allclose(band.x[[0, -1]], [0.1, 10.0])
  np.testing.assert_allclose(band.win_rate[[0, -1]], [0.25, 0.5])
  assert np.isnan(band.win_rate[len(band.x) // 2])
  assert np.all(band.low[[0, -1]] < band.win_rate[[0, -1]])


def test_the_best_up_to_a_cost_never_falls_as_it_rises(tmp_path):
  wins = {1.0: 10, 2.0: 40, 3.0: 5}
  found = read(tmp_path, *(point(tmp_path, kl, n) for kl, n in wins.items()))
  band = frontiers.envelope_band(
    found, np.random.default_rng(0), windows=frontiers.up_to
  )
  assert np.all(np.diff(band.win_rate) >= 0)
  np.testing.assert_allclose(band.win_rate[[0, -1]], [0.25, 1.0])


def test_no_half_of_the_prompts_judges_its_own_choice():
  # Each half likes another checkpoint; the other half calls both losses.
  curve = Curve(
    np.array([1.0, 1.0]), np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
  )
  windows = np.array([[0.5, 2.0]])
  np.testing.assert_array_equal(
    estimators.crossed_envelope(curve, windows), [[0, 0]]
  )


def test_an_arm_without_a_positive_coordinate_has_no_band(tmp_path):
  found = read(tmp_path, point(tmp_path, 1.0, 10))
  band = frontiers.envelope_band(
    found, np.random.default_rng(0), lambda point: point.sampled_tokens
  )
  assert len(band.x) == 0


def test_checkpoints_asked_other_prompts_are_refused(tmp_path):
  points = point(tmp_path, 1.0, 10), point(tmp_path, 2.0, 10, ids=IDS + 1)
  with pytest.raises(
    InputError, match='online_ipo-0-2.0.npz is about other prompts'
  ):
    read(tmp_path, *points)
