import algorithm_laws as laws
import numpy as np
import pytest

from dap import errors

RUN = laws.run_of('rloo')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('rloo'))


def test_rloo_repeats(done, tmp_path):
  laws.repeats(done, tmp_path)


def test_rloo_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(2, 5))


def test_one_program_serves_all_rates_of_rloo(tmp_path):
  runs = [laws.numbers_of(RUN, rate) for rate in (1e-3, 1e-2)]
  laws.one_program_serves(runs, tmp_path)


def test_the_stream_of_rloo_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_rloo_compares_each_response_with_its_siblings(done):
  rows = laws.rows(done)
  assert rows['responses'].shape == (8 * 8, 4, 5)
  advantages = rows['columns/advantages']
  np.testing.assert_allclose(np.sum(advantages, axis=1), 0, atol=1e-5)
  ended = np.any(rows['responses'] == 1, axis=2)
  ratio = np.sum(rows['columns/behaviour'] - rows['columns/reference'], axis=2)
  rewards = np.where(ended, rows['scores'], -1.0) - 0.3 * ratio
  centred = rewards - np.mean(rewards, axis=1, keepdims=True)
  np.testing.assert_allclose(advantages, 4 / 3 * centred, atol=1e-5)


def test_rloo_needs_siblings(tmp_path):
  with pytest.raises(errors.InputError, match='raise num_samples'):
    laws.fit(laws.run_of('rloo', NUM_SAMPLES=1), tmp_path)
