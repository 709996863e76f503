import algorithm_laws as laws
import numpy as np
import pytest

RUN = laws.run_of('spin', REFRESH_STEPS=3)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  return laws.done(RUN, tmp_path_factory.mktemp('spin'))


def test_spin_survives_kills(done, tmp_path):
  laws.survives_kills(done, tmp_path, kills=(5,))


def test_the_stream_of_spin_repeats_it(done, tmp_path):
  laws.replay_repeats(done, tmp_path)


def test_one_program_serves_a_grid_of_spin(tmp_path):
  runs = [
    laws.numbers_of(RUN, rate, beta=number)
    for rate, number in ((1e-3, 0.1), (1e-2, 0.7))
  ]
  laws.one_program_serves(runs, tmp_path)


def test_the_data_stand_before_the_samples(done):
  laws.data_stand_first(done)


def test_each_iteration_of_spin_starts_at_log_two(done):
  for step, line in enumerate(laws.lines(done)):
    if step % 3 == 0:
      assert line['loss'] == pytest.approx(np.log(2), abs=1e-6)
