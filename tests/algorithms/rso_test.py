import algorithm_laws as laws
import numpy as np
import pytest

RUN = laws.run_of('rso', NUM_SAMPLES=6, NUM_KEPT=2, REJECTION_TEMPERATURE=0.1)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('rso'))


def test_rso_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(5,))


def test_the_stream_of_rso_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_one_program_serves_a_grid_of_rso(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, beta=number)
    for rate, number in ((1e-3, 0.1), (1e-2, 0.7))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_rso_keeps_responses_that_differ(done):
  rows = laws.rows(done)
  one, other = rows['candidates'].T
  assert np.all((one != other)[rows['weight'] > 0])
  assert {*np.unique(rows['candidates'])} == {*range(6)}
