import algorithm_laws as laws
import numpy as np
import pytest
import tiny

from dap import losses

RUN = laws.run_of('best_of_four')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('best_of_four'))


def test_best_of_four_repeats(done, tmp_path):
  laws.repeats(done, tmp_path)


def test_best_of_four_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(2, 5))


def test_one_program_serves_all_rates_of_best_of_four(tmp_path):
  runs = [laws.numbers_of(RUN, rate) for rate in (1e-3, 1e-2)]
  laws.one_program_serves(runs, tmp_path)


def test_the_stream_of_best_of_four_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_what_is_learnt_ended_and_was_one_of_four(done):
  rows = laws.rows(done)
  assert rows['responses'].shape == (8 * 8, 1, tiny.LENGTH)
  assert {*np.unique(rows['candidates'])} <= {0, 1, 2, 3}
  counted = rows['weight'] > 0
  ended = np.any(rows['responses'] == 1, axis=(1, 2))
  np.testing.assert_array_equal(ended[counted], True)
  assert np.any(counted)
  # Four responses were drawn for each that is kept.
  assert np.all(rows['sampled_tokens'] >= np.sum(rows['mask'], axis=(1, 2)))


def test_best_of_four_needs_no_reference():
  assert not RUN.algorithm.needs_reference
  assert RUN.algorithm.loss.function is losses.supervised_loss
