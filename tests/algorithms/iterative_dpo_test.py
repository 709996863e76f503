import algorithm_laws as laws
import numpy as np
import pytest

RUN = laws.run_of('iterative_dpo', REFRESH_STEPS=3)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('iterative_dpo'))


def test_iterative_dpo_repeats(done, tmp_path):
  laws.repeats(done, tmp_path)


def test_iterative_dpo_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(2, 5))


def test_one_program_serves_a_grid_of_iterative_dpo(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, beta=beta)
    for rate, beta in ((1e-3, 0.1), (1e-2, 0.7))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_the_stream_of_iterative_dpo_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_each_iteration_starts_from_its_own_reference(done):
  for step, line in enumerate(laws.lines(done)):
    fresh = step % 3 == 0
    assert (abs(line['margin']) < 1e-4) is fresh
    if fresh:
      assert line['loss'] == pytest.approx(np.log(2), abs=1e-6)


def test_the_best_of_four_is_chosen_and_the_worst_rejected(done):
  rows = laws.rows(done)
  np.testing.assert_array_equal(rows['policy_step'], rows['step'] // 3 * 3)
  counted = rows['weight'] > 0
  chosen, rejected = rows['scores'][counted].T
  assert np.all(chosen > rejected)
  assert np.all(np.any(rows['chosen'][counted] == 1, axis=1))  # it ended
  assert {*np.unique(rows['candidates'])} == {0, 1, 2, 3}
